#!/bin/sh
# On a hybrid cgroup machine crun refuses to run while the v2 mount still has a controller. For CI and benches of ours only:
# mounts that one controller (hugetlb) as v1, which satisfies crun. Does nothing elsewhere; never run by ebb itself.
set -eu
controllers=/sys/fs/cgroup/unified/cgroup.controllers
if [ "$(id -u)" = 0 ] && grep -qw hugetlb "$controllers" 2>/dev/null; then
  mkdir -p /sys/fs/cgroup/hugetlb
  mount -t cgroup -o hugetlb none /sys/fs/cgroup/hugetlb
fi

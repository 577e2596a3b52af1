#!/bin/sh
# What a developer of ebb runs: check, test, soak, bench, format, generate. Sets up by itself.
set -eu
root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
cd "$root"
"$root/tools/setup.sh" test
case "$(uname -m)" in aarch64) arch=arm64 ;; *) arch=x64 ;; esac
node="$root/node_modules/node-linux-$arch/bin/node"
PATH="$root/node_modules/node-linux-$arch/bin:$root/node_modules/.bin:$PATH:/usr/sbin:/sbin"
export PATH
flags="--experimental-ffi --disable-warning=ExperimentalWarning"

# Types are checked by the linter, which has read the whole program anyway: tsc would read it once more.
check() {
  oxfmt --check . && oxlint --type-aware --type-check . && "$node" tools/generate.ts --check
}

# The tests' processes and their threads are hundreds: each takes its compiled code from where the launcher keeps it (see there).
cache=${XDG_CACHE_HOME:-${HOME:-}/.cache}
case $cache in /.cache) ;; *) export NODE_COMPILE_CACHE="${NODE_COMPILE_CACHE:-$cache/ebb}" ;; esac

verb=${1:-}
[ $# -eq 0 ] || shift
case "$verb" in
  check) check ;;
  # shellcheck disable=SC2086 # a list of flags
  test) check && exec "$node" $flags tools/test.ts ;;
  # shellcheck disable=SC2086
  soak) exec "$node" $flags --test --test-concurrency=1 "src/**/*.soak.ts" "runtimes/**/*.soak.ts" "test/**/*.soak.ts" ;;
  # The client shares the cores with what it measures: its collector has one helper.
  # shellcheck disable=SC2086
  bench) exec "$node" $flags --v8-pool-size=1 bench/bench.ts "$@" ;;
  format) exec oxfmt . ;;
  generate) exec "$node" tools/generate.ts ;;
  *) echo "usage: tools/dev.sh check|test|soak|bench|format|generate" >&2; exit 2 ;;
esac

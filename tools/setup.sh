#!/bin/sh
# Set-up of a bare machine, with progress: `packages` (npm's), `machine` (Debian's: engine, firewall, links), `test` (what the tests need besides).
set -eu
root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
cd "$root"

say() { printf 'ebb set-up: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# Says every few seconds that it goes on, and how far it is, until this script ends or `progress_ends`.
progress() {
  # The last pause must hold nothing open: neither a pipe that somebody reads to its end, nor the lock.
  while sleep 5 <&- >&- 2>&- 9<&- && kill -0 $$ 2>/dev/null; do say "… $("$@")"; done &
  progress_pid=$!
}
progress_ends() { kill "$progress_pid" 2>/dev/null || true; }
megabytes_here() { printf '%s of about 350 MB' "$(du -sm node_modules 2>/dev/null | cut -f1)"; }

npm_packages() {
  # Two set-ups at once would take the folder from each other; the second waits, and finds nothing left to do.
  if command -v flock >/dev/null 2>&1; then
    exec 9<"$root"
    flock -n 9 || { say "another set-up is running here; waiting for it …"; flock 9; }
  fi
  # npm writes this file when all packages are there.
  [ node_modules/.package-lock.json -nt package-lock.json ] || npm_ci
  pinned_node_runs
  # Of what comes as hundreds of files one each: a start reads them all (docs/decisions/packages.md). Without it all works, slower.
  "$node" --disable-warning=ExperimentalWarning tools/bundle.ts >/dev/null || say "the packages are loaded file by file, for the reason above."
  : >node_modules/.ebb-stamp
}

# As the launcher asks.
packages_stand() {
  stamp=node_modules/.ebb-stamp
  [ -e "$stamp" ] && [ ! package-lock.json -nt "$stamp" ] && [ ! tools/bundle.ts -nt "$stamp" ]
}

npm_ci() {
  command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 ||
    fail "npm is missing. It comes with Node 20 or later (Debian 13: apt-get install nodejs npm; others: https://nodejs.org/en/download); then try again."
  say "npm packages and the pinned Node (about 350 MB on disk, a minute or two) …"
  progress megabytes_here
  # No install script of any package is run: none of ours needs one.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --no-update-notifier || {
    progress_ends
    fail "npm ci failed, for the reason above. When that is mended (is there a network?), try again."
  }
  progress_ends
  say "npm packages: done"
}

# It is linked to libatomic, which a small system lacks.
pinned_node_runs() {
  for node in node_modules/node-linux-*/bin/node node_modules/node-bin-darwin-*/bin/node; do [ ! -x "$node" ] || break; done
  words=$("$node" --version 2>&1) && return 0
  case $words in
    *libatomic*) install_debian libatomic1; words=$("$node" --version 2>&1) && return 0 ;;
  esac
  fail "the pinned Node does not run here: $words"
}

# missing COMMAND-OR-FILE PACKAGE: names the package when the thing is not there.
missing() {
  case "$1" in
    /*) [ -e "$1" ] || printf '%s ' "$2" ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || printf '%s ' "$2" ;;
  esac
}

machine_packages() {
  [ "$(uname -s)" = Linux ] || return 0
  wanted="$(missing crun crun)$(missing runc runc)$(missing nft nftables)$(missing ip iproute2)$(missing /usr/bin/python3 python3)"
  [ -e /etc/ssl/certs/ca-certificates.crt ] || wanted="$wanted ca-certificates"
  [ -d /usr/share/zoneinfo/Europe ] || wanted="$wanted tzdata"
  # Images of containers: pulled by skopeo, built by buildah.
  wanted="$wanted $(missing skopeo skopeo)$(missing buildah buildah)"
  # Not ebb's need but its user's: README's first commands are typed with it.
  install_debian "$wanted $(missing curl curl)"
}

# What the tests start for themselves: gVisor, proxies in front, a registry, a database behind, a shell for images without a system, git for what
# is checked, what reads the PDF and the films that examples make, sysctl and ps to look at the machine.
test_packages() {
  install_debian "$(missing runsc runsc)$(missing docker-registry docker-registry)$(missing busybox busybox-static)$(missing nginx nginx-light)$(missing caddy caddy)$(missing git git)$(missing pdftotext poppler-utils)$(missing ffmpeg ffmpeg)$(missing sysctl procps)$(missing /usr/lib/postgresql postgresql)"
}

# What cannot be installed ends nothing here: `ebb up` and `ebb doctor` say what they cannot do without.
install_debian() {
  # shellcheck disable=SC2086 # a list of package names
  set -- $1
  [ $# -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    say "missing: $*. Install them with this system's package manager; ./ebb doctor says what is still not there."
    return 0
  fi
  as_root=
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1 || [ ! -t 0 ]; then
      say "missing: $*. As root: apt-get update && apt-get install -y $*"
      return 0
    fi
    printf 'ebb set-up: install %s with sudo apt-get? [Y/n] ' "$*"
    read -r answer
    case "$answer" in [nN]*) return 0 ;; esac
    as_root=sudo
  fi
  say "Debian packages: $* …"
  log=$(mktemp)
  progress last_line_of "$log"
  if apt_install "$@"; then
    say "Debian packages: done"
  else
    # A package list that is old, or (on a new machine) not there yet.
    say "refreshing the package lists …"
    apt update || true
    if apt_install "$@"; then
      say "Debian packages: done"
    else
      grep -E '^(E|W): ' "$log" | sort -u | head -n 5 >&2
      say "could not install $*, for the reason above. When that is mended (is there a network?), try again."
    fi
  fi
  progress_ends
  rm -f "$log"
}

# A new machine updates itself in its first minutes: that lock is waited for. RUNLEVEL=1 keeps invoke-rc.d from starting the
# services of nginx, caddy and PostgreSQL: the tests start their own.
apt() { $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1 </dev/null; }
apt_install() { apt install -y --no-install-recommends "$@"; }
last_line_of() { tail -n 1 "$1" 2>/dev/null | tr -d '\r' | cut -c1-100; }

case "${1:-}" in
  packages) npm_packages ;;
  machine) machine_packages ;;
  test) packages_stand || npm_packages; machine_packages; test_packages ;;
  *) fail "usage: tools/setup.sh packages|machine|test" ;;
esac

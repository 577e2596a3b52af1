#!/bin/sh
# Set-up of a bare machine, with progress: `packages` (npm's), `machine` (Debian's: engine, firewall, links), `test` (what the tests need besides).
set -eu
root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
cd "$root"

say() { printf 'ebb set-up: %s\n' "$*"; }
fail() { printf 'ebb set-up: %s\n' "$*" >&2; exit 1; }

npm_packages() {
  command -v npm >/dev/null 2>&1 || fail "npm is missing. Install Node 20 or later with npm (Debian: apt-get install nodejs npm), then try again."
  say "npm packages and the pinned Node (about 350 MB on disk, a minute or two) …"
  # No install script of any package is run: none of ours needs one.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --no-update-notifier ||
    fail "npm ci failed (above). With a network, try again: ./ebb"
  : >node_modules/.ebb-stamp
  say "npm packages: done"
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
  ldconfig -p 2>/dev/null | grep -q libatomic.so.1 || wanted="$wanted libatomic1"
  [ -e /etc/ssl/certs/ca-certificates.crt ] || wanted="$wanted ca-certificates"
  [ -d /usr/share/zoneinfo/Europe ] || wanted="$wanted tzdata"
  install_debian "$wanted"
}

# What the tests start for themselves: proxies in front, a static busybox, a browser comes with the console.
test_packages() {
  install_debian "$(missing nginx nginx-light)$(missing caddy caddy)$(missing curl curl)"
}

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
      say "missing: $*. As root: apt-get install $*"
      return 0
    fi
    printf 'ebb set-up: install %s with sudo apt-get? [Y/n] ' "$*"
    read -r answer
    case "$answer" in [nN]*) return 0 ;; esac
    as_root=sudo
  fi
  say "Debian packages: $* …"
  # RUNLEVEL=1 keeps invoke-rc.d from starting the services of nginx and caddy: the tests start their own.
  log=$(mktemp)
  apt_install() { $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; }
  if ! apt_install "$@"; then
    # A package list that is old, or (on a new machine) not there yet.
    say "refreshing the package lists …"
    $as_root apt-get update >>"$log" 2>&1 || true
    apt_install "$@" || { tail -n 5 "$log" >&2; rm -f "$log"; fail "apt-get install $* failed (above)"; }
  fi
  rm -f "$log"
  say "Debian packages: done"
}

case "${1:-}" in
  packages) npm_packages ;;
  machine) machine_packages ;;
  test) [ -e node_modules/.ebb-stamp ] && [ ! package-lock.json -nt node_modules/.ebb-stamp ] || npm_packages; machine_packages; test_packages ;;
  *) fail "usage: tools/setup.sh packages|machine|test" ;;
esac

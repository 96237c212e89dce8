# shellcheck shell=bash
# What the scripts need of the machine. Sourced, never run. Each function checks first, says what it is about to change, changes nothing that is there
# already, and ends the script with what is missing and what to do when it can't help.

# The project's folder.
# shellcheck disable=SC2034 # the scripts use it
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# say prints a line of the scripts' own, apart from what the tools print.
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# die prints why the script can't go on, and ends it.
die() {
  printf '\033[1;31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

# have tells whether every one of the commands is on the PATH.
have() {
  local name
  for name; do command -v "$name" >/dev/null || return 1; done
}

# as_root runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "'$*' needs root, and there is no sudo: run this script as root, or install sudo"
  fi
}

# apt_update fetches the package lists, once a script.
apt_updated=
apt_update() {
  [ -z "$apt_updated" ] || return 0
  have apt-get || die "$* is missing, and this is no Debian or Ubuntu (no apt-get): install it, then run this again"
  say "fetching the package lists (for: $*)"
  as_root apt-get update -qq || die "apt-get update failed: is the network up?"
  apt_updated=yes
}

# ensure_packages installs the Debian packages among its arguments that aren't.
ensure_packages() {
  local package missing=()
  for package; do
    [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = 'install ok installed' ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  apt_update "${missing[@]}"
  say "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get install ${missing[*]} failed (its output is above)"
}

# ensure_commands installs a package for each missing command. Arguments: COMMAND=PACKAGE …
ensure_commands() {
  local pair
  for pair; do
    have "${pair%%=*}" || ensure_packages "${pair#*=}"
    have "${pair%%=*}" || die "package ${pair#*=} is installed, yet there is no ${pair%%=*} on the PATH ($PATH)"
  done
}

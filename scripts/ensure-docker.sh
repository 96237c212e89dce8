# shellcheck shell=bash
# A docker daemon that answers. Sourced after ensure.sh, never run.

: "${root:?}"

# ensure_docker makes sure that the docker command is there and that a daemon answers it: the one of DOCKER_HOST, the machine's, or one that it starts.
# Its arguments are the script's own, for where the script has to be started anew with the daemon's group (see join_docker_group).
ensure_docker() {
  # Debian 13 has the command in a package of its own; in Debian 12 it is part of the daemon's.
  if ! have docker; then
    apt_update docker
    if apt-cache show docker-cli >/dev/null 2>&1; then ensure_packages docker-cli; else ensure_packages docker.io; fi
    hash -r
  fi
  ! docker_answers || return 0

  if [ -n "${DOCKER_HOST:-}" ]; then
    docker version >/dev/null || true
    die "no docker daemon answers at DOCKER_HOST=$DOCKER_HOST: start it, or unset DOCKER_HOST to use this machine's"
  fi
  join_docker_group "$@"
  start_docker "$@"
}

docker_answers() { docker version >/dev/null 2>&1; }

# join_docker_group handles a daemon that answers root but not this user: the script starts again with the group of the socket, for this one run; no
# account is changed.
join_docker_group() {
  local socket=/var/run/docker.sock group
  [ -S "$socket" ] && [ ! -w "$socket" ] || return 0
  group=$(stat -c %G "$socket")
  [ -z "${ENSURE_DOCKER_AGAIN:-}" ] || die "$(id -un) may not use $socket (group $group): run this as root, or 'sudo usermod -aG $group $(id -un)' and log in again"
  have sudo || die "$(id -un) may not use $socket (group $group), and there is no sudo: run this as root, or have root add you to the group"
  say "$(id -un) isn't in the group $group of $socket: starting again with it (sudo -g $group)"
  exec sudo -E -u "$(id -un)" -g "$group" -- env PATH="$PATH" HOME="$HOME" ENSURE_DOCKER_AGAIN=yes "$root/scripts/${0##*/}" "$@"
}

# start_docker starts a dockerd in the background that outlives the script, as there may be no systemd to do so, and waits until it answers.
start_docker() {
  local log=/var/log/dockerd.log waited pid pidfile
  # A daemon isn't on every user's PATH.
  if ! PATH=$PATH:/usr/sbin:/sbin have dockerd; then
    ensure_packages docker.io
    # Without its parser a daemon can start no container on a kernel with AppArmor.
    if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then ensure_packages apparmor; fi
  fi
  # The package's own service may be starting by now; it also may be a daemon that is just slow.
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker || true
  fi
  for ((waited = 0; waited < 10; waited++)); do
    ! docker_answers || return 0
    join_docker_group "$@"
    [ -d /run/systemd/system ] || [ -S /var/run/docker.sock ] || break
    sleep 1
  done

  say "no docker daemon answers: starting dockerd (log: $log)"
  pidfile=$(mktemp)
  # shellcheck disable=SC2016 # root's shell is to expand these
  as_root sh -c 'PATH=$PATH:/usr/sbin:/sbin; setsid dockerd >>"$1" 2>&1 </dev/null 8>&- 9>&- & echo $! >"$2"' sh "$log" "$pidfile"
  pid=$(cat "$pidfile")
  rm -f "$pidfile"
  for ((waited = 0; waited < 60; waited++)); do
    if docker_answers; then
      say "dockerd answers"
      return 0
    fi
    join_docker_group "$@"
    [ -d "/proc/$pid" ] || break
    sleep 1
  done
  as_root tail -n 15 "$log" >&2 || true
  die "dockerd doesn't answer; the last lines of its log, $log, are above"
}

#!/bin/sh
# Stands in for plugins/docker: does with the docker command line what that plugin's documentation says of its settings (https://plugins.drone.io/plugins/docker), as far as
# tests need it. It starts no daemon: told to, it fails, as the plugin does where it isn't privileged.
set -eu
if [ "${PLUGIN_DAEMON_OFF:-false}" != true ]; then
  echo "this plugin starts a docker daemon of its own, which needs privilege" >&2
  exit 1
fi
tries=0
until docker info >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 15 ] || { echo "there is no docker daemon to use" >&2; docker info; exit 1; }
  sleep 1
done
export DOCKER_BUILDKIT=0
[ -z "${PLUGIN_PASSWORD:-}" ] || echo "$PLUGIN_PASSWORD" | docker login -u "${PLUGIN_USERNAME:-}" --password-stdin "${PLUGIN_REGISTRY:-}"
docker version
docker info >/dev/null

# of LIST prints the items of a setting, one a line.
of() { echo "$1" | tr , '\n' | sed '/^$/d'; }

set -- build --rm=true -f "${PLUGIN_DOCKERFILE:-Dockerfile}" -t "$DRONE_COMMIT_SHA"
for item in $(of "${PLUGIN_BUILD_ARGS:-}"); do set -- "$@" --build-arg "$item"; done
for item in $(of "${PLUGIN_CACHE_FROM:-}"); do docker pull "$item" || true; set -- "$@" --cache-from "$item"; done
[ -z "${PLUGIN_TARGET:-}" ] || set -- "$@" --target "$PLUGIN_TARGET"
[ "${PLUGIN_PULL_IMAGE:-false}" != true ] || set -- "$@" --pull=true
docker "$@" "${PLUGIN_CONTEXT:-.}"

tags=${PLUGIN_TAGS:-latest}
if [ "${PLUGIN_AUTO_TAG:-false}" = true ] && [ -n "${DRONE_TAG:-}" ]; then
  tags=${DRONE_TAG#v}
fi
suffix=${PLUGIN_AUTO_TAG_SUFFIX:-}
for tag in $(of "$tags"); do
  docker tag "$DRONE_COMMIT_SHA" "$PLUGIN_REPO:$tag${suffix:+-$suffix}"
  [ "${PLUGIN_DRY_RUN:-false}" = true ] || docker push "$PLUGIN_REPO:$tag${suffix:+-$suffix}"
done
if [ "${PLUGIN_PURGE:-true}" = true ]; then
  docker rmi "$DRONE_COMMIT_SHA"
  docker system prune -f
fi

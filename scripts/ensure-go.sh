# shellcheck shell=bash
# The Go that go.mod asks for. Sourced after ensure.sh, never run.

: "${root:?}"

# ensure_go puts a go command on the PATH that builds this module: the one that is there, the one of /usr/local/go, or the toolchain that an older go command
# can fetch, Debian's if there is none.
ensure_go() {
  local wanted go fetched
  wanted=$(awk '$1 == "go" { print $2 }' "$root/go.mod")
  for go in "$(command -v go || true)" /usr/local/go/bin/go; do
    if [ -n "$go" ] && go_is "$go" "$wanted"; then
      use_go "$go"
      return
    fi
  done

  if ! have go && [ ! -x /usr/local/go/bin/go ]; then ensure_packages golang-go; fi
  go=$(command -v go || echo /usr/local/go/bin/go)
  say "$(cd / && GOTOOLCHAIN=local "$go" env GOVERSION) is older than the $wanted of go.mod: taking go$wanted as a module"
  if ! { fetched=$(fetch_go "$go" "$wanted") && go_is "$fetched" "$wanted"; }; then
    die "go$wanted can't be fetched from $("$go" env GOPROXY) (the reason is above): install Go $wanted or newer from https://go.dev/dl/ to /usr/local/go, then run this again"
  fi
  use_go "$fetched"
}

# go_is tells whether the go command is of that version or a newer one.
go_is() {
  local have
  have=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
  have=${have#go}
  [ "$(printf '%s\n' "$2" "${have%%[- ]*}" | sort -V | head -n 1)" = "$2" ]
}

# fetch_go downloads a toolchain as Go 1.21 and newer do by themselves, as a module that is checked against Go's checksum database, and prints the path of its
# go command. It works with an older go too.
fetch_go() {
  local dir empty module
  module=golang.org/toolchain@v0.0.1-go$2.$("$1" env GOOS)-$("$1" env GOARCH)
  empty=$(mktemp -d)
  dir=$(cd "$empty" && GOTOOLCHAIN=local GOFLAGS=-mod=mod "$1" mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
  rm -rf "$empty"
  [ -n "$dir" ] || return 1
  # A module's files aren't executable.
  find "$dir/bin" "$dir/pkg/tool" -type f ! -perm -u+x -exec chmod a+x {} +
  echo "$dir/bin/go"
}

use_go() {
  PATH=$(dirname "$1"):$PATH
  export PATH GOTOOLCHAIN=local
  hash -r
}

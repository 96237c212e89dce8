//go:build !unit

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// TestDaemonDocker has a server's repositories use Docker: one that nobody trusts by a plugin of
// the operator's, a trusted one by a service.
func TestDaemonDocker(t *testing.T) {
	t.Parallel()
	name, tag := "standin/builder-"+unique("test"), ":1"
	standin.Plugin(t, name+tag)
	r := newRunner(t, "DRONE_RUNNER_DOCKER_PLUGINS=docker.io/"+name)

	plugin := strings.NewReplacer("BUILDER", name+tag).Replace(`
kind: pipeline
name: default
clone: {disable: true}
steps:
- {name: write, image: IMAGE, commands: ["echo 'FROM IMAGE' >Dockerfile"]}
- {name: publish, image: BUILDER, pull: never, settings: {repo: octo/app, dry_run: true}}
`)
	result := r.build(t, rpctest.Build{YAML: plugin})
	if got := states(result); !slices.Equal(got, []string{"default: success 0", "  write: success 0", "  publish: success 0"}) {
		t.Errorf("%q\n%s", got, result.Step("publish").Text())
	}

	dind := strings.NewReplacer("DOCKER", standin.Image(t, "docker")).Replace(`
kind: pipeline
name: default
clone: {disable: true}
services:
- {name: docker, image: "docker:dind", privileged: true, volumes: [{name: run, path: /var/run}]}
steps:
- {name: use, image: DOCKER, commands: [docker run --rm IMAGE echo from a container], volumes: [{name: run, path: /var/run}]}
volumes:
- {name: run, temp: {}}
`)
	result = r.build(t, rpctest.Build{YAML: dind, Trusted: true})
	if got := states(result); !slices.Equal(got, []string{"default: success 0", "  docker: success 0", "  use: success 0"}) {
		t.Errorf("%q\n%s", got, result.Step("use").Text())
	}
	if got := result.Step("docker").Text(); !strings.Contains(got, said) || strings.Contains(got, "unprivileged") {
		t.Errorf("the service's log is %q", got)
	}
	if got := result.Step("use").Text(); !strings.Contains(got, "from a container") {
		t.Errorf("the step's log is %q", got)
	}

	result = r.build(t, rpctest.Build{YAML: dind})
	if got := states(result); len(got) == 0 || !strings.HasPrefix(got[0], "default: error") {
		t.Errorf("a privileged service in a repository that isn't trusted: %q", got)
	}
	r.drain(t)
}

//go:build !unit

package docker_test

import (
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// What takes all that it can get: processes in a step and in what it runs, memory in the same and
// in a build's RUN.
const greedy = `
kind: pipeline
name: default
clone: {disable: true}
steps:
- name: bomb
  image: standin/busybox:1
  pull: never
  failure: ignore
  commands:
  - bomb() { bomb | bomb & }; bomb; sleep 5
- name: hog
  image: standin/busybox:1
  pull: never
  failure: ignore
  commands:
  - tail /dev/zero
- name: through-docker
  image: standin/docker:1
  pull: never
  failure: ignore
  volumes: [{name: docker, path: /var/run/docker.sock}]
  commands:
  - docker run --rm standin/busybox:1 sh -c 'bomb() { bomb | bomb & }; bomb; sleep 5' || true
  - docker run --rm standin/busybox:1 tail /dev/zero || true
  - printf 'FROM standin/busybox:1\nRUN tail /dev/zero || true\n' | DOCKER_BUILDKIT=0 docker build --no-cache - || true
  - echo still here
- name: after
  image: standin/busybox:1
  pull: never
  commands:
  - echo alive
volumes: [{name: docker, host: {path: /var/run/docker.sock}}]
`

// A build that takes all processes and all memory takes its own: the runner and its daemon live,
// and the builds beside it pass.
func TestGreedyBuilds(t *testing.T) {
	server := droneServer(t)
	// Bounds of the system container itself, so that the machine is spared.
	s := start(t, server, "--memory", "768m", "--pids-limit", "3000", "-e", "DRONE_RUNNER_PIDS_LIMIT=256", "-e", "DRONE_RUNNER_CAPACITY=2")
	s.polling(t, server, s.began)
	s.load(t, "busybox", "docker")
	daemons := func() string {
		return s.exec(t, "sh", "-c", `for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in dockerd | containerd | drone-runner-sy*) echo "$(cat $p/comm) ${p#/proc/}" ;; esac; done | sort`)
	}
	before := daemons()
	bad := server.Enqueue(rpctest.Build{YAML: greedy, Trusted: true})
	beside := build(t, server, passing)
	if got := beside.Stages[0].Status; got != "success" {
		t.Errorf("the build beside it is %s: %s", got, beside.Stages[0].Error)
	}
	result := wait(t, server, bad)
	if got := result.Step("after"); got == nil || got.Status != "success" || !strings.Contains(result.Step("through-docker").Text(), "still here") {
		t.Errorf("the build is %s:\n%s", result.Stages[0].Status, result.Step("through-docker").Text())
	}
	if hog := result.Step("hog"); hog.ExitCode != 137 {
		t.Errorf("the hog has ended with %d", hog.ExitCode)
	}
	if after := daemons(); after != before {
		t.Errorf("processes of the runner's have died: before\n%s\nafter\n%s", before, after)
	}
	s.empty(t)
}

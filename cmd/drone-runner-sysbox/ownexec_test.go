//go:build !unit

package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
)

// The project's own exec builds the project by its own pipeline, with the Go that runs the tests.
func TestOwnPipelineRuns(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	paths := strings.Fields(string(out))
	image := standin.Image(t, "busybox")
	r := (call{dir: "../..", args: []string{
		"exec", "--pipeline", "test", "--include", "build",
		"--volume", paths[0] + ":/usr/local/go:ro", "--volume", paths[1] + ":/go/mod:ro", "--volume", paths[2] + ":/go/cache",
		"--env", "PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"--env", "GOMODCACHE=/go/mod", "--env", "GOCACHE=/go/cache", "--env", "GOFLAGS=-mod=mod", "--env", "GOPROXY=off",
		"--env", "GOTOOLCHAIN=local", "--env", "CI_IMAGE=" + image, ".drone.yml",
	}}).run(t)
	r.expect(t, 0, "build")
}

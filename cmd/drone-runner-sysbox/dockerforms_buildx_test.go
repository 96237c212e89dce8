//go:build !unit

package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// TestBuildxForm has a pipeline create a builder at the daemon's socket, as some do beside a
// docker:dind service: the builder would be a privileged container. BuildKit builds all the same,
// in the daemon.
func TestBuildxForm(t *testing.T) {
	t.Parallel()
	clients := clientFolder(t)
	yaml := strings.NewReplacer("DOCKER", standin.Image(t, "docker"), "REGISTRY", loopbackRegistry(t)).Replace(`
kind: pipeline
name: default
services:
- name: docker
  image: docker:dind
  privileged: true
  volumes: [{name: run, path: /var/run}]
steps:
- name: buildx
  image: DOCKER
  pull: never
  commands:
  - cp -r /clients/libraries/. /
  - mkdir -p ~/.docker && cp -r /clients/cli-plugins ~/.docker/
  - docker buildx create --use --name mine unix:///var/outer-run/docker.sock
  - docker buildx inspect --bootstrap
  - docker buildx build --push -t REGISTRY/octo/app:1 .
  - docker run --rm REGISTRY/octo/app:1
  volumes: [{name: run, path: /var/outer-run}]
volumes:
- {name: run, temp: {medium: memory}}
`)
	newJob(t, map[string]string{"Dockerfile": appFile, ".drone.yml": yaml}, "--trusted", "--volume", clients+":/clients:ro").
		run(t).expect(t, 0, "buildx | hello from the image\n", "pipeline default: success")
}

// clientFolder is where scripts/clients has put docker's buildx, and what it is linked to.
func clientFolder(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../scripts/clients")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("get docker's buildx: %v\n%s", err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// TestDaemonCacheMounts: what an image build keeps in a cache mount is there for the repository's
// next build, and neither for its pull requests nor for another repository.
func TestDaemonCacheMounts(t *testing.T) {
	t.Parallel()
	r := newRunner(t, "DRONE_RUNNER_VOLUMES="+clientFolder(t)+":/clients:ro,/var/run/docker.sock:/var/run/docker.sock")
	id := unique("cache")
	for _, row := range []struct {
		build rpctest.Build
		who   string
		want  string
	}{
		{rpctest.Build{}, "first", "first"},
		{rpctest.Build{}, "second", "first second"},
		{rpctest.Build{Event: "pull_request"}, "stranger", "stranger"},
		{rpctest.Build{Slug: "octo/other"}, "neighbour", "neighbour"},
		{rpctest.Build{}, "third", "first second third"},
		{rpctest.Build{Event: "pull_request"}, "next", "stranger next"},
	} {
		row.build.YAML = strings.NewReplacer("DOCKER", standin.Image(t, "docker"), "ID", id, "WHO", row.who).Replace(`
kind: pipeline
name: default
clone: {disable: true}
steps:
- name: build
  image: DOCKER
  pull: never
  commands:
  - cp -r /clients/libraries/. /
  - mkdir -p ~/.docker && cp -r /clients/cli-plugins ~/.docker/
  - printf 'FROM IMAGE\nRUN --mount=type=cache,id=ID,target=/cache echo WHO >>/cache/log; cp /cache/log /log\n' | docker buildx build -q -t seen -
  - echo "found:" $(docker run --rm seen cat /log)
`)
		result := r.build(t, row.build)
		if log := result.Step("build").Text(); !strings.Contains(log, "\nfound: "+row.want+"\n") {
			t.Errorf("%s %s finds something else than %q:\n%s", row.build.Slug, row.build.Event, row.want, log)
		}
	}
	r.drain(t)
}

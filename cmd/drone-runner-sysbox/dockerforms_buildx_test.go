package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
)

// TestBuildxForm has a pipeline create a builder at the daemon's socket, as some do beside a docker:dind service: the builder would be a privileged container. BuildKit builds
// all the same, in the daemon.
func TestBuildxForm(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "../../scripts/clients")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	clients, err := cmd.Output()
	if err != nil {
		t.Fatalf("get docker's buildx: %v\n%s", err, errs.String())
	}
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
	newJob(t, map[string]string{"Dockerfile": appFile, ".drone.yml": yaml}, "--trusted", "--volume", strings.TrimSpace(string(clients))+":/clients:ro").
		run(t).expect(t, 0, "buildx | hello from the image\n", "pipeline default: success")
}

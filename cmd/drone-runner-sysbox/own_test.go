package main

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// The project's own pipelines have no finding, not even a warning.
func TestOwnPipelinesAreClean(t *testing.T) {
	t.Parallel()
	if r := (call{dir: "../..", args: []string{"lint", ".drone.yml", "examples/demo/.drone.yml"}}).run(t); r.code != 0 || r.stdout != "" {
		t.Errorf("findings: %s", r)
	}
}

// A tag is tested, and then released for two architectures, with SBOMs and signatures.
func TestOwnReleaseCompiles(t *testing.T) {
	t.Parallel()
	r := (call{dir: "../..", args: []string{"compile", "--event", "tag", "--ref", "refs/tags/v1.2.0", ".drone.yml"}}).run(t)
	r.expect(t, 0)
	steps := map[string][]string{}
	commands := ""
	for dec := json.NewDecoder(strings.NewReader(r.stdout)); ; {
		var s spec.Spec
		if err := dec.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read the specs: %v", err)
		}
		for _, step := range s.Steps {
			steps[s.Name] = append(steps[s.Name], step.Name)
			commands += strings.Join(step.Command, " ") + "\n"
		}
	}
	if len(steps) != 2 || len(steps["test"]) == 0 {
		t.Errorf("the pipelines are %v, want test and release", steps)
	}
	for _, want := range []string{"image-amd64", "image-arm64", "manifest", "sbom-amd64", "sbom-arm64", "sign", "attest-amd64", "attest-arm64"} {
		if !slices.Contains(steps["release"], want) {
			t.Errorf("release has no step %s: %v", want, steps["release"])
		}
	}
	if !strings.Contains(commands, "drone-runner-sysbox:v1.2.0-linux-arm64") {
		t.Errorf("the tag isn't in the commands:\n%s", commands)
	}
}

// A push doesn't release.
func TestOwnReleaseIsForTags(t *testing.T) {
	t.Parallel()
	r := (call{dir: "../..", args: []string{"compile", "--event", "push", ".drone.yml"}}).run(t)
	r.expect(t, 0, "pipeline release is left out")
}

//go:build !unit

package guard_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// buildImage builds a Dockerfile through the guard, with the machine's docker command line and its
// classic builder.
func buildImage(ctx context.Context, b *guardtest.Build, dockerfile string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", append(append([]string{"build"}, args...), "-")...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+b.Socket, "DOCKER_BUILDKIT=0")
	cmd.Stdin = strings.NewReader(dockerfile)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestBuildClassic has Dockerfiles that name the stage's own images in every place where the
// builder takes one, and what their authors read when they fail.
func TestBuildClassic(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	own := b.ID // makes the layers of this test its own
	for _, tt := range []struct {
		name, dockerfile string
		args             []string
		// want is part of the output, fails that of a failure; the client's names are in both.
		want, fails string
	}{
		{name: "an image of one's own", dockerfile: "FROM {image}\nRUN echo " + own + " >/made\n", args: []string{"-t", "base"}, want: "Successfully tagged base:latest"},
		{name: "two tags", dockerfile: "FROM base\n", args: []string{"-t", "two:a", "-t", "two:b"}, want: "Successfully tagged two:b"},
		{name: "a base by an argument", dockerfile: "ARG X=base\nFROM ${X} AS q\nRUN cat /made\n", want: own},
		{name: "a base by an argument of the command line", dockerfile: "ARG X\nFROM $X\nRUN cat /made /made\n", args: []string{"--build-arg", "X=two:a"}, want: own},
		{name: "copied from", dockerfile: "FROM {image}\nCOPY --from=two:b /made /copy\nRUN cat /copy\n", want: own},
		{name: "a stage by the name of an image", dockerfile: "FROM {image} AS base\nRUN echo of-the-stage >/made\nFROM base\nRUN cat /made\n", want: "of-the-stage"},
		{name: "a trigger of the base", dockerfile: "FROM base\nONBUILD RUN cat /made\n", args: []string{"-t", "trigger"}, want: "Successfully tagged trigger:latest"},
		{name: "the trigger, pulled", dockerfile: "FROM trigger\n", want: own},
		{name: "a host", dockerfile: "FROM base\nRUN cat /etc/hosts\n", args: []string{"--add-host", "forge.test:192.0.2.1"}, want: "192.0.2.1\tforge.test"},
		{name: "quiet", dockerfile: "FROM base\n", args: []string{"-q"}, want: "sha256:"},
		{name: "no such base", dockerfile: "FROM forge.invalid/none:1\n", fails: "forge.invalid"},
		{name: "a command that fails", dockerfile: "FROM base\nRUN exit 9\n", fails: "returned a non-zero code: 9"},
		{name: "a mistake", dockerfile: "FROM base\nRU true\n", fails: "unknown instruction: RU"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := buildImage(t.Context(), b, strings.ReplaceAll(tt.dockerfile, "{image}", guardtest.Image), tt.args...)
			if (err != nil) != (tt.fails != "") || !strings.Contains(out, tt.want+tt.fails) {
				t.Errorf("prints %s\nwant %q: %v", out, tt.want+tt.fails, err)
			}
			if strings.Contains(out, ".build.invalid") {
				t.Errorf("shows a name of the daemon's:\n%s", out)
			}
		})
	}
}

// TestBuildsShareLayers has a second build, of which the first knows nothing, take the layers of
// the first, though not its image.
func TestBuildsShareLayers(t *testing.T) {
	t.Parallel()
	one, two := guardtest.Start(t), guardtest.Start(t)
	dockerfile := "FROM " + guardtest.Image + "\nRUN echo " + one.ID + " >/made\nRUN cat /made >/again\n"
	for i, b := range []*guardtest.Build{one, two} {
		out, err := buildImage(t.Context(), b, dockerfile, "-t", "shared")
		if cached := strings.Count(out, "Using cache"); err != nil || cached != 2*i {
			t.Errorf("build %d takes %d steps from the cache, want %d: %v\n%s", i+1, cached, 2*i, err, out)
		}
		if i == 0 {
			if out, err := two.Try("image", "inspect", "shared"); err == nil {
				t.Errorf("the other build has the image: %s", out)
			}
		}
	}
}

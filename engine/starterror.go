package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// explainStart adds what to do to an error of ContainerStart for the step. They come from runc
// through three programs as text, so the text is all there is to tell them apart; an unknown one is
// passed on as it is.
func explainStart(step *spec.Step, err error) error {
	text := err.Error()
	if errdefs.IsNotFound(err) && strings.Contains(text, "network") {
		if slices.ContainsFunc(step.Networks, func(name string) bool { return strings.Contains(text, name) }) {
			return fmt.Errorf("%w; create it (docker network create), or take it out of DRONE_RUNNER_NETWORKS", err)
		}
		return fmt.Errorf("%w; the docker daemon has lost the network of this build, as may happen when it is killed: run the build again", err)
	}
	for _, x := range []struct{ has, hint string }{
		{"executable file not found", "the image has no such program: check entrypoint and command (commands need a shell, /bin/sh, in the image)"},
		{"no such file or directory: unknown", "the image has no such program, or not the interpreter that it names: check entrypoint and command (commands need a shell, /bin/sh, in the image)"},
		{"permission denied", "the program isn't executable for the step's user"},
		{"exec format error", "the program is for another kind of processor, or a script without #!"},
		{"unable to find user", "the image doesn't know the step's user: write a numeric one, or one of its /etc/passwd"},
		{"unable to find group", "the image doesn't know the step's group: write a numeric one, or one of its /etc/group"},
		{"not a directory", "a volume is mounted at a path that is a file in the image, or the other way round"},
		{"No such container", "the stage was ended while the step was about to start"},
	} {
		if strings.Contains(text, x.has) {
			return fmt.Errorf("%w; %s", err, x.hint)
		}
	}
	return err
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Prepare pulls the step's image as its policy says, creates the container and attaches to its
// output. A step that was prepared before, and not run, is prepared again: its former container is
// removed.
func (d *Docker) Prepare(ctx context.Context, s *spec.Spec, step *spec.Step, output io.Writer) (spec.Container, error) {
	if s == nil || step == nil {
		return nil, errors.New("prepare a step: there is no spec or no step")
	}
	if output == nil {
		output = io.Discard
	}
	r := d.run(s)
	if r == nil {
		return nil, fmt.Errorf("prepare step %q: %w, or was never set up", step.Name, errEnded)
	}
	done, err := r.begin()
	if err != nil {
		return nil, fmt.Errorf("prepare step %q: %w", step.Name, err)
	}
	defer done()

	if step.Daemon != nil {
		return &daemonContainer{}, nil
	}
	id, err := d.createWithImage(ctx, r, s, step, output)
	if err != nil {
		return nil, err
	}
	r.dropImage(step) // its container keeps it from now on
	if err := d.connect(ctx, s, step, id); err != nil {
		return nil, err
	}
	return d.attach(ctx, r, s, step, id)
}

// pullsAlways reports whether a pull is tried although the image may be there: when asked for by
// name, and for :latest unless the step says otherwise.
func pullsAlways(policy spec.PullPolicy, named reference.Named) bool {
	if policy != spec.PullDefault {
		return policy == spec.PullAlways
	}
	if _, pinned := named.(reference.Digested); pinned {
		return false
	}
	tagged, ok := named.(reference.Tagged)
	return !ok || tagged.Tag() == "latest"
}

func forPlatform(p *ocispec.Platform) string {
	if p == nil {
		return ""
	}
	return " for " + platformText(p)
}

// say writes a line of the engine's own. A log that can't take it is the log's own trouble.
func say(output io.Writer, line string) { _, _ = io.WriteString(output, line+"\n") }

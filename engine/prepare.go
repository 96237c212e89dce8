package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Prepare pulls the step's image as its policy says, creates the container and attaches to its output. A step that was prepared before, and not
// run, is prepared anew: the former container goes.
func (d *Docker) Prepare(ctx context.Context, spec *Spec, step *Step, output io.Writer) (Container, error) {
	if spec == nil || step == nil {
		return nil, errors.New("prepare a step: there is no spec or no step")
	}
	if output == nil {
		output = io.Discard
	}
	r := d.run(spec)
	if r == nil {
		return nil, fmt.Errorf("prepare step %q: %w, or was never set up", step.Name, errEnded)
	}
	done, err := r.begin()
	if err != nil {
		return nil, fmt.Errorf("prepare step %q: %w", step.Name, err)
	}
	defer done()

	id, err := d.createWithImage(ctx, spec, step, output)
	if err != nil {
		return nil, err
	}
	if err := d.connect(ctx, step, id); err != nil {
		return nil, err
	}
	return d.attach(ctx, r, spec, step, id)
}

// createWithImage creates the container, with a pull before it where the policy or the daemon asks for one. An image that is there already costs no call of its own:
// the create itself tells.
func (d *Docker) createWithImage(ctx context.Context, spec *Spec, step *Step, output io.Writer) (string, error) {
	named, err := reference.ParseNormalizedNamed(step.Image)
	if err != nil {
		return "", fmt.Errorf("step %q: %q is no image reference (registry/repository:tag): %w", step.Name, step.Image, err)
	}
	named = reference.TagNameOnly(named)
	platform, err := d.platform(ctx, spec.Platform)
	if err != nil {
		return "", err
	}
	p := pull{Image: named.String(), Platform: platformText(platform)}
	if step.Auth != nil {
		p.Auth = *step.Auth
	}

	var pullErr error
	if pullsAlways(step.Pull, named) {
		if pullErr = d.pullImage(ctx, p, output); pullErr != nil && (step.Pull == PullAlways || ctx.Err() != nil) {
			return "", pullErr
		}
	}
	id, err := d.create(ctx, spec, step, platform)
	if err == nil {
		if pullErr != nil {
			say(output, "warning: "+pullErr.Error()+"; this machine's copy, which may be older, is used")
		}
		return id, nil
	}
	missing, inspectErr := d.imageMissing(ctx, err, p.Image, platform)
	switch {
	case inspectErr != nil:
		return "", errors.Join(err, inspectErr)
	case !missing:
		return "", err
	case pullErr != nil:
		return "", fmt.Errorf("%w; and this machine has no copy of it", pullErr)
	case step.Pull == PullNever:
		return "", fmt.Errorf("step %q: this machine doesn't have the image %s%s, and `pull: never` forbids to fetch it; use `pull: if-not-exists`, or load the image first",
			step.Name, step.Image, forPlatform(platform))
	}
	p.IfAbsent = true
	if err := d.pullImage(ctx, p, output); err != nil {
		return "", err
	}
	return d.create(ctx, spec, step, platform)
}

// pullsAlways tells whether a pull is tried although the image may be there: when asked for by name, and for :latest unless the step says otherwise.
func pullsAlways(policy PullPolicy, named reference.Named) bool {
	if policy != PullDefault {
		return policy == PullAlways
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

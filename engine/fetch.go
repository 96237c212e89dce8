package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// fetched is an image that the daemon didn't have when its stage began, and that was pulled ahead
// of the step that needs it.
type fetched struct {
	// ended is how many steps of the stage had ended when the pull began. One that has ended since
	// may have pushed another image under that name.
	ended int
}

// Fetch pulls the step's image if the daemon has none of its name. One that is there may be an
// older one, or not for this stage to have: Prepare looks at that, when the steps before have
// ended.
func (d *Docker) Fetch(ctx context.Context, s *spec.Spec, step *spec.Step) error {
	if s == nil || step == nil {
		return errors.New("fetch the image of a step: there is no spec or no step")
	}
	if step.Daemon != nil || step.Pull == spec.PullNever {
		return nil
	}
	w, _, err := d.wants(ctx, s, step, io.Discard)
	if err != nil {
		return err
	}
	in, err := d.lookAtImage(ctx, w.Image)
	if err != nil || in != nil {
		return err
	}
	d.noteFetch(s, w.pull)
	w.IfAbsent = true
	return d.pullAttended(ctx, w.pull, io.Discard)
}

// wants is the step's image as it is asked for.
func (d *Docker) wants(ctx context.Context, s *spec.Spec, step *spec.Step, output io.Writer) (*wanted, reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(step.Image)
	if err != nil {
		return nil, nil, fmt.Errorf("step %q: %q is no image reference (registry/repository:tag): %w", step.Name, step.Image, err)
	}
	named = reference.TagNameOnly(named)
	platform, err := d.platform(ctx, s.Platform)
	if err != nil {
		return nil, nil, err
	}
	w := &wanted{step: step, platform: platform, output: output, pull: pull{Image: named.String(), Platform: platformText(platform)}}
	if step.Auth != nil {
		w.Auth = *step.Auth
	}
	return w, named, nil
}

// noteFetch writes down that an image is pulled ahead.
func (d *Docker) noteFetch(s *spec.Spec, p pull) {
	ended := d.stepsEnded(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fetched[s.ID] == nil {
		d.fetched[s.ID] = map[pull]fetched{}
	}
	if _, again := d.fetched[s.ID][p]; !again {
		d.fetched[s.ID][p] = fetched{ended: ended}
	}
}

// takeFetch reports whether the image of a step was pulled ahead, and whether it is as good as
// pulled now. It does so once: later steps find the image like any other.
func (d *Docker) takeFetch(s *spec.Spec, p pull) (ahead, fresh bool) {
	ended := d.stepsEnded(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ahead := d.fetched[s.ID][p]
	delete(d.fetched[s.ID], p)
	return ahead, ahead && f.ended == ended
}

// stepsEnded is how many steps of the stage have ended that may have pushed an image. The clone
// step hasn't.
func (d *Docker) stepsEnded(s *spec.Spec) int {
	r := d.run(s)
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ranSteps
}

// ran counts a step that has ended.
func (r *run) ran(step *spec.Step) {
	if step.Name == "clone" && step.Number == 1 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ranSteps++
}

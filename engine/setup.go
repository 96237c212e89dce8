package engine

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Setup creates the network and the volumes of spec, at once. It fails before it creates anything if the spec asks for something that can't be
// had. The caller calls Destroy whether it fails or not.
func (d *Docker) Setup(ctx context.Context, spec *Spec) error {
	if err := validate(spec); err != nil {
		return err
	}
	if err := d.checkGuard(spec); err != nil {
		return fmt.Errorf("set up pipeline %q: %w", spec.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r := newRun()
	d.mu.Lock()
	if _, twice := d.runs[spec.ID]; twice {
		d.mu.Unlock()
		r.giveUp()
		return fmt.Errorf("set up pipeline %q: a run with the id %q is set up already; every run needs an id of its own", spec.Name, spec.ID)
	}
	d.runs[spec.ID] = r
	d.mu.Unlock()

	done, err := r.begin()
	if err != nil {
		return err
	}
	defer done()
	d.holdImages(r, spec)
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.createNetwork(groupCtx, r, spec) })
	for _, v := range spec.Volumes {
		if v.ID == "" {
			continue // a bind; the daemon checks its source when a step mounts it
		}
		group.Go(func() error { return d.createVolume(groupCtx, r, spec, v) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if needsGuard(spec) {
		g, err := d.openGuard(ctx, spec)
		if err != nil {
			return fmt.Errorf("set up pipeline %q: %w", spec.Name, err)
		}
		r.mu.Lock()
		r.guarded = g
		r.mu.Unlock()
	}
	return ctx.Err()
}

// validate refuses a spec that the engine can't carry out.
func validate(spec *Spec) error {
	switch {
	case spec == nil:
		return errors.New("set up a pipeline: there is no spec")
	case spec.ID == "":
		return fmt.Errorf("set up pipeline %q: its spec has no id", spec.Name)
	case spec.Network.Name == "":
		return fmt.Errorf("set up pipeline %q: its network has no name", spec.Name)
	}
	names := map[string]bool{}
	for i, v := range spec.Volumes {
		if v == nil {
			return fmt.Errorf("set up pipeline %q: volume %d of its spec is empty", spec.Name, i+1)
		}
		if names[v.Name] {
			return fmt.Errorf("set up pipeline %q: two volumes have the name %q", spec.Name, v.Name)
		}
		names[v.Name] = true
		if err := v.validate(); err != nil {
			return fmt.Errorf("set up pipeline %q: %w", spec.Name, err)
		}
	}
	steps := map[string]bool{}
	for i, s := range spec.Steps {
		switch {
		case s == nil:
			return fmt.Errorf("set up pipeline %q: step %d of its spec is empty", spec.Name, i+1)
		case s.ID == "":
			return fmt.Errorf("set up pipeline %q: step %q has no id", spec.Name, s.Name)
		case steps[s.ID]:
			return fmt.Errorf("set up pipeline %q: two steps have the id %q", spec.Name, s.ID)
		}
		steps[s.ID] = true
	}
	return nil
}

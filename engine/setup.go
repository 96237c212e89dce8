package engine

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Setup creates the network and the volumes of spec, at once. It fails before it creates anything
// if the spec asks for something that can't be had. The caller calls Destroy whether it fails or
// not.
func (d *Docker) Setup(ctx context.Context, s *spec.Spec) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := d.checkGuard(s); err != nil {
		return fmt.Errorf("set up pipeline %q: %w", s.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r := newRun()
	d.mu.Lock()
	if _, twice := d.runs[s.ID]; twice {
		d.mu.Unlock()
		r.giveUp()
		return fmt.Errorf("set up pipeline %q: a stage with the id %q is set up already; every stage needs an id of its own", s.Name, s.ID)
	}
	d.runs[s.ID] = r
	d.mu.Unlock()

	done, err := r.begin()
	if err != nil {
		return err
	}
	defer done()
	d.holdImages(r, s)
	if err := d.holdBinds(r, s); err != nil {
		return fmt.Errorf("set up pipeline %q: %w", s.Name, err)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.createNetwork(groupCtx, r, s) })
	for _, v := range s.Volumes {
		if v.ID == "" {
			continue // a bind, or the guard's
		}
		group.Go(func() error { return d.createVolume(groupCtx, r, s, v) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if needsGuard(s) {
		g, err := d.openGuard(ctx, s)
		if err != nil {
			return fmt.Errorf("set up pipeline %q: %w", s.Name, err)
		}
		r.mu.Lock()
		r.guarded = g
		r.mu.Unlock()
	}
	return ctx.Err()
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// prepared is a created container with its output attached. It implements Container.
type prepared struct {
	engine *Docker
	run    *run
	spec   *spec.Spec
	step   *spec.Step
	id     string
	stream types.HijackedResponse

	closing sync.Once
}

// attach opens the stream of the container's output, before the container starts, so that no byte
// can be missed.
func (d *Docker) attach(ctx context.Context, r *run, s *spec.Spec, step *spec.Step, id string) (*prepared, error) {
	type answer struct {
		stream types.HijackedResponse
		err    error
	}
	ctx, cancel := context.WithTimeout(ctx, d.opts.Deadlines.Create)
	defer cancel()
	answers := make(chan answer)
	// The client's handshake doesn't obey its context once it is connected; this goroutine does so
	// in its stead, and Destroy waits for it.
	r.busy.Go(func() {
		stream, err := d.client.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
		select {
		case answers <- answer{stream, err}:
		case <-ctx.Done():
			if err == nil {
				stream.Close()
			}
		}
	})
	select {
	case a := <-answers:
		if a.err != nil {
			return nil, fmt.Errorf("attach to container %q (%s): %w", step.Name, id, late(a.err, d.opts.Deadlines.Create))
		}
		c := &prepared{engine: d, run: r, spec: s, step: step, id: id, stream: a.stream}
		if !r.keep(c) {
			c.close()
			return nil, fmt.Errorf("prepare step %q: %w", step.Name, errEnded)
		}
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("attach to container %q (%s): %w", step.Name, id, late(ctx.Err(), d.opts.Deadlines.Create))
	}
}

// close ends the stream. It may be called more than once.
func (c *prepared) close() { c.closing.Do(c.stream.Close) }

// keep notes a prepared container. Destroy closes its stream if it is never run.
func (r *run) keep(c *prepared) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.attached[c] = struct{}{}
	return true
}

var errRunTwice = errors.New("it was run before, or its stage has ended")

// take hands a prepared container to the one call of Run.
func (r *run) take(c *prepared) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.attached[c]; !ok {
		return errRunTwice
	}
	delete(r.attached, c)
	return nil
}

// release closes the streams of all containers that were never run.
func (r *run) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.attached {
		c.close()
		delete(r.attached, c)
	}
}

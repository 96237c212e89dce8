package main

import (
	"context"
	"fmt"
	"io"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// watchedEngine tells the death of the daemon from whatever else may be wrong. A daemon that comes
// back within moments marks the containers of its former life as ended by SIGKILL, which is not how
// the step ended.
type watchedEngine struct {
	engine runtime.Engine
	daemon *syscont.Daemon
}

// Setup waits for a daemon that is on its way back up.
func (w *watchedEngine) Setup(ctx context.Context, s *spec.Spec) error {
	if err := w.daemon.Ready(ctx); err != nil {
		return err
	}
	return w.during(func() error { return w.engine.Setup(ctx, s) })
}

// Fetch is the engine's, once the daemon is up.
func (w *watchedEngine) Fetch(ctx context.Context, s *spec.Spec, step *spec.Step) error {
	if err := w.daemon.Ready(ctx); err != nil {
		return err
	}
	return w.engine.Fetch(ctx, s, step)
}

// Prepare is the engine's.
func (w *watchedEngine) Prepare(ctx context.Context, s *spec.Spec, step *spec.Step, output io.Writer) (c spec.Container, err error) {
	err = w.during(func() (err error) {
		c, err = w.engine.Prepare(ctx, s, step, output)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &watchedContainer{Container: c, engine: w}, nil
}

// Destroy waits for a daemon that is on its way back up: what its former life left is still to be
// removed.
func (w *watchedEngine) Destroy(ctx context.Context, s *spec.Spec) error {
	for {
		if err := w.daemon.Ready(ctx); err != nil {
			return fmt.Errorf("remove what the run %s left: %w", s.ID, err)
		}
		before, _ := w.daemon.Deaths()
		err := w.engine.Destroy(ctx, s)
		if after, _ := w.daemon.Deaths(); err == nil || after == before {
			return err
		}
	}
}

// during calls f, and is how the daemon died if it did so meanwhile.
func (w *watchedEngine) during(f func() error) error {
	before, _ := w.daemon.Deaths()
	err := f()
	if after, how := w.daemon.Deaths(); after != before {
		return how
	}
	return err
}

// watchedContainer is a container that may lose its daemon.
type watchedContainer struct {
	spec.Container
	engine *watchedEngine
}

// Run is the container's. An end that came with the death of the daemon is an error: nobody knows
// how the process would have ended.
func (c *watchedContainer) Run(ctx context.Context, output io.Writer, started func()) (exit spec.Exit, err error) {
	err = c.engine.during(func() (err error) {
		exit, err = c.Container.Run(ctx, output, started)
		return err
	})
	return exit, err
}

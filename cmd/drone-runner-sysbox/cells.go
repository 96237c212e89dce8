package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/cell"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// cellEngines runs each spec in the cell of its trust domain, which it keeps running meanwhile. It
// is a runtime.Engine of all cells' engines.
type cellEngines struct {
	cells *cell.Manager
	// open makes the engine of a cell, and what looks after the cell until end is called.
	open func(ctx context.Context, c *cell.Cell) (e runtime.Engine, end func(), err error)

	mu      sync.Mutex
	engines map[*cell.Cell]*cellEngine
	runs    map[string]*cellRun // by Spec.ID, from Setup to Destroy
	keeping sync.WaitGroup
}

// cellEngine is the engine of one cell; valid once ready is closed.
type cellEngine struct {
	ready  chan struct{}
	engine runtime.Engine
	err    error
}

// cellRun is where a run is.
type cellRun struct {
	lease  *cell.Lease
	engine runtime.Engine
}

func newCellEngines(cells *cell.Manager, open func(context.Context, *cell.Cell) (runtime.Engine, func(), error)) *cellEngines {
	return &cellEngines{cells: cells, open: open, engines: map[*cell.Cell]*cellEngine{}, runs: map[string]*cellRun{}}
}

// Setup starts the cell if it doesn't run.
func (e *cellEngines) Setup(ctx context.Context, s *spec.Spec) error {
	lease, err := e.cells.Take(ctx, s.Domain)
	if err != nil {
		return err
	}
	in, err := e.engineOf(ctx, lease.Cell)
	if err != nil {
		lease.Release()
		return err
	}
	e.mu.Lock()
	e.runs[s.ID] = &cellRun{lease: lease, engine: in}
	e.mu.Unlock()
	return in.Setup(ctx, s)
}

// Fetch is the engine's of the cell. It may be called while Setup still waits for the cell.
func (e *cellEngines) Fetch(ctx context.Context, s *spec.Spec, step *spec.Step) error {
	lease, err := e.cells.Take(ctx, s.Domain)
	if err != nil {
		return err
	}
	defer lease.Release()
	in, err := e.engineOf(ctx, lease.Cell)
	if err != nil {
		return err
	}
	return in.Fetch(ctx, s, step)
}

// Prepare is the engine's of the cell.
func (e *cellEngines) Prepare(ctx context.Context, s *spec.Spec, step *spec.Step, output io.Writer) (spec.Container, error) {
	r := e.run(s)
	if r == nil {
		return nil, fmt.Errorf("prepare step %q: the run has no cell: it isn't set up, or destroyed", step.Name)
	}
	return r.engine.Prepare(ctx, s, step, output)
}

// Destroy lets go of the cell once the run has left nothing in it. What can't be removed is for the
// cell's reaper.
func (e *cellEngines) Destroy(ctx context.Context, s *spec.Spec) error {
	r := e.run(s)
	if r == nil {
		return nil
	}
	err := r.engine.Destroy(ctx, s)
	if err == nil {
		e.mu.Lock()
		delete(e.runs, s.ID)
		e.mu.Unlock()
	}
	r.lease.Release()
	return err
}

func (e *cellEngines) run(s *spec.Spec) *cellRun {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runs[s.ID]
}

// engineOf is the engine of a cell, made at its first use. It goes with the cell.
func (e *cellEngines) engineOf(ctx context.Context, c *cell.Cell) (runtime.Engine, error) {
	e.mu.Lock()
	in := e.engines[c]
	first := in == nil
	if first {
		in = &cellEngine{ready: make(chan struct{})}
		e.engines[c] = in
	}
	e.mu.Unlock()
	if !first {
		select {
		case <-in.ready:
			return in.engine, in.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	defer close(in.ready)
	var end func()
	in.engine, end, in.err = e.open(ctx, c)
	if in.err != nil {
		e.forget(c)
		return nil, fmt.Errorf("look into the cell: %w", in.err)
	}
	e.keeping.Go(func() {
		<-c.Ending()
		end()
		e.forget(c)
	})
	return in.engine, nil
}

func (e *cellEngines) forget(c *cell.Cell) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.engines, c)
}

// wait returns when nothing looks after a cell any more. All cells have been stopped.
func (e *cellEngines) wait() { e.keeping.Wait() }

// engines is the engine of all builds, of which docker is the one in the shared cell, or on a
// machine without cells the only one. wait returns when nothing looks after a cell any more, and is
// called when all have been stopped.
func (w wiring) engines(docker *engine.Docker) (e runtime.Engine, wait func()) {
	if w.cells == nil {
		return docker, func() {}
	}
	w.metrics.Cells(func() int { return len(w.cells.Running()) })
	shared := &watchedEngine{engine: docker, daemon: w.cells.Shared().Daemon}
	engines := newCellEngines(w.cells, func(ctx context.Context, c *cell.Cell) (runtime.Engine, func(), error) {
		if c == w.cells.Shared() {
			return shared, func() {}, nil // others look after it
		}
		return w.openCell(ctx, c)
	})
	return engines, engines.wait
}

// newCellInit is what a cell begins with: not for people.
func newCellInit() *cobra.Command {
	return &cobra.Command{
		Use:    cell.InitCommand,
		Short:  "Begins a cell; the daemon calls it",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return failed(cell.Init())
		},
	}
}

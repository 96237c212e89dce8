package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/proctree"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// ender waits for the end of a container that is being stopped.
type ender struct {
	end    <-chan ending // nil once no report of the end will come
	done   <-chan struct{}
	failed error
	exit   spec.Exit
}

// within reports whether the container ends within limit.
func (e *ender) within(limit time.Duration) bool {
	if e.end == nil {
		return false
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case end := <-e.end:
		if end.err == nil {
			e.exit = spec.Exit{Code: int(end.StatusCode)}
			return true
		}
		e.failed, e.end = end.err, nil
	case <-e.done:
	case <-timer.C:
	}
	return false
}

// stop ends the container: SIGTERM and the grace period for those of its processes that handle
// SIGTERM, then SIGKILL. Where none does, or if the cause of the end is ErrKill, SIGKILL comes at
// once.
func (c *prepared) stop(ctx, waitCtx context.Context, end <-chan ending) (spec.Exit, error) {
	e := &ender{end: end, done: waitCtx.Done(), failed: errors.New("it outlives SIGKILL")}
	if !errors.Is(context.Cause(ctx), spec.ErrKill) && c.terminate(waitCtx, e) {
		return e.exit, ctx.Err()
	}
	if err := c.signal(ctx, "SIGKILL"); err != nil {
		e.failed = err
	}
	if e.within(c.engine.opts.Deadlines.Stop) {
		return e.exit, ctx.Err()
	}
	c.engine.log.WithError(e.failed).WithField("step", c.step.Name).WithField("container", c.id).
		Warn("cannot be sure that a cancelled step has stopped; its container is removed with its stage")
	return spec.Exit{Code: killedCode}, ctx.Err()
}

// terminate tells the processes that handle SIGTERM to end, gives them the grace period, and
// reports whether the container has ended.
//
// The first process of a container is most often a shell, which doesn't handle SIGTERM, and which
// the kernel spares then: it and what it waits for would go on until SIGKILL. So the signal goes to
// the processes below that do handle it. The shells that wait for those are halted first: when its
// command ends, a script would go on to the next one.
func (c *prepared) terminate(ctx context.Context, e *ender) (over bool) {
	grace := c.engine.opts.StopGrace
	tree, err := proctree.Of(c.id)
	first, seen := tree.Init()
	if err != nil || !seen || first.Handles {
		// The daemon's own way. It is the only one where the container's processes can't be seen
		// from here.
		c.debug(c.signal(ctx, "SIGTERM"), "cannot send SIGTERM to a container")
		return e.within(grace)
	}
	graceful := tree.Graceful()
	for _, p := range graceful {
		for _, ancestor := range tree.Ancestors(p) {
			c.debug(tree.Signal(ancestor, unix.SIGSTOP), "cannot halt a shell")
		}
	}
	for _, p := range graceful {
		c.debug(tree.Signal(p, unix.SIGTERM), "cannot send SIGTERM to a process")
	}
	const poll = 10 * time.Millisecond
	for deadline := time.Now().Add(grace); ctx.Err() == nil && time.Now().Before(deadline) && slices.ContainsFunc(graceful, tree.Lives); {
		if e.within(poll) {
			return true
		}
		if e.end == nil && pause.For(ctx, poll) != nil {
			return false
		}
	}
	return false
}

// debug logs an error that SIGKILL makes good for.
func (c *prepared) debug(err error, what string) {
	if err == nil {
		return
	}
	c.engine.log.WithError(err).WithField("step", c.step.Name).WithField("container", c.id).Debug(what)
}

// signal sends a signal to the container. One that has ended, or is gone, needs none.
func (c *prepared) signal(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.engine.opts.Deadlines.Stop)
	defer cancel()
	err := c.engine.client.ContainerKill(ctx, c.id, name)
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("send %s to container %q: %w", name, c.step.Name, err)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Run starts the container and follows it to its end; see Container.
func (c *prepared) Run(ctx context.Context, output io.Writer, started func()) (spec.Exit, error) {
	if err := c.run.take(c); err != nil {
		return spec.Exit{}, fmt.Errorf("run step %q: %w", c.step.Name, err)
	}
	defer c.close()
	defer c.run.ran(c.step)
	if err := ctx.Err(); err != nil {
		return spec.Exit{}, err
	}
	if output == nil {
		output = io.Discard
	}

	// The wait is registered before the start, or a container that ends at once would be waited for
	// for ever.
	d := c.engine.opts.Deadlines
	waitCtx, cancel := linger(ctx, 0, c.engine.opts.StopGrace+2*d.Stop)
	defer cancel()
	waitCtx, rest := c.engine.attend(waitCtx)
	defer rest()
	end := c.wait(waitCtx, container.WaitConditionNextExit)
	if err := hung(waitCtx); err != nil {
		return spec.Exit{}, fmt.Errorf("run step %q (container %s): %w", c.step.Name, c.step.ID, err)
	}
	out := c.follow(output)
	if err := c.start(ctx); err != nil {
		c.close()
		_ = out.wait(0) // there was none
		return spec.Exit{}, err
	}
	if started != nil {
		started()
	}

	exit, err := c.await(ctx, waitCtx, end, out)
	bound := d.Stop
	if err != nil {
		bound = min(d.Stop, d.Linger) // the daemon may be away, and the stream without an end
	}
	outErr := out.wait(bound)
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return exit, ctx.Err()
	case err != nil:
		return exit, fmt.Errorf("run step %q (container %s): %w", c.step.Name, c.step.ID, err)
	case outErr != nil:
		return exit, fmt.Errorf("run step %q (container %s): %w", c.step.Name, c.step.ID, outErr)
	}
	return exit, nil
}

// start starts the container. A cancelled context doesn't cut it short: whether it was started must
// be known.
func (c *prepared) start(ctx context.Context) error {
	startCtx, cancel := linger(ctx, c.engine.opts.Deadlines.Start, c.engine.opts.Deadlines.Linger)
	defer cancel()
	err := c.engine.client.ContainerStart(startCtx, c.id, container.StartOptions{})
	if err == nil {
		return nil
	}
	if startCtx.Err() != nil {
		// The daemon may be at it still.
		if err := c.signal(ctx, "SIGKILL"); err != nil {
			c.engine.log.WithError(err).WithField("id", c.id).Debug("cannot kill a container whose start took too long")
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("start container %q (image %s): %w", c.step.Name, c.step.Image, late(explainStart(c.step, err), c.engine.opts.Deadlines.Start))
}

// ending is the daemon's answer to a wait.
type ending struct {
	container.WaitResponse
	err error
}

// wait asks to be told when the container ends. The question has arrived when wait returns; the
// answer, or the end of ctx as an error, comes once.
func (c *prepared) wait(ctx context.Context, until container.WaitCondition) <-chan ending {
	exits, errs := c.engine.client.ContainerWait(ctx, c.id, until)
	out := make(chan ending, 1)
	go func() {
		select {
		case e := <-exits:
			out <- ending{WaitResponse: e}
		case err := <-errs:
			out <- ending{err: err}
		}
	}()
	return out
}

// await waits for the end of the started container and makes it come when ctx is cancelled. waitCtx
// outlives ctx by what that takes.
func (c *prepared) await(ctx, waitCtx context.Context, end <-chan ending, out *output) (spec.Exit, error) {
	pause := backoff.NewExponentialBackOff()
	for {
		select {
		case e := <-end:
			if e.err == nil {
				return c.exit(ctx, e.WaitResponse)
			}
			if err := hung(waitCtx); err != nil {
				return spec.Exit{}, fmt.Errorf("%w, while the step ran", err)
			}
			// The daemon has gone, or something between it and the runner has cut the connection.
			if exit, ended, err := c.look(ctx, e.err, out); ended || err != nil {
				return exit, err
			}
		case <-ctx.Done():
			return c.stop(ctx, waitCtx, end)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause.NextBackOff()):
		}
		end = c.wait(waitCtx, container.WaitConditionNotRunning)
	}
}

// look finds out whether the container has ended when the call that should have told broke off for
// cause. A daemon that doesn't answer is asked again for a while: it may be restarting.
func (c *prepared) look(ctx context.Context, cause error, out *output) (exit spec.Exit, ended bool, err error) {
	poll := backoff.NewExponentialBackOff()
	poll.InitialInterval, poll.MaxInterval = 100*time.Millisecond, time.Second
	away := false
	state, err := backoff.Retry(ctx, func() (*container.State, error) {
		state, err := c.state(ctx)
		away = away || err != nil
		if errdefs.IsNotFound(err) {
			err = backoff.Permanent(err)
		}
		return state, err
	}, backoff.WithBackOff(poll), backoff.WithMaxElapsedTime(c.engine.opts.Deadlines.Linger))
	switch {
	case errdefs.IsNotFound(err):
		return spec.Exit{}, true, fmt.Errorf("the container was removed while it ran: %w", err)
	case ctx.Err() != nil:
		return spec.Exit{}, false, nil // the caller stops the container
	case err != nil:
		return spec.Exit{}, false, fmt.Errorf("the docker daemon went away while the step ran: %w (then: %w)", cause, err)
	case away && !state.Running:
		return exitOf(state.ExitCode, state), true, fmt.Errorf("the docker daemon went away and came back while the step ran; its container ended with exit code %d: %w", state.ExitCode, cause)
	case !state.Running:
		return exitOf(state.ExitCode, state), true, nil
	case out.ended():
		return spec.Exit{}, false, fmt.Errorf("the docker daemon broke off while the step ran, and what it printed since is lost: %w", cause)
	}
	return spec.Exit{}, false, nil
}

// output is the way of a container's output to its log: the daemon's stream → demux → spool → log.
type output struct {
	c       *prepared
	over    chan struct{} // closed when the daemon's stream has ended, after readErr was set
	readErr error
	written chan error // one result, when the log has it all
}

func (c *prepared) follow(w io.Writer) *output {
	o := &output{c: c, over: make(chan struct{}), written: make(chan error, 1)}
	s := newSpool()
	go func() {
		defer close(o.over)
		o.readErr = demux(s, c.stream.Reader)
		s.end()
		if o.readErr != nil {
			_, _ = io.Copy(io.Discard, c.stream.Reader) // a container must not jam because its log has
		}
	}()
	go func() { o.written <- s.copyTo(w) }()
	return o
}

// wait returns when the last byte is in the log. The stream of an ended container ends within
// moments; the bound is for a daemon that has forgotten it.
func (o *output) wait(bound time.Duration) error {
	late := false
	select {
	case <-o.over:
	case <-time.After(bound):
		o.c.close()
		<-o.over
		late = true
	}
	if err := <-o.written; err != nil {
		return err
	}
	if late {
		return fmt.Errorf("the container has ended, and the docker daemon hasn't closed its output for %s", bound)
	}
	if o.readErr != nil {
		return fmt.Errorf("read the output: %w", o.readErr)
	}
	return nil
}

// ended reports whether the daemon's stream has.
func (o *output) ended() bool {
	select {
	case <-o.over:
		return true
	default:
		return false
	}
}

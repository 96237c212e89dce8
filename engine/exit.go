package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// exit makes an Exit of the daemon's answer. Only a failure is looked at more closely, to tell
// whether memory was the reason.
func (c *prepared) exit(ctx context.Context, e container.WaitResponse) (spec.Exit, error) {
	if e.Error != nil && e.Error.Message != "" {
		return spec.Exit{Code: int(e.StatusCode)}, errors.New(e.Error.Message)
	}
	if e.StatusCode == 0 {
		return spec.Exit{}, nil
	}
	state, err := c.state(ctx)
	if err != nil {
		c.engine.log.WithError(err).WithField("id", c.id).Debug("cannot tell whether a container ran out of memory")
		return spec.Exit{Code: int(e.StatusCode)}, nil
	}
	exit := exitOf(int(e.StatusCode), state)
	if !exit.OOMKilled && c.step.Limits.Memory > 0 && c.oomEvent(ctx, state.StartedAt) {
		exit = spec.Exit{Code: killedCode, OOMKilled: true}
	}
	return exit, nil
}

// oomEvent reports whether the kernel killed the container for memory when the daemon's record
// doesn't say so: its news of the end can overtake the news of the reason, which then is to be
// found among its events only, now or in a moment.
func (c *prepared) oomEvent(ctx context.Context, since string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.engine.opts.Deadlines.OOM)
	defer cancel()
	began, err := time.Parse(time.RFC3339Nano, since)
	if err != nil {
		return false
	}
	messages, errs := c.engine.client.Events(ctx, events.ListOptions{
		Since:   fmt.Sprintf("%d.%09d", began.Unix(), began.Nanosecond()),
		Filters: filters.NewArgs(filters.Arg("container", c.id), filters.Arg("event", string(events.ActionOOM))),
	})
	select {
	case <-messages:
		return true
	case <-errs: // the end of ctx, most of the time
		return false
	}
}

// killedCode is the exit code of a process that SIGKILL ended, 128 + 9; a container that ran out of
// memory has it, whatever its process made of that.
const killedCode = 137

func exitOf(code int, state *container.State) spec.Exit {
	if state.OOMKilled && code != 0 {
		return spec.Exit{Code: killedCode, OOMKilled: true}
	}
	return spec.Exit{Code: code}
}

func (c *prepared) state(ctx context.Context) (*container.State, error) {
	info, err := c.inspect(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	return info.State, nil
}

// inspect is what the daemon knows of the container, its state included.
func (c *prepared) inspect(ctx context.Context) (container.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.engine.opts.Deadlines.Inspect)
	defer cancel()
	info, err := c.engine.client.ContainerInspect(ctx, c.id)
	if err == nil && (info.ContainerJSONBase == nil || info.State == nil) {
		err = errors.New("the daemon's answer lacks the container's state")
	}
	return info, err
}

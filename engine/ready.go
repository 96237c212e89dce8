package engine

import (
	"context"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Ready waits for the first health check that passes; see Container.
//
// The daemon makes the first check an interval after the start, half a minute by default, which is
// too late for a build that waits. So the same check is made here as well, more often; whichever
// passes first is enough. A container that the daemon calls unhealthy is waited for too: it may be
// slow, or it may never be ready.
func (c *prepared) Ready(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.RandomizationFactor = 100*time.Millisecond, time.Second, 0
	check := probe{container: c}
	var last *spec.UnhealthyError
	for {
		info, err := c.inspect(ctx)
		switch {
		case errdefs.IsNotFound(err):
			return spec.ErrEnded
		case err != nil: // A daemon that is away may be back in time; if not, Run reports it.
		case !info.State.Running:
			return spec.ErrEnded
		case info.State.Health == nil || info.Config == nil || info.Config.Healthcheck == nil || info.State.Health.Status == container.NoHealthcheck,
			info.State.Health.Status == container.Healthy:
			return nil
		default:
			last = unhealthy(info)
			if check.passed(ctx, info.Config) {
				return nil
			}
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
			if last == nil {
				return ctx.Err()
			}
			if last.ExitCode < 0 {
				last.ExitCode = check.code()
			}
			return last
		}
	}
}

// probe makes the health check of a container, one at a time.
type probe struct {
	container *prepared
	exec      string // the one that runs
	ended     *int   // how the last one ended
}

// passed reports whether a check has passed. It sets the next one going and doesn't wait for it.
func (p *probe) passed(ctx context.Context, config *container.Config) bool {
	client := p.container.engine.client
	ctx, cancel := context.WithTimeout(ctx, p.container.engine.opts.Deadlines.Inspect)
	defer cancel()
	if p.exec != "" {
		switch state, err := client.ContainerExecInspect(ctx, p.exec); {
		case err != nil && !errdefs.IsNotFound(err):
			return false
		case err == nil && state.Running:
			return false // One that hangs is the daemon's to end; its own next check may still pass.
		case err == nil:
			p.ended = &state.ExitCode
		}
		p.exec = ""
		if p.ended != nil && *p.ended == 0 {
			return true
		}
	}
	command := checkCommand(config)
	if command == nil {
		return false
	}
	exec, err := client.ContainerExecCreate(ctx, p.container.id, container.ExecOptions{Cmd: command})
	if err == nil {
		err = client.ContainerExecStart(ctx, exec.ID, container.ExecStartOptions{Detach: true})
	}
	if err != nil {
		p.container.engine.log.WithError(err).WithField("id", p.container.id).Debug("cannot make the health check of a container")
		return false
	}
	p.exec = exec.ID
	return false
}

// code is how the last check ended, or -1.
func (p *probe) code() int {
	if p.ended == nil {
		return -1
	}
	return *p.ended
}

// checkCommand is what the daemon would run as the health check; nil if it wouldn't.
func checkCommand(config *container.Config) []string {
	test := config.Healthcheck.Test
	if len(test) < 2 {
		return nil
	}
	switch test[0] {
	case "CMD":
		return test[1:]
	case "CMD-SHELL":
		shell := []string{"/bin/sh", "-c"}
		if len(config.Shell) > 0 {
			shell = config.Shell
		}
		return append(append([]string(nil), shell...), test[1])
	}
	return nil
}

// unhealthy is what the daemon has to say of the container's checks.
func unhealthy(info container.InspectResponse) *spec.UnhealthyError {
	test := info.Config.Healthcheck.Test
	e := &spec.UnhealthyError{ExitCode: -1}
	if len(test) > 0 {
		e.Check = strings.Join(test[1:], " ")
	}
	if n := len(info.State.Health.Log); n > 0 && info.State.Health.Log[n-1] != nil {
		e.ExitCode, e.Output = info.State.Health.Log[n-1].ExitCode, strings.TrimSpace(info.State.Health.Log[n-1].Output)
	}
	return e
}

package local

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// Reporter shows stages to the user.
type Reporter interface {
	runtime.Reporter
	// Skipped is called for a pipeline that isn't run.
	Skipped(pipeline, why string)
	// DetachedFailed is called as that of a runtime.Job.
	DetachedFailed(step, why string)
}

// Run runs the stages of the plan in turn, each for at most limit, and reports whether all of them
// passed. The error is the reporter's or the executor's.
func (p *Plan) Run(
	ctx context.Context, d *client.Context, e *runtime.Executor, r Reporter, limit time.Duration,
) (passed bool, err error) {
	passed = true
	build := *d.Build
	outcome := map[string]string{}
	for _, s := range p.Stages {
		skip := s.Skip
		if skip == "" {
			skip = waits(s, outcome)
			if skip != "" {
				outcome[s.Pipeline.Name] = drone.StatusSkipped
			}
		}
		if skip == "" && ctx.Err() != nil {
			passed = false
			skip = context.Cause(ctx).Error()
		}
		if skip != "" {
			r.Skipped(s.Pipeline.Name, skip)
			continue
		}
		s.Stage.Started = time.Now().Unix()
		limited, cancel := context.WithTimeoutCause(ctx, limit, &timeoutError{runtime.TimeoutError{Limit: limit}})
		stage, err := e.Run(limited, runtime.Job{
			Spec:           s.Spec,
			Build:          &build,
			Stage:          s.Stage,
			Reporter:       r,
			DetachedFailed: r.DetachedFailed,
		})
		cancel()
		if err != nil {
			return false, fmt.Errorf("pipeline %q: %w", s.Pipeline.Name, err)
		}
		outcome[s.Pipeline.Name] = stage.Status
		build.Stages = append(build.Stages, &stage)
		if stage.Status != drone.StatusPassing {
			passed = false
			build.Status = drone.StatusFailing
		}
	}
	return passed, nil
}

// timeoutError is the runtime's, in the words of the command's user.
type timeoutError struct{ runtime.TimeoutError }

// Error names the flag that sets the limit.
func (e *timeoutError) Error() string {
	return fmt.Sprintf("the pipeline ran longer than %s, its timeout (--timeout sets it)", e.Limit)
}

// Unwrap lets it be recorded as the timeout that it is.
func (e *timeoutError) Unwrap() error { return &e.TimeoutError }

// waits returns why a stage isn't run after what became of those that it depends on, or "". Drone
// decides it by trigger.status.
func waits(s *Stage, outcome map[string]string) string {
	bad := slices.DeleteFunc(slices.Clone(s.Pipeline.DependsOn), func(name string) bool {
		status, ran := outcome[name]
		return !ran || status == drone.StatusPassing
	})
	switch {
	case len(bad) > 0 && !s.Stage.OnFailure:
		return fmt.Sprintf("it depends on %s, which did not pass", strings.Join(bad, " and "))
	case len(bad) == 0 && !s.Stage.OnSuccess:
		return "its trigger.status wants a failure of what it depends on, and there was none"
	}
	return ""
}

package runtime

import (
	"errors"
	"fmt"
	"time"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Causes for which a stage ends before its time. They are the cause of its context (context.Cause),
// so that each is told for what it is.
var (
	// ErrCancelled is the cause when somebody cancelled the build.
	ErrCancelled = errors.New("the build was cancelled")
	// ErrStopped is the cause when the runner stops and no longer waits for its builds.
	ErrStopped = errors.New("the runner was stopped before the build ended")

	// errFailFast is the cause when a step with failure: fast has failed.
	errFailFast = errors.New("a step that fails fast has failed")
	// errGraphEnded is the cause for which services and detached steps are stopped when no other
	// step is left. What they would do in a grace period nobody waits for.
	errGraphEnded = fmt.Errorf("all steps have ended: %w", spec.ErrKill)
)

// TimeoutError is the cause when a stage ran longer than it may.
type TimeoutError struct {
	Limit time.Duration
}

// Error says what the limit was and where it can be changed.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the build ran longer than %s, its timeout (the repository's settings can raise it)", e.Limit)
}

// StepTimeoutError is why a step was stopped that ran longer than the runner lets any.
type StepTimeoutError struct {
	Limit time.Duration
}

// Error says what the limit was and where it can be changed.
func (e *StepTimeoutError) Error() string {
	return fmt.Sprintf("the step ran longer than %s, the timeout of this runner's steps (its operator can raise DRONE_RUNNER_STEP_TIMEOUT)", e.Limit)
}

// verdict is what a stage is recorded as that ended for the cause.
func verdict(stage *drone.Stage, cause error) {
	var timeout *TimeoutError
	switch {
	case errors.Is(cause, errFailFast):
		// The steps tell: one of them has failed.
	case errors.Is(cause, ErrStopped):
		stage.Status, stage.ExitCode, stage.Error = drone.StatusError, exitError, cause.Error()
	case errors.As(cause, &timeout):
		stage.Status, stage.ExitCode, stage.Error = drone.StatusKilled, exitKilled, cause.Error()
	default:
		stage.Status, stage.ExitCode, stage.Error = drone.StatusKilled, exitKilled, ""
	}
}

// explain is the line that a stopped step's log ends with; empty when its reader knows why already.
func explain(cause error) string {
	var timeout *TimeoutError
	if errors.Is(cause, ErrStopped) || errors.As(cause, &timeout) || errors.Is(cause, errFailFast) {
		return "stopped: " + cause.Error()
	}
	return ""
}

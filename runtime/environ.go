package runtime

import (
	"github.com/drone/runner-go/environ"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// refreshed is the step with the build's and the stage's status as they are now in its environment: DRONE_BUILD_STATUS, DRONE_STAGE_STATUS, DRONE_FAILED_STEPS and
// their like. They win over what the step has, as they do with Drone.
func (r *stageRun) refreshed(step *spec.Step) *spec.Step {
	out := step.Clone()
	build, stage := r.state.Build(), r.state.Stage()
	env := []map[string]string{out.Env}
	if r.hasBuild {
		env = append(env, environ.Build(&build))
	}
	env = append(env, environ.Stage(&stage), environ.StepArgs(step.Name, int64(step.Number)))
	out.Env = environ.Combine(env...)
	return out
}

package runtime

import (
	"github.com/drone/runner-go/environ"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// refreshed returns the step with the current status of the build and the stage in its environment:
// DRONE_BUILD_STATUS, DRONE_STAGE_STATUS, DRONE_FAILED_STEPS and the like. As on Drone's runner
// they win over what the step has, and those without a value are unset.
func (r *stageRun) refreshed(step *spec.Step) *spec.Step {
	out := step.Clone()
	build, stage := r.state.Build(), r.state.Stage()
	env := []map[string]string{environ.Stage(&stage), environ.StepArgs(step.Name, int64(step.Number))}
	if r.hasBuild {
		env = append([]map[string]string{environ.Build(&build)}, env...)
	}
	if out.Env == nil {
		out.Env = map[string]string{}
	}
	for name, value := range environ.Combine(env...) {
		if value == "" {
			delete(out.Env, name)
		} else {
			out.Env[name] = value
		}
	}
	return out
}

package policy

import (
	"context"
	"reflect"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// Update judges a change of a container's limits, and warns of what is cut down. What isn't
// mentioned stays as it is.
func Update(ctx context.Context, w World, u *container.UpdateConfig) ([]string, error) {
	switch u.RestartPolicy.Name {
	case "", container.RestartPolicyDisabled, container.RestartPolicyOnFailure:
	default:
		return nil, apierror.Refuse(
			"RestartPolicy",
			"a stage's containers end with the stage",
			"only no and on-failure are allowed",
		)
	}
	r := &u.Resources
	f, err := references{daemon: len(r.Ulimits) > 0}.resolve(ctx, w)
	if err != nil {
		return nil, err
	}
	j := &judgement{stage: w.Stage(), facts: f}
	if err := j.judge("", r, mentioned(resourceRules)); err != nil {
		return nil, err
	}
	if r.NanoCPUs != 0 || r.CPUQuota != 0 || r.CPUPeriod != 0 {
		if warning := fillCPU(j.stage.Limits, "NanoCpus", r); warning != "" {
			j.warn(warning)
		}
	}
	return j.warnings, nil
}

// mentioned are rules for a request in which zero means "as it is".
func mentioned(rules []fieldRule) []fieldRule {
	out := make([]fieldRule, len(rules))
	for i, r := range rules {
		out[i] = fieldRule{r.field, func(j *judgement, at string, v reflect.Value) error {
			if v.IsZero() { // a pointer to zero is a wish: no limit
				return nil
			}
			return r.do(j, at, v)
		}}
	}
	return out
}

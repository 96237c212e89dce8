package compiler

import (
	"strings"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/manifest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/glob"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// runPolicy reads `when`: whether the conditions match the build, then for which status the step
// runs.
func runPolicy(src *resource.Step, role role, a Args) spec.RunPolicy {
	if role == roleClone {
		return spec.RunAlways
	}
	if a.NeverRuns(src, role == roleService) {
		return spec.RunNever
	}
	status := src.When.Status
	if len(status.Include) == 0 && len(status.Exclude) == 0 {
		return spec.RunOnSuccess
	}
	switch success, failure := glob.Condition(status, drone.StatusPassing), glob.Condition(status,
		drone.StatusFailing); {
	case success && failure:
		return spec.RunAlways
	case failure:
		return spec.RunOnFailure
	default:
		return spec.RunOnSuccess
	}
}

// NeverRuns reports whether a step or service has no place in the build, whatever its status:
// because of its `when`, or of Skip. The build, repository and system must not be nil.
func (a Args) NeverRuns(src *resource.Step, service bool) bool {
	if !service && a.Skip != nil && a.Skip(src.Name) {
		return true
	}
	return !glob.Conditions(src.When, manifest.Match{
		Action:   a.Build.Action,
		Branch:   a.Build.Target,
		Cron:     a.Build.Cron,
		Event:    a.Build.Event,
		Instance: a.System.Host,
		Ref:      a.Build.Ref,
		Repo:     a.Repo.Slug,
		Target:   a.Build.Deploy,
	})
}

// errPolicy reads `failure`.
func errPolicy(failure string) spec.ErrPolicy {
	switch strings.ToLower(failure) {
	case "ignore":
		return spec.ErrIgnore
	case "fast", "fast-fail", "fail-fast":
		return spec.ErrFailFast
	default:
		return spec.ErrFail
	}
}

package compiler

import (
	"strings"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/manifest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// runPolicy reads `when`: whether the conditions match the build, then for which status the step runs.
func runPolicy(src *resource.Step, role role, a Args) engine.RunPolicy {
	if role == roleClone {
		return engine.RunAlways
	}
	if NeverRuns(src, a) {
		return engine.RunNever
	}
	status := src.When.Status
	if len(status.Include) == 0 && len(status.Exclude) == 0 {
		return engine.RunOnSuccess
	}
	switch success, failure := status.Match(drone.StatusPassing), status.Match(drone.StatusFailing); {
	case success && failure:
		return engine.RunAlways
	case failure:
		return engine.RunOnFailure
	default:
		return engine.RunOnSuccess
	}
}

// NeverRuns tells whether a step's `when` keeps it out of the build altogether, whatever the status. The args' build, repository and system must not be nil.
func NeverRuns(src *resource.Step, a Args) bool {
	return !src.When.Match(manifest.Match{
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
func errPolicy(failure string) engine.ErrPolicy {
	switch strings.ToLower(failure) {
	case "ignore":
		return engine.ErrIgnore
	case "fast", "fast-fail", "fail-fast":
		return engine.ErrFailFast
	default:
		return engine.ErrFail
	}
}

package compiler

import "github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"

// noteWarnings puts the linter's warnings into the logs: each into that of the step that it is
// about, and into the first one where it is about no step, or one that doesn't run.
//
// Those of a privileged step aren't repeated, since its log says more about that (see
// unprivileged); what Drone's server refuses it hasn't refused.
func (b *builder) noteWarnings() {
	runs := map[string]bool{}
	for _, step := range b.spec.Steps {
		runs[step.Name] = step.RunPolicy != spec.RunNever
	}
	var general []string
	own := map[string][]string{}
	for _, warning := range b.args.Warnings {
		switch {
		case warning.Refused || warning.Key == "privileged":
		case runs[warning.Step]:
			own[warning.Step] = append(own[warning.Step], warning.String())
		default:
			general = append(general, warning.String())
		}
	}
	b.notes = append(general, b.notes...)
	for _, step := range b.spec.Steps {
		step.Notes = append(own[step.Name], step.Notes...)
	}
}

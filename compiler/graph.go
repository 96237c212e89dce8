package compiler

import (
	"fmt"
	"slices"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// connect completes the dependencies. Without a single depends_on the steps are a chain in their
// order. Otherwise what depends on nothing depends on the clone step; when cloning is disabled,
// depends_on: [clone] means nothing, unless the pipeline has a step of that name of its own.
func connect(steps []*spec.Step, cloneDisabled bool) error {
	names := make(map[string]bool, len(steps))
	graph := false
	for _, s := range steps {
		names[s.Name] = true
		graph = graph || len(s.DependsOn) > 0
	}
	if !graph {
		chain(steps)
		return nil
	}
	for _, s := range steps {
		switch {
		case !cloneDisabled && len(s.DependsOn) == 0 && s.Name != cloneName:
			s.DependsOn = []string{cloneName}
		case cloneDisabled && !names[cloneName]:
			s.DependsOn = slices.DeleteFunc(s.DependsOn, func(name string) bool { return name == cloneName })
		}
		for _, name := range s.DependsOn {
			if !names[name] {
				return fmt.Errorf("step %q: depends_on: there is no step %q", s.Name, name)
			}
		}
	}
	return nil
}

// chain makes each step wait for the one before it. Services and detached steps that follow each
// other start at once, so that they get ready side by side, and the step after them waits for them
// all.
func chain(steps []*spec.Step) {
	var before, background []string // the last step that others wait for, and what was started after it
	for _, s := range steps {
		if s.Detach {
			s.DependsOn = slices.Clone(before)
			background = append(background, s.Name)
			continue
		}
		s.DependsOn = background
		if len(background) == 0 {
			s.DependsOn = slices.Clone(before)
		}
		before, background = []string{s.Name}, nil
	}
}

package runtime

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// The exit codes that Drone records for what is no exit of a process.
const (
	exitKilled = 137
	exitError  = 255
	// exitSkip is the exit code of a step that asks to skip the steps after it, but for those that
	// run whatever the status of the stage.
	exitSkip = 78
)

// State is the record of a stage while it runs: the stage with its steps, and the build's status as
// the steps see it. It may be used concurrently; what it gives out are copies. A step that is final
// stays as it is, but for a panic found later.
type State struct {
	mu sync.Mutex
	// build is zero when there is none.
	build drone.Build
	stage drone.Stage
	// steps are those of the stage, by name.
	steps map[string]*drone.Step
	// skipRest is set once a step has ended with exitSkip: only steps that run whatever the status
	// run then.
	skipRest bool
	// interrupted is why steps were killed or skipped that would have run.
	interrupted error
}

// NewState is the record of a stage at its start, every step pending. build may be nil. The steps
// of the spec that never run are left out, as Drone shows them nowhere; what depended on them
// depends on their dependencies instead.
func NewState(build *drone.Build, stage *drone.Stage, sp *spec.Spec) *State {
	s := &State{steps: map[string]*drone.Step{}}
	if build != nil {
		s.build = *build
		s.build.Params = maps.Clone(build.Params)
		s.build.Stages = nil
		for _, other := range build.Stages {
			if other != nil {
				s.build.Stages = append(s.build.Stages, new(copyStage(*other)))
			}
		}
	}
	if stage != nil {
		s.stage = copyStage(*stage)
	}
	s.stage.Steps = nil
	byName := make(map[string]*spec.Step, len(sp.Steps))
	for _, step := range sp.Steps {
		byName[step.Name] = step
	}
	for _, step := range sp.Steps {
		if step.RunPolicy == spec.RunNever {
			continue
		}
		record := &drone.Step{
			StageID:   s.stage.ID,
			Number:    step.Number,
			Name:      step.Name,
			Status:    drone.StatusPending,
			ErrIgnore: step.ErrPolicy == spec.ErrIgnore,
			DependsOn: reported(byName, step, map[string]bool{}),
			Image:     step.Image,
			Detached:  step.Detach || step.Service,
		}
		s.stage.Steps = append(s.stage.Steps, record)
		s.steps[step.Name] = record
	}
	return s
}

// reported are the dependencies of a step that the server is told of: a step that never runs is
// replaced by its own.
func reported(steps map[string]*spec.Step, step *spec.Step, seen map[string]bool) []string {
	var out []string
	for _, name := range step.DependsOn {
		dep := steps[name]
		if dep == nil || seen[name] {
			continue
		}
		seen[name] = true
		if dep.RunPolicy == spec.RunNever {
			out = append(out, reported(steps, dep, seen)...)
		} else {
			out = append(out, name)
		}
	}
	return out
}

// Stage is the record as it is now.
func (s *State) Stage() drone.Stage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copyStage(s.stage)
}

// Build is the build with the status that this stage gives it.
func (s *State) Build() drone.Build {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.build
}

// Step is the record of the named step as it is now; ok is false for a step that is reported to
// nobody.
func (s *State) Step(name string) (step drone.Step, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	record, ok := s.steps[name]
	if !ok {
		return drone.Step{}, false
	}
	return *record, true
}

// begin makes the stage a running one.
func (s *State) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stage.Status = drone.StatusRunning
	if s.stage.Started == 0 {
		s.stage.Started = now()
	}
	s.stage.Stopped = 0
}

// start makes a pending step a running one.
func (s *State) start(name string) drone.Step {
	return s.change(name, func(step *drone.Step) {
		step.Status = drone.StatusRunning
		step.Started = now()
	})
}

// finish ends a step as its process did.
func (s *State) finish(name string, code int) drone.Step {
	return s.change(name, func(step *drone.Step) {
		s.stop(step)
		step.ExitCode = code
		step.Status = drone.StatusFailing
		switch code {
		case exitSkip:
			s.skipRest = true
			fallthrough
		case 0:
			step.Status = drone.StatusPassing
		}
	})
}

// fail ends a step that couldn't be run, with the reason.
func (s *State) fail(name string, err error) drone.Step {
	return s.change(name, func(step *drone.Step) {
		s.stop(step)
		step.ExitCode = exitError
		step.Status = drone.StatusError
		step.Error = err.Error()
	})
}

// kill ends a step that was stopped, for the cause.
func (s *State) kill(name string, cause error) drone.Step {
	return s.change(name, func(step *drone.Step) {
		s.stop(step)
		step.ExitCode = exitKilled
		step.Status = drone.StatusKilled
		s.interrupt(cause)
	})
}

// expire ends a step that was stopped because it took too long. Unlike kill that stops nothing but
// the step: the stage has failed then, and goes on as after a failure.
func (s *State) expire(name string, err error) drone.Step {
	return s.change(name, func(step *drone.Step) {
		s.stop(step)
		step.ExitCode = exitKilled
		step.Status = drone.StatusKilled
		step.Error = err.Error()
	})
}

// skip ends a step before it started. The cause is nil when the step's own policy asked for it.
func (s *State) skip(name string, cause error) drone.Step {
	return s.change(name, func(step *drone.Step) {
		s.stop(step)
		step.Status = drone.StatusSkipped
		if cause != nil {
			s.interrupt(cause)
		}
	})
}

// spoil makes an error of a step that may be final already: something went wrong in telling of it.
func (s *State) spoil(name string, err error) drone.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	step, ok := s.steps[name]
	if !ok {
		return drone.Step{}
	}
	s.stop(step)
	step.ExitCode = exitError
	step.Status = drone.StatusError
	step.Error = err.Error()
	s.refresh()
	return *step
}

// skipAll ends every step that hasn't started.
func (s *State) skipAll(cause error) []drone.Step {
	var out []drone.Step
	for _, step := range s.Stage().Steps {
		if step.Status == drone.StatusPending {
			out = append(out, s.skip(step.Name, cause))
		}
	}
	return out
}

// runs reports whether a step of that policy runs, as things are now.
func (s *State) runs(policy spec.RunPolicy) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch policy {
	case spec.RunNever:
		return false
	case spec.RunAlways:
		return true
	case spec.RunOnFailure:
		return s.failed() && !s.skipRest
	default:
		return !s.failed() && !s.skipRest
	}
}

// end makes the stage final. err is what kept its steps from being run at all, or nil.
//
// The worst decides: what stopped the stage, then an error, then a failure that isn't ignored. A
// step that fails fast stops the others, but the stage has failed then, it wasn't killed.
func (s *State) end(err error) drone.Stage {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stage.Started, s.stage.Stopped = span(s.stage.Started, now())
	s.stage.Status, s.stage.ExitCode, s.stage.Error = drone.StatusPassing, 0, ""
	for _, step := range s.stage.Steps {
		switch {
		case step.Status == drone.StatusError && s.stage.Status != drone.StatusError:
			s.stage.Status, s.stage.ExitCode, s.stage.Error = drone.StatusError, exitError, step.Error
		case failing(step) && s.stage.Status == drone.StatusPassing:
			s.stage.Status = drone.StatusFailing
		}
	}
	switch {
	case err != nil && s.interrupted == nil:
		s.stage.Status, s.stage.ExitCode, s.stage.Error = drone.StatusError, exitError, err.Error()
	case s.interrupted != nil:
		verdict(&s.stage, s.interrupted)
	}
	s.refresh()
	return copyStage(s.stage)
}

// change applies f to a step that isn't final yet, and is the step afterwards.
func (s *State) change(name string, f func(*drone.Step)) drone.Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	step, ok := s.steps[name]
	if !ok {
		return drone.Step{}
	}
	if !rpc.Final(step.Status) {
		f(step)
		s.refresh()
	}
	return *step
}

// stop sets the time of a step's end. The caller holds the lock.
func (s *State) stop(step *drone.Step) { step.Started, step.Stopped = span(step.Started, now()) }

// span is the time of something that began at one moment of the clock, if it did (0: at its end),
// and ended at another. A clock that was set back meanwhile doesn't make it end before it began.
func span(started, stopped int64) (from, to int64) {
	if started == 0 {
		return stopped, stopped
	}
	return started, max(started, stopped)
}

// interruptBy says that the stage was stopped, though maybe no step noticed.
func (s *State) interruptBy(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupt(cause)
}

// interrupt keeps the first cause. The caller holds the lock.
func (s *State) interrupt(cause error) {
	if s.interrupted == nil {
		s.interrupted = cause
	}
}

// refresh gives the build the status that later steps shall see. The caller holds the lock.
func (s *State) refresh() {
	for _, step := range s.stage.Steps {
		if failing(step) {
			s.build.Status = drone.StatusFailing
			return
		}
	}
}

// failed reports whether the stage is failing so far. The caller holds the lock.
func (s *State) failed() bool { return slices.ContainsFunc(s.stage.Steps, failing) }

// failing reports whether a step makes its stage fail. An error isn't ignored whatever the policy
// says, as Drone doesn't: failure: ignore is about what the commands return, not about an image
// that isn't there.
func failing(step *drone.Step) bool {
	switch step.Status {
	case drone.StatusFailing:
		return !step.ErrIgnore
	case drone.StatusError, drone.StatusKilled:
		return true
	}
	return false
}

// copyStage is a copy that shares nothing with the original.
func copyStage(stage drone.Stage) drone.Stage {
	stage.DependsOn = slices.Clone(stage.DependsOn)
	stage.Labels = maps.Clone(stage.Labels)
	steps := stage.Steps
	stage.Steps = nil
	for _, step := range steps {
		if step == nil {
			continue
		}
		c := *step
		c.DependsOn = slices.Clone(step.DependsOn)
		stage.Steps = append(stage.Steps, &c)
	}
	return stage
}

// now is the time in the unit of Drone's records, seconds since 1970.
func now() int64 { return time.Now().Unix() }

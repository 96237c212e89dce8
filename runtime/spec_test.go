package runtime

import (
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

// option changes a step of a test's spec.
type option func(*engine.Step)

func step(name string, options ...option) *engine.Step {
	s := &engine.Step{ID: "id-" + name, Name: name, Image: "docker.io/library/busybox:latest", ErrPolicy: engine.ErrFail, RunPolicy: engine.RunOnSuccess}
	for _, o := range options {
		o(s)
	}
	return s
}

func after(names ...string) option {
	return func(s *engine.Step) { s.DependsOn = append(s.DependsOn, names...) }
}

func policy(p engine.RunPolicy) option  { return func(s *engine.Step) { s.RunPolicy = p } }
func onError(p engine.ErrPolicy) option { return func(s *engine.Step) { s.ErrPolicy = p } }
func notes(lines ...string) option      { return func(s *engine.Step) { s.Notes = lines } }
func detach(s *engine.Step)             { s.Detach = true }
func service(s *engine.Step)            { s.Detach, s.Service = true, true }
func env(name, value string) option {
	return func(s *engine.Step) { s.Env = map[string]string{name: value} }
}
func withSecret(name, v string) option {
	return func(s *engine.Step) {
		s.Secrets = append(s.Secrets, &engine.Secret{Name: name, Env: name, Data: engine.Sensitive(v)})
	}
}

// specOf numbers the steps as the compiler does.
func specOf(steps ...*engine.Step) *engine.Spec {
	spec := &engine.Spec{ID: "spec", Name: "default", Steps: steps}
	number := 0
	for _, s := range steps {
		if s.RunPolicy != engine.RunNever {
			number++
			s.Number = number
		}
	}
	return spec
}

// chain makes a serial pipeline of the steps: each depends on the one before.
func chain(steps ...*engine.Step) []*engine.Step {
	for i := 1; i < len(steps); i++ {
		steps[i].DependsOn = append(steps[i].DependsOn, steps[i-1].Name)
	}
	return steps
}

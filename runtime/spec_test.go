package runtime

import (
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// option changes a step of a test's spec.
type option func(*spec.Step)

func step(name string, options ...option) *spec.Step {
	s := &spec.Step{ID: "id-" + name, Name: name, Image: "docker.io/library/busybox:latest", ErrPolicy: spec.ErrFail, RunPolicy: spec.RunOnSuccess}
	for _, o := range options {
		o(s)
	}
	return s
}

func after(names ...string) option {
	return func(s *spec.Step) { s.DependsOn = append(s.DependsOn, names...) }
}

func policy(p spec.RunPolicy) option  { return func(s *spec.Step) { s.RunPolicy = p } }
func onError(p spec.ErrPolicy) option { return func(s *spec.Step) { s.ErrPolicy = p } }
func notes(lines ...string) option    { return func(s *spec.Step) { s.Notes = lines } }
func detach(s *spec.Step)             { s.Detach = true }
func service(s *spec.Step)            { s.Detach, s.Service = true, true }
func env(vars ...string) option {
	return func(s *spec.Step) {
		s.Env = map[string]string{}
		for i := 0; i < len(vars); i += 2 {
			s.Env[vars[i]] = vars[i+1]
		}
	}
}
func withSecret(name, v string) option {
	return func(s *spec.Step) {
		s.Secrets = append(s.Secrets, &spec.Secret{Name: name, Env: name, Data: spec.Sensitive(v)})
	}
}

// specOf numbers the steps as the compiler does.
func specOf(steps ...*spec.Step) *spec.Spec {
	sp := &spec.Spec{ID: "spec", Name: "default", Steps: steps}
	number := 0
	for _, s := range steps {
		if s.RunPolicy != spec.RunNever {
			number++
			s.Number = number
		}
	}
	return sp
}

// chain makes a serial pipeline of the steps: each depends on the one before.
func chain(steps ...*spec.Step) []*spec.Step {
	for i := 1; i < len(steps); i++ {
		steps[i].DependsOn = append(steps[i].DependsOn, steps[i-1].Name)
	}
	return steps
}

package policy

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// mustBeNull is for the lists of masked and read-only paths: an empty list unmasks everything.
func mustBeNull(_ *judgement, at string, v reflect.Value) error {
	if !v.IsNil() {
		return apierror.Refuse(
			at,
			"the paths of /proc and /sys that are masked or read-only are the daemon's choice",
			"leave the field out; an empty list would unmask them",
		)
	}
	return nil
}

// joined is for namespaces that a container may share with another one of the stage's. steps says
// whether that may be a step.
func joined(what string, steps bool, values ...string) action {
	return func(j *judgement, at string, v reflect.Value) error {
		mode := v.String()
		if mode == "" || slices.Contains(values, mode) {
			return nil
		}
		ref, ok := strings.CutPrefix(mode, joinedPrefix)
		if !ok {
			return apierror.Refuse(at+" "+apierror.Quote(mode), what+" of the machine isn't shared", "")
		}
		other, err := j.facts.container(ref)
		if err != nil {
			return err
		}
		if other.Step && !steps {
			return apierror.Refuse(at+" "+apierror.Quote(mode), what+" of a step isn't shared", "")
		}
		v.SetString(joinedPrefix + other.ID)
		return nil
	}
}

// joinedPrefix begins the mode of a namespace that another container has.
const joinedPrefix = "container:"

// groups keeps containers out of the group that owns the daemon's socket.
func groups(j *judgement, at string, v reflect.Value) error {
	list, _ := v.Interface().([]string)
	for _, g := range list {
		if name := strings.TrimSpace(g); name == "docker" || name != "" && name == j.stage.SocketGroup {
			return apierror.Refuse(at+" "+apierror.Quote(g), "it is the group of the daemon's socket", "")
		}
	}
	return nil
}

// restartPolicy ends with the stage: a policy that outlives a restart of the daemon becomes
// on-failure.
func restartPolicy(j *judgement, at string, v reflect.Value) error {
	r := v.Addr().Interface().(*container.RestartPolicy)
	switch r.Name {
	case "", container.RestartPolicyDisabled, container.RestartPolicyOnFailure:
	case container.RestartPolicyAlways, container.RestartPolicyUnlessStopped:
		j.warn(at + " is taken as on-failure: a stage's containers end with the stage")
		*r = container.RestartPolicy{Name: container.RestartPolicyOnFailure}
	default:
		return apierror.Refuse(at+" "+apierror.Quote(string(r.Name)), "the guard doesn't know this policy", "")
	}
	return nil
}

// logOptions of the drivers that keep logs on the daemon's disk.
var logOptions = []string{
	"max-size",
	"max-file",
	"compress",
	"mode",
	"max-buffer-size",
	"labels",
	"labels-regex",
	"env",
	"env-regex",
	"tag",
}

// logConfig keeps logs local: other drivers send data from the daemon to any address.
func logConfig(_ *judgement, at string, v reflect.Value) error {
	l := v.Addr().Interface().(*container.LogConfig)
	if !slices.Contains([]string{"", "json-file", "local", "none"}, l.Type) {
		return apierror.Refuse(
			at+".Type "+apierror.Quote(l.Type),
			"this driver sends data from the daemon",
			"use json-file, local or none",
		)
	}
	for _, k := range slices.Sorted(maps.Keys(l.Config)) {
		if !slices.Contains(logOptions, k) {
			return apierror.Refuse(at+".Config "+apierror.Quote(k), "the guard doesn't know this option", "")
		}
	}
	return nil
}

func oomScore(j *judgement, at string, v reflect.Value) error {
	if v.Int() < 0 {
		return apierror.Refuse(at, "a container that is spared has others killed in its place", "")
	}
	// The kernel kills it before the runner and the daemon.
	v.SetInt(max(v.Int(), int64(j.stage.Limits.OOMScoreAdj)))
	return nil
}

package engine

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// fill sets every field that v has, nested ones included, to something that isn't zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("/full")
	case reflect.Bool:
		v.SetBool(true)
	default:
		v.Set(reflect.ValueOf(int64(7)).Convert(v.Type()))
	}
}

// The promise: whatever a step says, with every field that it has in use, its container has nothing
// of privilege. The fields that may be set are listed; a new one in the daemon's API, or in our
// Step, changes nothing here until somebody adds it to the list on purpose.
func TestNoStepCanAskForPrivilege(t *testing.T) {
	var sp spec.Spec
	fill(reflect.ValueOf(&sp).Elem())
	var step spec.Step
	fill(reflect.ValueOf(&step).Elem())
	sp.Volumes = []*spec.Volume{{Name: "v", ID: "id", Kind: spec.VolumeTemp, ReadOnly: true}, {Name: "b", Path: "/b", Kind: spec.VolumeBind}, {Name: "below", Path: "/b/c", Root: "/b", Kind: spec.VolumeBind}}
	step.Mounts = []spec.Mount{{Volume: "v", Path: "/v"}, {Volume: "b", Path: "/b"}, {Volume: "below", Path: "/below"}}
	d := New(nil, Options{RunnerName: "runner", Pids: 7})

	for _, row := range []struct {
		name    string
		step    func(spec.Step) spec.Step
		network string
	}{
		{"with every field", func(s spec.Step) spec.Step { s.NoNetwork = false; return s }, "/full"},
		{"without network", func(s spec.Step) spec.Step { s.NoNetwork = true; return s }, "none"},
	} {
		t.Run(row.name, func(t *testing.T) {
			step := row.step(step)
			host, err := d.hostConfig(&sp, &step, d.logConfig())
			if err != nil {
				t.Fatal(err)
			}
			allowed := []string{"NetworkMode", "LogConfig", "Mounts", "Binds", "DNS", "DNSSearch", "ExtraHosts", "ShmSize", "OomScoreAdj", "Resources.PidsLimit",
				"Resources.Memory", "Resources.MemorySwap", "Resources.CPUPeriod", "Resources.CPUQuota", "Resources.CPUShares", "Resources.CpusetCpus"}
			if got := set(reflect.ValueOf(*host), ""); !slices.Equal(got, sorted(allowed)) {
				t.Errorf("fields of HostConfig in use:\n%q\nwant\n%q", got, sorted(allowed))
			}
			if string(host.NetworkMode) != row.network {
				t.Errorf("network mode %q, want %q", host.NetworkMode, row.network)
			}
			for _, m := range host.Mounts {
				if m.Type != mount.TypeVolume && m.Type != mount.TypeBind {
					t.Errorf("mount of type %q", m.Type)
				}
				if got := set(reflect.ValueOf(m), ""); !slices.Contains([]string{"ReadOnly Source Target Type", "Source Target Type"}, strings.Join(got, " ")) {
					t.Errorf("fields of a mount in use: %q", got)
				}
			}
			config := d.config(&sp, &step)
			allowed = []string{"Image", "Entrypoint", "Cmd", "Env", "WorkingDir", "User", "Labels", "StopTimeout", "AttachStdout", "AttachStderr"}
			if got := set(reflect.ValueOf(*config), ""); !slices.Equal(got, sorted(allowed)) {
				t.Errorf("fields of Config in use:\n%q\nwant\n%q", got, sorted(allowed))
			}
			if host.Privileged || host.CapAdd != nil || host.Devices != nil || host.SecurityOpt != nil || host.PidMode != "" || host.IpcMode != "" || host.UTSMode != "" ||
				host.UsernsMode != "" || host.CgroupnsMode != "" || host.CgroupParent != "" || !slices.Equal(host.Binds, []string{"/b:/b"}) || host.Sysctls != nil || host.Runtime != "" {
				t.Errorf("privilege in %+v", host)
			}
		})
	}
}

// set are the paths of the fields that aren't zero, sorted.
func set(v reflect.Value, prefix string) []string {
	var out []string
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Name
		switch f := v.Field(i); {
		case f.IsZero():
		case f.Type() == reflect.TypeFor[container.Resources]():
			out = append(out, set(f, name+".")...)
		default:
			out = append(out, name)
		}
	}
	return sorted(out)
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func TestEnvironment(t *testing.T) {
	step := &spec.Step{
		Env:     map[string]string{"B": "", "A": "1", "TOKEN": "plain"},
		Secrets: []*spec.Secret{{Env: "TOKEN", Data: "secret"}, nil, {Env: "Z", Data: ""}},
	}
	if got, want := environment(step), []string{"A=1", "B=", "TOKEN=secret", "Z="}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if step.Env["TOKEN"] != "plain" {
		t.Error("the step's own environment was changed")
	}
	if got := environment(&spec.Step{}); len(got) != 0 {
		t.Errorf("%q of nothing", got)
	}
}

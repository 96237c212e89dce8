package compiler

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/manifest"
	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// pipelineOf is a pipeline without a clone step.

func pipelineOf(steps ...*resource.Step) *resource.Pipeline {
	return &resource.Pipeline{Name: "default", Clone: manifest.Clone{Disable: true}, Steps: steps}
}

// fromSecrets is the environment that takes each of the secrets under its own name.

func fromSecrets(names ...string) map[string]*manifest.Variable {
	env := map[string]*manifest.Variable{}
	for _, name := range names {
		env[name] = &manifest.Variable{Secret: name}
	}
	return env
}

func TestCompileRefuses(t *testing.T) {
	step := func(change func(*resource.Step)) *resource.Pipeline {
		s := &resource.Step{Name: "build", Image: "alpine"}
		change(s)
		return pipelineOf(s)
	}
	volume := func(v resource.Volume) *resource.Pipeline {
		p := pipelineOf(&resource.Step{Name: "build", Image: "alpine", Volumes: []resource.VolumeMount{{Name: v.Name, Path: "/v"}}})
		p.Volumes = []*resource.Volume{&v}
		return p
	}
	for _, tt := range []struct {
		name     string
		pipeline *resource.Pipeline
		set      func(*Compiler, *Args)
		want     []string
	}{
		{name: "nothing given", set: func(_ *Compiler, a *Args) { *a = Args{} }, want: []string{"no pipeline", "no build", "no stage", "no repository", "no system"}},
		{name: "no build", set: func(_ *Compiler, a *Args) { a.Build = nil }, want: []string{"there is no build to compile for"}},
		{name: "an empty step", pipeline: pipelineOf(nil), want: []string{`compile pipeline "default": steps[0] is empty`}},
		{name: "an empty service", pipeline: &resource.Pipeline{Services: []*resource.Step{nil}}, want: []string{"services[0] is empty"}},
		{name: "a step without a name", pipeline: pipelineOf(&resource.Step{Image: "alpine"}), want: []string{"steps[0] has no name"}},
		{name: "two steps of one name", pipeline: pipelineOf(&resource.Step{Name: "a", Image: "alpine"}, &resource.Step{Name: "a", Image: "alpine"}), want: []string{`steps[1]: the name "a" is taken`}},
		{name: "a step called as the clone step", pipeline: &resource.Pipeline{Steps: []*resource.Step{{Name: "clone", Image: "alpine"}}}, want: []string{`the name "clone" is taken`}},
		{name: "a service and a step of one name", pipeline: &resource.Pipeline{Services: []*resource.Step{{Name: "a", Image: "a"}}, Steps: []*resource.Step{{Name: "a", Image: "alpine"}}}, want: []string{`steps[0]: the name "a" is taken`}},
		{name: "no image", pipeline: step(func(s *resource.Step) { s.Image = "" }), want: []string{`step "build": image: is missing`}},
		{name: "an image that is none", pipeline: step(func(s *resource.Step) { s.Image = "Octo/App" }), want: []string{`step "build": image: "Octo/App"`}},
		{name: "a clone image that is none", pipeline: &resource.Pipeline{}, set: func(c *Compiler, _ *Args) { c.CloneImage = "not an image" }, want: []string{`step "clone": image: "not an image"`}},
		{name: "an unknown pull policy", pipeline: step(func(s *resource.Step) { s.Pull = "sometimes" }), want: []string{`step "build": pull: "sometimes": write always, if-not-exists or never`}},
		{name: "devices", pipeline: step(func(s *resource.Step) { s.Devices = []resource.Device{{Name: "/dev/kvm"}} }), want: []string{`step "build": devices:`}},
		{name: "the host's network", pipeline: step(func(s *resource.Step) { s.Network = "host" }), want: []string{`step "build": network_mode: "host"`}},
		{name: "in capitals", pipeline: step(func(s *resource.Step) { s.Network = "HOST" }), want: []string{`network_mode: "HOST"`}},
		{name: "another container's network", pipeline: step(func(s *resource.Step) { s.Network = "container:db" }), want: []string{`network_mode: "container:db"`}},
		{name: "an unknown dependency", pipeline: step(func(s *resource.Step) { s.DependsOn = []string{"nowhere"} }), want: []string{`step "build": depends_on: there is no step "nowhere"`}},
		{name: "a mount of our own volume", pipeline: step(func(s *resource.Step) { s.Volumes = []resource.VolumeMount{{Name: "_workspace", Path: "/a"}} }), want: []string{`volumes: "_workspace" is the runner's own`}},
		{name: "windows", pipeline: &resource.Pipeline{Platform: manifest.Platform{OS: "windows"}}, want: []string{"platform.os", "linux"}},
		{name: "a variable without a name", pipeline: step(func(s *resource.Step) { s.Environment = map[string]*manifest.Variable{"": {Value: "x"}} }), want: []string{`step "build": environment: ""`}},
		{name: "a variable that begins with =", pipeline: step(func(s *resource.Step) { s.Environment = map[string]*manifest.Variable{"=B": {Value: "x"}} }), want: []string{`environment: "=B"`}},
		{name: "a secret under a name with =", pipeline: step(func(s *resource.Step) {
			s.Environment = map[string]*manifest.Variable{"A=B": {Secret: "token"}}
		}), want: []string{`environment: "A=B"`}},
		{name: "a value with NUL", pipeline: step(func(s *resource.Step) { s.Environment = map[string]*manifest.Variable{"A": {Value: "x\x00"}} }), want: []string{`the value of "A" holds a NUL`}},
		{name: "a value that no process can be given", pipeline: step(func(s *resource.Step) {
			s.Environment = map[string]*manifest.Variable{"A": {Value: strings.Repeat("x", 131070)}}
		}), want: []string{`step "build": environment: A has 131073 bytes, and Linux takes 131072`}},
		{name: "a script that no process can be given", pipeline: step(func(s *resource.Step) { s.Commands = []string{"# " + strings.Repeat("x", 70000)} }), want: []string{`step "build": commands: they and their echo make a script of 14`}},
		{name: "a setting that JSON can't hold", pipeline: step(func(s *resource.Step) {
			s.Settings = map[string]*manifest.Parameter{"a": {Value: map[string]any{"b": func() {}}}}
		}), want: []string{`step "build": settings: a:`}},
		{name: "an empty volume", pipeline: &resource.Pipeline{Volumes: []*resource.Volume{nil}}, want: []string{"volumes[0] is empty"}},
		{name: "a volume without a name", pipeline: &resource.Pipeline{Volumes: []*resource.Volume{{Temp: &resource.TempVolume{}}}}, want: []string{"volumes[0] has no name"}},
		{name: "our own volume declared", pipeline: volume(resource.Volume{Name: "_workspace", Temp: &resource.TempVolume{}}), want: []string{`volume "_workspace": the name is the runner's own`}},
		{name: "the plugins' socket declared", pipeline: volume(resource.Volume{Name: "_docker_socket", Temp: &resource.TempVolume{}}), want: []string{`volume "_docker_socket": the name is the runner's own`}},
		{name: "a negative size", pipeline: volume(resource.Volume{Name: "a", Temp: &resource.TempVolume{Medium: "memory", SizeLimit: -1}}), want: []string{`temp.size_limit: -1`}},
		{name: "the machine itself", pipeline: volume(resource.Volume{Name: "a", Host: &resource.HostVolume{Path: "/"}}), want: []string{`volume "a": host.path: "/" can't be mounted`}},
		{name: "devices as a volume", pipeline: volume(resource.Volume{Name: "a", Host: &resource.HostVolume{Path: "/dev/../dev"}}), want: []string{`host.path: "/dev/../dev"`}},
		{name: "a relative host path", pipeline: volume(resource.Volume{Name: "a", Host: &resource.HostVolume{Path: "cache"}}), want: []string{`host.path: "cache"`}},
		{name: "a relative mount", pipeline: &resource.Pipeline{Steps: []*resource.Step{{Name: "build", Image: "a", Volumes: []resource.VolumeMount{{Name: "a", Path: "b"}}}}, Volumes: []*resource.Volume{{Name: "a", Temp: &resource.TempVolume{}}}}, want: []string{`step "build": volumes: "a" is mounted at "b"`}},
		{name: "two mounts at one path", pipeline: &resource.Pipeline{Steps: []*resource.Step{{Name: "build", Image: "a", Volumes: []resource.VolumeMount{{Name: "a", Path: "/b"}, {Name: "a", Path: "/b/."}}}}, Volumes: []*resource.Volume{{Name: "a", Temp: &resource.TempVolume{}}}}, want: []string{"two volumes are mounted at /b"}},
		{name: "an operator's volume without a target", pipeline: pipelineOf(), set: func(c *Compiler, _ *Args) { c.Volumes = []OperatorVolume{{Source: "/a"}} }, want: []string{`the runner's volume "/a":""`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, a := testCompiler(), testArgs()
			a.Pipeline = tt.pipeline
			if tt.set != nil {
				tt.set(c, &a)
			}
			spec, err := c.Compile(t.Context(), a)
			if err == nil {
				t.Fatalf("no error, but %+v", spec)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q says nothing of %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "t0ken") {
				t.Errorf("error %q gives a secret away", err)
			}
		})
	}
}

func TestCompileWithoutAnythingOptional(t *testing.T) {
	a := testArgs()
	a.Netrc, a.Secrets, a.Manifest = nil, []*drone.Secret{nil}, nil
	a.Pipeline = pipelineOf(&resource.Step{
		Name: "build", Image: "alpine",
		Environment: map[string]*manifest.Variable{"NULL": nil, "SECRET": {Secret: "nowhere"}},
		Settings:    map[string]*manifest.Parameter{"null": nil},
	})
	a.Pipeline.Clone.Disable = false
	spec, err := (&Compiler{}).Compile(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, spec)
	if !regexp.MustCompile(`^drone-[a-z0-9]{26}$`).MatchString(spec.ID) {
		t.Errorf("the id is %q", spec.ID)
	}
	if got := spec.Steps[1].Env; got["NULL"] != "" || got["PLUGIN_NULL"] != "" {
		t.Errorf("null became %q and %q", got["NULL"], got["PLUGIN_NULL"])
	}
	other, err := (&Compiler{}).Compile(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if spec.ID == other.ID {
		t.Error("two runs have one id")
	}
}

func TestCompileLeavesItsInputAlone(t *testing.T) {
	c, a := testCompiler(), testArgs()
	a.Pipeline = &resource.Pipeline{Steps: []*resource.Step{
		{Name: "a", Image: "alpine", DependsOn: []string{"clone", "b"}},
		{Name: "b", Image: "alpine"},
	}, Clone: manifest.Clone{Disable: true}}
	a.Build.Stages = []*drone.Stage{nil, {Name: "x"}}
	before, err := json.Marshal(a.Pipeline)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		spec, err := c.Compile(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"b"}, spec.Steps[0].DependsOn); diff != "" {
			t.Error(diff)
		}
	}
	after, err := json.Marshal(a.Pipeline)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) || len(a.Build.Stages) != 2 {
		t.Errorf("the pipeline was\n%s\nand is\n%s", before, after)
	}
}

package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/compiler"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// details are what a server says about a stage of a private repository; the configuration file is
// the YAML.
func details(yaml string) *client.Context {
	return &client.Context{
		Build: &drone.Build{
			ID: 2, Number: 1, Event: "push", After: "054c6b23f62c958f444f00132782a5a343d7d701", Ref: "refs/heads/main", Source: "main", Target: "main",
			Params: map[string]string{"FLAVOR": "sweet"}, Stages: []*drone.Stage{nil, {Name: "default"}},
		},
		Stage:   &drone.Stage{ID: 3, Number: 1, Name: "default", Kind: "pipeline", Type: "docker", OS: "linux", Arch: "amd64"},
		Config:  &client.File{Data: []byte(yaml)},
		Netrc:   &drone.Netrc{Machine: "git.example.com", Login: "octo", Password: "secret"},
		Repo:    &drone.Repo{Slug: "octo/lab", Namespace: "octo", Name: "lab", Branch: "main", Private: true, Config: ".drone.yml", Timeout: 60},
		Secrets: []*drone.Secret{nil, {Name: "password", Data: "pa55word"}},
		System:  &drone.System{Proto: "https", Host: "drone.example.com"},
	}
}

const simple = `
kind: pipeline
name: default
steps:
- name: build
  image: alpine
  commands: [ echo ${FLAVOR} ]
`

func testLoader() *Loader {
	return &Loader{Compiler: &compiler.Compiler{
		ID:  func() string { return "drone-id" },
		Now: func() time.Time { return time.Unix(1700000000, 0) },
	}}
}

func TestLoad(t *testing.T) {
	for _, tt := range []struct {
		name   string
		yaml   string
		loader func(*Loader)
		build  func(*client.Context)
		check  func(t *testing.T, sp *spec.Spec)
	}{
		{name: "clone and a step", yaml: simple, check: func(t *testing.T, sp *spec.Spec) {
			if sp.ID != "drone-id" || len(sp.Steps) != 2 || sp.Steps[0].Name != "clone" || sp.Steps[1].Name != "build" {
				t.Errorf("the spec is %+v", sp)
			}
		}},
		{name: "parameters of the build are substituted", yaml: simple, check: func(t *testing.T, sp *spec.Spec) {
			if got := sp.Steps[1].Env["DRONE_SCRIPT"]; !strings.Contains(got, "echo sweet") {
				t.Errorf("the script is %q", got)
			}
		}},
		{name: "times that aren't known yet are now", yaml: strings.Replace(simple, "${FLAVOR}", "${DRONE_STAGE_STARTED}", 1), check: func(t *testing.T, sp *spec.Spec) {
			if got := sp.Steps[1].Env; !strings.Contains(got["DRONE_SCRIPT"], "echo 1700000000") || got["DRONE_STAGE_STARTED"] != "1700000000" {
				t.Errorf("the script is %q, the time is %q", got["DRONE_SCRIPT"], got["DRONE_STAGE_STARTED"])
			}
		}},
		{name: "the stage's pipeline of several", yaml: simple + "---\nkind: pipeline\nname: second\nclone: { disable: true }\nsteps: [ { name: other, image: alpine } ]\n",
			build: func(d *client.Context) { d.Stage.Name = "second" },
			check: func(t *testing.T, sp *spec.Spec) {
				if sp.Name != "second" || len(sp.Steps) != 1 || sp.Steps[0].Name != "other" {
					t.Errorf("the spec is %+v", sp)
				}
			}},
		{name: "a pipeline without a name is default", yaml: "kind: pipeline\nsteps: [ { name: a, image: alpine } ]", check: func(t *testing.T, sp *spec.Spec) {
			if len(sp.Steps) != 2 {
				t.Errorf("the spec is %+v", sp)
			}
		}},
		{name: "errors of other pipelines don't matter", yaml: simple + "---\nkind: pipeline\nname: broken\nsteps: [ { name: a, image: alpine, pull: sometimes } ]\n", check: func(t *testing.T, sp *spec.Spec) {
			if sp.Name != "default" {
				t.Errorf("the spec is %+v", sp)
			}
		}},
		{name: "no clone step when the sources are there", yaml: simple, loader: func(l *Loader) { l.NoClone = true }, check: func(t *testing.T, sp *spec.Spec) {
			if len(sp.Steps) != 1 || len(sp.Steps[0].DependsOn) != 0 {
				t.Errorf("the spec is %+v", sp)
			}
		}},
		{name: "a step may wait for a clone step that is left out", yaml: "kind: pipeline\nsteps: [{name: build, image: alpine, depends_on: [clone]}]\n", loader: func(l *Loader) { l.NoClone = true }, check: func(t *testing.T, sp *spec.Spec) {
			if len(sp.Steps) != 1 || len(sp.Steps[0].DependsOn) != 0 {
				t.Errorf("the spec is %+v", sp)
			}
		}},
		{name: "skipped steps never run", yaml: simple, loader: func(l *Loader) { l.Skip = func(step string) bool { return step == "build" } }, check: func(t *testing.T, sp *spec.Spec) {
			if sp.Steps[1].RunPolicy != spec.RunNever || sp.Steps[0].RunPolicy != spec.RunAlways {
				t.Errorf("the spec is %+v", sp)
			}
		}},
		{name: "secrets of the repository, and of the file", yaml: simple + "  environment: { P: { from_secret: password }, E: { from_secret: encrypted } }\n---\nkind: secret\nname: encrypted\ndata: ZWE=\n", check: func(t *testing.T, sp *spec.Spec) {
			build := sp.Steps[1]
			if !slices.ContainsFunc(build.Secrets, func(s *spec.Secret) bool { return s.Env == "P" && s.Data == "pa55word" }) {
				t.Error("the repository's secret isn't there")
			}
			if !slices.ContainsFunc(build.Notes, func(note string) bool { return strings.Contains(note, `"encrypted": it is encrypted in the file`) }) {
				t.Errorf("the notes are %q", build.Notes)
			}
		}},
		{name: "trusted repositories get host volumes", yaml: hostVolume, build: func(d *client.Context) { d.Repo.Trusted = true }, check: func(t *testing.T, sp *spec.Spec) {
			if sp.Volumes[1].Kind != spec.VolumePersistent {
				t.Errorf("the volume is %+v", sp.Volumes[1])
			}
		}},
		{name: "host paths that are open are bound", yaml: hostVolume, build: func(d *client.Context) { d.Repo.Trusted = true }, loader: func(l *Loader) { l.Compiler.HostPaths = []string{"/cache"} }, check: func(t *testing.T, sp *spec.Spec) {
			if sp.Volumes[1].Kind != spec.VolumeBind {
				t.Errorf("the volume is %+v", sp.Volumes[1])
			}
		}},
		{name: "the docker socket for all when it is open", yaml: strings.Replace(hostVolume, "/cache/npm", "/var/run/docker.sock", 1), loader: func(l *Loader) { l.OpenSocket = true }, check: func(t *testing.T, sp *spec.Spec) {
			if sp.Volumes[1].Kind != spec.VolumeSocket {
				t.Errorf("the volume is %+v", sp.Volumes[1])
			}
		}},
		{name: "a docker daemon for trusted repositories is the build's own", yaml: dind, build: func(d *client.Context) { d.Repo.Trusted = true }, check: standsIn(true)},
		{name: "a docker daemon for all when the socket is open", yaml: dind, loader: func(l *Loader) { l.OpenSocket = true }, check: standsIn(true)},
		{name: "a docker daemon for nobody else", yaml: dind, check: standsIn(false)},
		{name: "without a compiler the defaults hold", yaml: simple, loader: func(l *Loader) { l.Compiler = nil }, check: func(t *testing.T, sp *spec.Spec) {
			if sp.Steps[0].Image != "docker.io/drone/git:latest" {
				t.Errorf("the clone image is %q", sp.Steps[0].Image)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, d := testLoader(), details(tt.yaml)
			if tt.loader != nil {
				tt.loader(l)
			}
			if tt.build != nil {
				tt.build(d)
			}
			sp, _, err := l.Load(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			tt.check(t, sp)
		})
	}
}

const hostVolume = `
kind: pipeline
name: default
clone: { disable: true }
steps:
- name: build
  image: alpine
  volumes: [ { name: v, path: /v } ]
volumes:
- name: v
  host: { path: /cache/npm }
`

func TestLoadRefusesFiles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		yaml   string
		loader func(*Loader)
		build  func(*client.Context)
		want   []string
	}{
		{name: "all findings of parser and linter at once", yaml: "kind: pipeline\nname: default\nsteps:\n- name: a\n  image: alpine\n  commands: { a: b }\n- name: a\n  image: alpine\n  depends_on: [ nowhere ]\n",
			want: []string{".drone.yml:6:", "commands", ".drone.yml:7:", ".drone.yml:9:", "nowhere"}},
		{name: "host volumes of untrusted repositories", yaml: hostVolume, want: []string{`pipeline "default"`, "trusted"}},
		{name: "privileged steps of untrusted repositories", yaml: simple + "  privileged: true\n", want: []string{`step "build"`, "privileged"}},
		{name: "privileged steps where the operator refuses them", yaml: simple + "  privileged: true\n",
			build: func(d *client.Context) { d.Repo.Trusted = true }, loader: func(l *Loader) { l.RefusePrivileged = true }, want: []string{"privileged"}},
		{name: "YAML that is none", yaml: "kind: pipeline\nname: [", want: []string{".drone.yml:2"}},
		{name: "a syntax error in another document", yaml: "kind: [\n---\nkind: pipeline\nname: other\nsteps: []\n", want: []string{".drone.yml:1"}},
		{name: "the operator's name for the file", yaml: "kind: [", loader: func(l *Loader) { l.FileName = "ci/build.yml" }, want: []string{"ci/build.yml:1"}},
		{name: "a repository that doesn't say how its file is called", yaml: "kind: [", build: func(d *client.Context) { d.Repo.Config = "" }, want: []string{".drone.yml:1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, d := testLoader(), details(tt.yaml)
			if tt.loader != nil {
				tt.loader(l)
			}
			if tt.build != nil {
				tt.build(d)
			}
			_, _, err := l.Load(t.Context(), d)
			var invalid *resource.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("error %v is no InvalidError", err)
			}
			at := 0
			for _, want := range tt.want {
				i := strings.Index(err.Error()[at:], want)
				if i < 0 {
					t.Fatalf("error says nothing of %q, in this order:\n%v", want, err)
				}
				at += i
			}
		})
	}
}

func TestLoadFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build func(*client.Context)
		want  string
	}{
		{"an answer without anything", func(d *client.Context) { *d = client.Context{} }, `"build"`},
		{"no build", func(d *client.Context) { d.Build = nil }, `no "build"`},
		{"no stage", func(d *client.Context) { d.Stage = nil }, `no "stage"`},
		{"no configuration", func(d *client.Context) { d.Config = nil }, `no "config"`},
		{"an empty configuration", func(d *client.Context) { d.Config.Data = nil }, "empty configuration file"},
		{"no repository", func(d *client.Context) { d.Repo = nil }, `no "repository"`},
		{"no system", func(d *client.Context) { d.System = nil }, `no "system"`},
		{"a stage that isn't in the file", func(d *client.Context) { d.Stage.Name = "nowhere" }, `no docker pipeline "nowhere": it has "default"`},
		{"a bad substitution", func(d *client.Context) { d.Config.Data = []byte("kind: pipeline\nname: ${") }, ".drone.yml: line 2"},
		{"a variable that is too long", func(d *client.Context) {
			d.Config.Data = []byte(simple + "  environment: { LONG: " + strings.Repeat("x", 140000) + " }")
		}, `.drone.yml: compile pipeline "default": step "build": environment`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := details(simple)
			tt.build(d)
			s, _, err := testLoader().Load(t.Context(), d)
			if err == nil || !strings.Contains(err.Error(), tt.want) || s != nil {
				t.Fatalf("spec %v, error %v, want %q", s, err, tt.want)
			}
			if strings.Count(err.Error(), ".drone.yml") > 1 {
				t.Errorf("error %q names the file twice", err)
			}
		})
	}
	if _, _, err := testLoader().Load(t.Context(), nil); err == nil {
		t.Error("nothing gave no error")
	}
}

func TestLoadReturnsWarnings(t *testing.T) {
	yaml := simple + "  comands: [ x ]\n---\nkind: pipeline\nname: other\nstepps: []\nsteps: [ { name: a, image: alpine } ]\n"
	_, found, err := testLoader().Load(t.Context(), details(yaml))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Line != 8 || found[0].Severity != resource.Warning || found[0].File != ".drone.yml" {
		t.Errorf("the warnings are %v", found)
	}
}

// TestLoadSurvivesAnImageWithoutATag: such a step is written for tags and is not run for pushes.
func TestLoadSurvivesAnImageWithoutATag(t *testing.T) {
	yaml := simple + "- name: release\n  image: \"octo/app:${DRONE_TAG}\"\n  when: { event: [ tag ] }\n"
	s, _, err := testLoader().Load(t.Context(), details(yaml))
	if err != nil {
		t.Fatal(err)
	}
	if s.Steps[2].RunPolicy != spec.RunNever {
		t.Errorf("the step is %+v", s.Steps[2])
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := testLoader()
	l.Compiler.Registry = compiler.ExternalRegistry("http://127.0.0.1:1", "t", false)
	if _, _, err := l.Load(ctx, details(simple)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// FuzzLoad holds that no answer of a server makes the runner panic.
func FuzzLoad(f *testing.F) {
	for _, yaml := range []string{simple, hostVolume, "", "kind: ["} {
		data, err := json.Marshal(details(yaml))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"build":{"stages":[null]},"stage":{"name":"default","steps":[null]},"config":{"Data":"a2luZDogcGlwZWxpbmUKc3RlcHM6IFsgbnVsbCBd"},"repository":{},"system":{},"secrets":[null],"netrc":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var d *client.Context
		if json.Unmarshal(data, &d) != nil {
			return
		}
		s, _, err := testLoader().Load(t.Context(), d)
		if (s == nil) == (err == nil) {
			t.Errorf("spec %v, error %v", s, err)
		}
	})
}

// dind is a pipeline that would start a docker daemon.
const dind = "kind: pipeline\nservices: [{name: docker, image: 'docker:dind'}]\nsteps: [{name: build, image: docker, commands: [docker info]}]\n"

// standsIn wants the build's guard in place of that daemon, or the service as an ordinary one.
func standsIn(want bool) func(*testing.T, *spec.Spec) {
	return func(t *testing.T, s *spec.Spec) {
		t.Helper()
		if got := s.Steps[1].Daemon != nil; got != want {
			t.Errorf("stands in: %t, want %t: %+v", got, want, s.Steps[1])
		}
		if whole := slices.ContainsFunc(s.Volumes, func(v *spec.Volume) bool { return v.Kind == spec.VolumeSocket || v.Kind == spec.VolumeCerts }); whole != want {
			t.Errorf("docker volumes: %t, want %t: %+v", whole, want, s.Volumes)
		}
	}
}

// TestLoadNotesWarnings holds that each warning is in the log of the step that it is about, or of
// the first one.
func TestLoadNotesWarnings(t *testing.T) {
	yaml := `
kind: pipeline
name: default
stepps: []
clone: { disable: true }
steps:
- name: never
  image: "app:${DRONE_TAG}"
  when: { event: tag }
- name: first
  image: alpine
  detach: "true"
  volumes: [ { name: nowhere, path: /v } ]
- name: image
  image: octo/drone-docker
  privileged: true
  settings: { repo: octo/app }
`
	l, d := testLoader(), details(yaml)
	d.Repo.Trusted = true
	l.NoteWarnings = true
	l.Compiler.DockerPlugins = compiler.DefaultDockerPlugins()
	s, found, err := l.Load(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 6 {
		t.Errorf("%d warnings, want 6: %v", len(found), found)
	}
	for step, want := range map[string][]string{
		"never": nil,
		"first": {"stepps: unknown key", `step "never": image: "app:" is no image`, `the volume "nowhere" is not declared`},
		"image": {"adds octo/drone-docker to DRONE_RUNNER_DOCKER_PLUGINS", "privileged is set for this step and not granted"},
	} {
		notes := s.Find(step).Notes
		if len(notes) != len(want) {
			t.Errorf("the notes of %q are %q, want %q", step, notes, want)
			continue
		}
		for i := range want {
			if !strings.Contains(notes[i], want[i]) {
				t.Errorf("note %d of %q is %q, without %q", i+1, step, notes[i], want[i])
			}
		}
	}
	l.NoteWarnings = false
	if s, _, err = l.Load(t.Context(), d); err != nil || len(s.Find("first").Notes) != 0 {
		t.Errorf("the caller shows them, and they are noted as well (%v)", err)
	}
}

// TestLoadFrom holds that a file is parsed once for all of its stages, unless what it says depends
// on the stage.
func TestLoadFrom(t *testing.T) {
	for yaml, again := range map[string]bool{"": false, "x-stage: ${DRONE_STAGE_NAME}\n": true} {
		l, d := testLoader(), details(yaml+simple+"---\nkind: pipeline\nname: second\nsteps: [ { name: \"is-${DRONE_STAGE_NAME}\", image: alpine } ]\n")
		if !again {
			d.Config.Data = []byte(simple + "---\nkind: pipeline\nname: second\nsteps: [ { name: is-second, image: alpine } ]\n")
		}
		l.NoClone = true
		f, err := l.Read(d)
		if err != nil {
			t.Fatal(err)
		}
		d.Stage.Name = "second"
		for range 2 {
			s, _, err := l.LoadFrom(t.Context(), f, d)
			if err != nil {
				t.Fatal(err)
			}
			if s.Find("is-second") == nil || len(s.Steps) != 1 {
				t.Errorf("the steps are %+v", s.Steps)
			}
		}
		if p, err := f.Pipeline("second"); err != nil || p.Clone.Disable {
			t.Errorf("what was read has changed: %+v (%v)", p, err)
		}
	}
	if _, _, err := testLoader().LoadFrom(t.Context(), &File{}, nil); err == nil {
		t.Error("nothing gave no error")
	}
}

// TestConvertedFiles holds that findings say where their lines are.
func TestConvertedFiles(t *testing.T) {
	for name, want := range map[string]string{
		".drone.star": ".drone.star (converted to YAML):1:", "ci/build.jsonnet": "ci/build.jsonnet (converted to YAML):1:", ".drone.script": ".drone.script (converted to YAML):1:",
		".drone.yml": ".drone.yml:1:", "drone.yaml": "drone.yaml:1:", ".drone": ".drone:1:", "ci/drone": "ci/drone:1:",
	} {
		d := details("kind: [")
		d.Repo.Config = name
		if _, _, err := testLoader().Load(t.Context(), d); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

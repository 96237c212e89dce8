package compiler

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/environ/provider"
	"github.com/drone/runner-go/registry"
	"github.com/drone/runner-go/secret"
	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testClock is when every compilation of the tests happens.
var testClock = time.Unix(1700000100, 0).UTC()

// testCompiler has stable ids and a clock that stands still.
func testCompiler() *Compiler {
	return &Compiler{
		RunnerName: "runner-1",
		ID:         func() string { return "drone-id" },
		Now:        func() time.Time { return testClock },
	}
}

// testArgs is a push to the main branch of a private repository, without a pipeline.
func testArgs() Args {
	return Args{
		Build: &drone.Build{
			ID: 7, RepoID: 2, Trigger: "octo", Number: 42, Status: "pending", Event: "push", Link: "http://git.example.com/octo/lab/commit/054c6b2",
			Message: "change it", Before: "88a58b5299342b16f80d4d4c78cb948acea039c2", After: "054c6b23f62c958f444f00132782a5a343d7d701",
			Ref: "refs/heads/main", Source: "main", Target: "main", Author: "octo", AuthorName: "Octo Cat", AuthorEmail: "octo@example.com", Sender: "octo",
			Created: 1700000000, Version: 1, Params: map[string]string{"PARAM": "of the build"},
		},
		Stage: &drone.Stage{
			ID: 9, BuildID: 7, Number: 1, Name: "default", Kind: "pipeline", Type: "docker", Status: "pending", Machine: "runner-1", OS: "linux", Arch: "amd64",
			Created: 1700000000, Started: 1700000099, Version: 2, OnSuccess: true,
		},
		Repo: &drone.Repo{
			ID: 2, UID: "463392", UserID: 1, Namespace: "octo", Name: "lab", Slug: "octo/lab", HTTPURL: "http://git.example.com/octo/lab.git",
			SSHURL: "git@git.example.com:octo/lab.git", Link: "http://git.example.com/octo/lab", Branch: "main", Private: true, Visibility: "private",
			Active: true, Config: ".drone.yml", Trusted: true, Timeout: 60, Secret: "ZAGxw3RIOq6uzHj3wiLkrJzW1sEcE1KW",
		},
		Docker: true,
		System: &drone.System{Proto: "https", Host: "drone.example.com", Link: "https://drone.example.com", Version: "2.25.0"},
		Secrets: []*drone.Secret{
			{Name: "password", Data: "pa55word", PullRequest: true},
			{Name: "Token", Data: "t0ken"},
			{Name: "empty", Data: ""},
			{Name: "dockerconfig", Data: `{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOmh1Yi1wYXNzd29yZA=="},"registry.example.com:5000":{"username":"reg","password":"reg-password"},"blank.example.com":{}}}`},
		},
	}
}

func testNetrc() *drone.Netrc {
	return &drone.Netrc{Machine: "git.example.com", Login: "octo", Password: "netrc-password"}
}

// setups are the builds and configurations of the golden files that need others than the ordinary
// ones.
var setups = map[string]func(*Compiler, *Args){
	"environment": func(c *Compiler, _ *Args) {
		c.Environ = provider.Combine(provider.Static(map[string]string{"GLOBAL": "of the operator", "PARAM": "loses"}), masked{"GLOBAL_SECRET": "g10bal"})
		c.Proxy = map[string]string{"http_proxy": "http://proxy:8080", "HTTP_PROXY": "http://proxy:8080"}
	},
	"environment_pull_request": func(_ *Compiler, a *Args) {
		a.Build.Event, a.Build.Action, a.Build.Ref, a.Build.Title = "pull_request", "opened", "refs/pull/7/head", "Change it"
		a.Build.Source, a.Build.Fork = "feature", "fork/lab"
	},
	"environment_tag": func(_ *Compiler, a *Args) {
		a.Build.Event, a.Build.Ref = "tag", "refs/tags/v1.2.3-rc.1"
	},
	"environment_status": func(_ *Compiler, a *Args) {
		a.Build.Stages = []*drone.Stage{nil, {Name: "first", Status: "failure"}}
		a.Stage.Steps = []*drone.Step{nil}
	},
	"netrc": func(_ *Compiler, a *Args) { a.Netrc = testNetrc() },
	"netrc_clone_only": func(c *Compiler, a *Args) {
		c.NetrcCloneOnly = true
		a.Netrc = testNetrc()
	},
	"netrc_token": func(_ *Compiler, a *Args) {
		a.Netrc = &drone.Netrc{Machine: "git.example.com", Login: "scm-token", Password: "x-oauth-basic"}
	},
	"clone_image": func(c *Compiler, _ *Args) { c.CloneImage = "registry.example.com:5000/git:2" },
	"secrets_pull_request": func(c *Compiler, a *Args) {
		a.Build.Event = "pull_request"
		c.Secret = secret.StaticVars(map[string]string{"static": "of the operator"})
	},
	"secrets_operator": func(c *Compiler, _ *Args) {
		c.Secret = secret.StaticVars(map[string]string{"static": "of the operator", "password": "loses"})
	},
	"registry_operator": func(c *Compiler, _ *Args) {
		c.Registry = registry.Static([]*drone.Registry{
			nil,
			{Address: "docker.io", Username: "loses", Password: "operator-password"},
			{Address: "quay.io", Username: "operator", Password: "quay-password"},
			{Address: "https://quay.io", Username: "second", Password: "second-password"},
		})
	},
	"pull_secrets": func(_ *Compiler, a *Args) {
		a.Secrets = append(a.Secrets, &drone.Secret{Name: "second", Data: `{"auths":{"docker.io":{"username":"second","password":"second-password"}}}`})
	},
	"limits_operator": func(c *Compiler, _ *Args) {
		c.Limits = spec.Limits{Memory: 1 << 30, MemorySwap: 1 << 30, CPUPeriod: 100000, CPUQuota: 50000, CPUShares: 512, CPUSet: "0-1", ShmSize: 64 << 20}
	},
	"volumes_operator": func(c *Compiler, _ *Args) {
		c.Volumes = []OperatorVolume{
			{Source: "/etc/ssl/certs", Target: "/etc/ssl/certs", ReadOnly: true},
			{Source: "/run/docker.sock", Target: "/var/run/docker.sock"},
			{Source: "/var/run/", Target: "/outer-run"},
			{Source: "shared-cache", Target: "/cache/"},
		}
	},
	"volumes_shared": func(c *Compiler, _ *Args) { c.SharedPaths = []string{"/cache"} },
	"volumes_fork": func(c *Compiler, a *Args) {
		c.SharedPaths = []string{"/cache"}
		a.Build.Event, a.Build.Fork = "pull_request", "mallory/hello"
	},
	"volumes_host_paths": func(c *Compiler, _ *Args) { c.HostPaths = []string{"/srv/data", "/opt/"} },
	"networks_operator": func(c *Compiler, _ *Args) {
		c.Networks = []string{"proxy-net"}
		c.NetworkOptions = map[string]string{"com.docker.network.driver.mtu": "1400"}
	},
	"plugins_docker":  func(c *Compiler, _ *Args) { c.DockerPlugins = DefaultDockerPlugins() },
	"workspace_bound": func(c *Compiler, _ *Args) { c.WorkspaceSource = "/home/dev/lab" },
	"skip":            func(_ *Compiler, a *Args) { a.Skip = func(step string) bool { return step == "test" || step == "db" } },
	"when_deploy": func(_ *Compiler, a *Args) {
		a.Build.Event, a.Build.Deploy, a.Build.Cron, a.Build.Action = "promote", "production", "nightly", "created"
	},
	"substitution_tag": func(_ *Compiler, a *Args) { a.Build.Event, a.Build.Ref = "tag", "refs/tags/v1.2.3" },
}

// masked provides secret variables.
type masked map[string]string

func (m masked) List(context.Context, *provider.Request) ([]*provider.Variable, error) {
	vars := []*provider.Variable{nil}
	for _, v := range provider.ToSlice(m) {
		v.Mask = true
		vars = append(vars, v)
	}
	return vars, nil
}

// TestGolden compiles each testdata/NAME.yml and compares the spec with NAME.json. What the names
// mean is in the YAML's own comments.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil || len(files) < 40 {
		t.Fatalf("there are %d golden files, which are at least 40 (%v)", len(files), err)
	}
	used := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yml")
		used[name] = true
		t.Run(name, func(t *testing.T) {
			c, a := testCompiler(), testArgs()
			if set := setups[name]; set != nil {
				set(c, &a)
			}
			got := compileFile(t, c, a, file)
			golden := strings.TrimSuffix(file, ".yml") + ".json"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := compileFile(t, c, a, file); !bytes.Equal(got, again) {
				t.Error("compiled twice, it differs: the compiler isn't pure")
			}
		})
	}
	for name := range setups {
		if !used[name] {
			t.Errorf("testdata/%s.yml is missing", name)
		}
	}
}

// compileFile is the spec of the first pipeline of a file, or of the one called main, as JSON.
func compileFile(t *testing.T, c *Compiler, a Args, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(t.Context(), parse(t, a, data))
	if err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, s)
	if !strings.HasPrefix(filepath.Base(file), "environment") {
		dropOrdinary(t, a, s)
	}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// parse adds a file's pipeline and manifest to the args.
func parse(t *testing.T, a Args, data []byte) Args {
	t.Helper()
	env := Metadata(a.System, a.Repo, a.Build, a.Stage, testClock)
	data, err := resource.Substitute(data, env)
	if err != nil {
		t.Fatal(err)
	}
	f, found := resource.Parse("test.yml", data)
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	if a.Pipeline, err = f.Pipeline("default"); err != nil {
		t.Fatal(err)
	}
	a.Manifest = f.Manifest()
	return a
}

// dropOrdinary leaves out what every spec has: the labels, the beginning of every script, and the
// variables that every step of such a build has, with the values that they have there. The golden
// files called environment show them.
func dropOrdinary(t *testing.T, a Args, sp *spec.Spec) {
	t.Helper()
	a.Netrc, a.Secrets = nil, nil
	a.Pipeline = &resource.Pipeline{Steps: []*resource.Step{{Name: "a", Image: "a"}}}
	plain, err := testCompiler().Compile(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	ordinary := plain.Steps[1].Env
	delete(ordinary, "DRONE_STEP_NAME")
	delete(ordinary, "DRONE_STEP_NUMBER")
	sp.Labels = nil
	for _, s := range sp.Steps {
		s.Labels = nil
		if text, found := s.Env[scriptVariable]; found {
			s.Env[scriptVariable] = strings.TrimPrefix(text, preamble)
		}
		maps.DeleteFunc(s.Env, func(name, value string) bool {
			text, found := ordinary[name]
			return found && text == value
		})
	}
}

// checkInvariants is what holds for every spec.
func checkInvariants(t *testing.T, sp *spec.Spec) {
	t.Helper()
	volumes, steps, ids := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, v := range sp.Volumes {
		if volumes[v.Name] {
			t.Errorf("two volumes are called %q", v.Name)
		}
		volumes[v.Name] = true
		if own := v.Kind == spec.VolumeTemp || v.Kind == spec.VolumeMemory || v.Kind == spec.VolumePersistent; own != (v.ID != "") {
			t.Errorf("volume %q of kind %s has the id %q", v.Name, v.Kind, v.ID)
		}
		if (v.Kind == spec.VolumeBind) && !filepath.IsAbs(v.Path) {
			t.Errorf("volume %q is bound from %q", v.Name, v.Path)
		}
	}
	number := 0
	for _, s := range sp.Steps {
		if steps[s.Name] || ids[s.ID] {
			t.Errorf("two steps are called %q, or have the id %s", s.Name, s.ID)
		}
		steps[s.Name], ids[s.ID] = true, true
		if s.RunPolicy != spec.RunNever {
			number++
			if s.Number != number {
				t.Errorf("step %q has number %d, want %d", s.Name, s.Number, number)
			}
		} else if s.Number != 0 || len(s.Secrets) > 0 || s.Auth != nil {
			t.Errorf("step %q never runs, and has number %d, secrets or credentials", s.Name, s.Number)
		}
		paths := map[string]bool{}
		for _, m := range s.Mounts {
			if !volumes[m.Volume] || paths[m.Path] || !filepath.IsAbs(m.Path) {
				t.Errorf("step %q mounts volume %q at %q: unknown, twice or relative", s.Name, m.Volume, m.Path)
			}
			paths[m.Path] = true
		}
		for _, secret := range s.Secrets {
			if _, both := s.Env[secret.Env]; both {
				t.Errorf("step %q: %s is a variable and a secret", s.Name, secret.Env)
			}
		}
	}
	for _, s := range sp.Steps {
		for _, name := range s.DependsOn {
			if !steps[name] {
				t.Errorf("step %q depends on %q, which isn't there", s.Name, name)
			}
		}
	}
	if len(sp.Labels) == 0 {
		t.Error("the spec has no labels")
	}
}

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	call{args: []string{"version"}}.run(t).expect(t, 0, "drone-runner-sysbox v0.0.0-test (go1.")
	call{args: []string{"version", "please"}}.run(t).expect(t, 2)
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for command, want := range map[string][]string{
		"":        {"exec", "daemon", "compile", "lint", "version", "Exit status"},
		"daemon":  {"ENVFILE", "DRONE_RUNNER_DRAIN_TIMEOUT", "Exit status"},
		"compile": {"FILE", "Exit status"},
		"lint":    {"--trusted", "--json", "Exit status"},
		"exec": {"--pipeline", "--include", "--exclude", "--trusted", "--event", "--branch", "--ref", "--repo", "--env", "--env-file", "--secret-file", "--clone", "--timeout",
			"--network", "--volume", "Ctrl-C", "!--privileged"},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			call{args: append(strings.Fields(command), "--help")}.run(t).expect(t, 0, want...)
		})
	}
}

func TestCompile(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"secrets": "token=hunter22\n", ".drone.yml": `
kind: pipeline
name: one
steps:
- name: a
  image: golang
  environment: {TOKEN: {from_secret: token}}
  commands: [go build]
---
kind: pipeline
name: two
trigger: {event: tag}
steps: [{name: b, image: "app:${DRONE_TAG}", privileged: true}]
`})
	type spec struct {
		Name  string
		Steps []struct{ Name, Image string }
	}
	decode := func(t *testing.T, out string) (specs []spec) {
		t.Helper()
		for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
			var s spec
			if err := dec.Decode(&s); err != nil {
				t.Fatalf("%v in:\n%s", err, out)
			}
			specs = append(specs, s)
		}
		return specs
	}

	r := call{dir: dir, args: []string{"compile", "--secret-file", "secrets", ".drone.yml"}, env: []string{"DOCKER_HOST=unix:///no/docker/is/needed"}}.run(t)
	r.expect(t, 0, "pipeline two is left out: its trigger", `"data": "******"`, "!hunter22")
	want := []spec{{Name: "one", Steps: []struct{ Name, Image string }{{"a", "docker.io/library/golang:latest"}}}}
	if diff := cmp.Diff(want, decode(t, r.stdout)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r = call{dir: dir, args: []string{"compile", "--trusted", "--ref", "refs/tags/v1.2.3", ".drone.yml"}}.run(t)
	r.expect(t, 0, "warning: pipeline \"two\"")
	if got := decode(t, r.stdout); len(got) != 2 || got[1].Steps[0].Image != "docker.io/library/app:v1.2.3" {
		t.Errorf("both pipelines, the second with its tag: %+v", got)
	}
	call{dir: dir, args: []string{"compile", "--pipeline", "two", "--ref", "refs/tags/v1", ".drone.yml"}}.run(t).expect(t, 2, `.drone.yml:13:36: error: pipeline "two": step "b": privileged`, "!\"id\"")
	call{dir: dir, args: []string{"compile"}}.run(t).expect(t, 2, "accepts 1 arg")
}

// TestCompileShowsWhyNothingCanBeRead holds that no other complaint hides what is wrong with a
// file.
func TestCompileShowsWhyNothingCanBeRead(t *testing.T) {
	t.Parallel()
	const unread = "f.yml:3:1: error: pipeline \"default\": steps: needs a list and has a map"
	for _, row := range []struct {
		name, yaml string
		args       []string
		want       string
	}{
		{"steps as a map", "kind: pipeline\nservices: []\nsteps: {a: {image: b}}\n", nil, unread},
		{"steps as a map, and one of them named", "kind: pipeline\nservices: []\nsteps: {a: {image: b}}\n", []string{"--include", "a"}, unread},
		{"steps as a map, and another one left out", "kind: pipeline\nservices: []\nsteps: {a: {image: b}}\n", []string{"--exclude", "b"}, unread},
		{"services as a map", "kind: pipeline\nsteps: []\nservices: {a: {image: b}}\n", nil, "f.yml:3:1: error: pipeline \"default\": services: needs a list"},
		{"a step as a text", "kind: pipeline\nsteps:\n- build\n", nil, "f.yml:3:3: error: pipeline \"default\": steps[0]: needs a map"},
		{"another document", "kind: pipeline\ntrigger: {event: tag}\nsteps: []\n---\nkind: [\n", nil, "f.yml:5:1: error: YAML"},
		{"another document, and it is named", "kind: pipeline\n---\nname: b\nkind: [\n", []string{"--pipeline", "b"}, "f.yml:4:1: error: YAML"},
	} {
		for _, command := range []string{"compile", "exec"} {
			t.Run(row.name+", "+command, func(t *testing.T) {
				t.Parallel()
				dir := folder(t, map[string]string{"f.yml": row.yaml})
				call{dir: dir, args: append([]string{command, "f.yml"}, row.args...), env: []string{"DOCKER_HOST=unix:///no/docker/is/needed"}}.run(t).expect(t, 2, row.want, "!no step")
			})
		}
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"fine.yml":     "kind: pipeline\nsteps:\n- name: a\n  image: app:${DRONE_TAG}\n  environment: {X: '${DRONE_COMMIT_SHA:0:8}${UNKNOWN}'}\n",
		"warned.yml":   "kind: pipeline\nsteps:\n- name: a\n  image: b\n  imaje: c\n",
		"wrong.yml":    "kind: pipeline\nname: p\nsteps:\n- name: a\n  volumes: [{name: v, path: /v}]\n---\nkind: pipeline\nname: q\ndepends_on: [r]\nsteps:\n- {name: b, image: c, privileged: true}\n",
		"trusted.yml":  "kind: pipeline\nsteps: [{name: a, image: b, privileged: true}]\n",
		"host.yml":     "kind: pipeline\nsteps: [{name: a, image: b, volumes: [{name: v, path: /v}]}]\nvolumes: [{name: v, host: {path: /dev/shm/ours}}]\n",
		"nothing.yml":  "# nothing\n",
		"others.yml":   "kind: pipeline\ntype: exec\nname: x\n",
		"unclosed.yml": "kind: pipeline\nname: ${DRONE_BRANCH\n",
		"server.yml":   "%YAML 1.1\n---\nkind: pipeline\nsteps: [{name: a, image: b, depends_on: c, detach: 'yes'}, {name: c, image: b}]\n---\nkind: pipeline\n---\nsteps: []\n",
		"plugin.yml":   "kind: pipeline\nsteps: [{name: a, image: octo/drone-docker, settings: {repo: a/b}}, {name: b, image: thegeeklab/drone-docker-buildx, settings: {repo: a/b}}]\n",
		"x.star":       "def main(ctx):\n  return {}\n",
	})
	for _, row := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"nothing wrong", []string{"fine.yml"}, 0, []string{"!fine.yml"}},
		{"a warning is no error", []string{"warned.yml"}, 0, []string{`warned.yml:5:3: warning: pipeline "default": step "a": imaje: `}},
		{"everything wrong, with its place", []string{"wrong.yml"}, 2, []string{
			`wrong.yml:4:3: error: pipeline "p": step "a": image: `, `wrong.yml:5:14: warning: pipeline "p": step "a": volumes[0].name: `, `wrong.yml:9:14: warning: pipeline "q": depends_on: there is no pipeline "r"`, `wrong.yml:11:23: error: pipeline "q": step "b": privileged: `}},
		{"several files", []string{"fine.yml", "warned.yml", "wrong.yml"}, 2, []string{"warned.yml:5", "wrong.yml:4"}},
		{"untrusted", []string{"trusted.yml"}, 2, []string{"trusted.yml:2"}},
		{"trusted", []string{"--trusted", "trusted.yml"}, 0, []string{"warning"}},
		{"trusted, and refused all the same", []string{"--trusted", "--refuse-privileged", "trusted.yml"}, 2, []string{"error"}},
		{"a host path", []string{"--trusted", "host.yml"}, 2, []string{"/dev/shm/ours"}},
		{"a host path that the operator allows", []string{"--trusted", "--host-path", "/dev/shm", "host.yml"}, 0, []string{"!error"}},
		{"an empty file", []string{"nothing.yml"}, 2, []string{"nothing.yml: error: the file holds no pipeline"}},
		{"pipelines of other runners", []string{"others.yml"}, 0, nil},
		{"a substitution that isn't", []string{"unclosed.yml"}, 2, []string{"unclosed.yml: error: line 2"}},
		{"what Drone's server refuses", []string{"server.yml"}, 0, []string{
			"server.yml:1:1: warning: Drone's server refuses this: the directive", `server.yml:4:29: warning: pipeline "default": step "a": depends_on: Drone's server refuses this: a list`,
			`depends_on[0]: Drone's server refuses this: the step "c" stands below`, `detach: Drone's server refuses this: the quotes`,
			`server.yml:6:1: warning: pipeline "default": name: Drone's server refuses this: the pipeline in line 3`, "server.yml:8:1: warning: kind: Drone's server refuses this"}},
		{"a plugin that isn't known", []string{"plugin.yml"}, 0, []string{`step "a": image: octo/drone-docker looks like`, "adds octo/drone-docker to DRONE_RUNNER_DOCKER_PLUGINS", "!drone-docker-buildx"}},
		{"a plugin that the operator knows", []string{"--docker-plugin", "octo/drone-docker", "plugin.yml"}, 0, []string{"!warning"}},
		{"a program", []string{"x.star"}, 2, []string{"x.star: error: this isn't YAML, but what Drone's server converts"}},
		{"a file that isn't there", []string{"none.yml", "warned.yml"}, 2, []string{"none.yml: no such file", "warned.yml:5"}},
		{"no file", nil, 2, []string{"requires at least 1 arg"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			call{dir: dir, args: append([]string{"lint"}, row.args...)}.run(t).expect(t, row.code, row.want...)
		})
	}
	t.Run("standard input, JSON", func(t *testing.T) {
		t.Parallel()
		r := call{stdin: content(t, dir, "warned.yml"), args: []string{"lint", "--json", "-"}}.run(t)
		var got resource.Findings
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
		if len(got) != 1 || got[0].File != "<stdin>" || got[0].Line != 5 || got[0].Step != "a" || got[0].Key != "imaje" || r.code != 0 {
			t.Errorf("one warning with its place: %s", r)
		}
	})
	t.Run("no finding, JSON", func(t *testing.T) {
		t.Parallel()
		if r := (call{dir: dir, args: []string{"lint", "--json", "fine.yml"}}).run(t); r.stdout != "[]\n" || r.code != 0 {
			t.Errorf("an empty list: %s", r)
		}
	})
}

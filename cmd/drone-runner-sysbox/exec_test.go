//go:build !unit

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
)

// job is a call of exec on a file, whose every object in the daemon has a label of its own.
type job struct {
	call
	dir, label string
}

// newJob writes the files, .drone.yml among them, in which IMAGE stands for one that is there.
func newJob(t *testing.T, files map[string]string, args ...string) job {
	t.Helper()
	image := standin.Image(t, "busybox")
	for name, content := range files {
		files[name] = strings.ReplaceAll(content, "IMAGE", image)
	}
	dir := folder(t, files)
	slug := "octo/" + unique("exec")
	j := job{dir: dir, label: "io.drone.repo.slug=" + slug}
	j.call = call{dir: dir, args: append([]string{"exec", "--repo", slug}, args...)}
	leavesNothing(t, j.label)
	return j
}

func TestExecPasses(t *testing.T) {
	t.Parallel()
	j := newJob(t, map[string]string{"input.txt": "from the folder\n", ".drone.yml": `
kind: pipeline
type: docker
name: default
services:
- name: web
  image: IMAGE
  commands:
  - mkdir -p /www && echo "hello from the service" >/www/index.html
  - exec httpd -f -p 8080 -h /www
steps:
- name: read
  image: IMAGE
  commands:
  - cat input.txt
  - echo written >output.txt
- name: talk
  image: IMAGE
  commands:
  - until wget -qO- http://web:8080/; do sleep 0.2; done
- name: last
  image: IMAGE
  commands:
  - test "$(cat output.txt)" = written
  - printf 'no end of line'
`})
	r := j.run(t)
	r.expect(t, 0, "read | from the folder\n", "talk | hello from the service\n", "last | no end of line\n", "pipeline default: success", "!skipped")
	if got := content(t, j.dir, "output.txt"); got != "written\n" {
		t.Errorf("the workspace is the folder: output.txt is %q", got)
	}
	if r.stderr != "" {
		t.Errorf("a build that passes says nothing on standard error: %q", r.stderr)
	}
}

// outcomes is a file with a step that fails, and what follows.
const outcomes = `
kind: pipeline
name: default
steps:
- {name: first, image: IMAGE, commands: [echo one]}
- {name: broken, image: IMAGE, commands: [exit 3]}
- {name: after, image: IMAGE, commands: [echo two]}
- {name: cleanup, image: IMAGE, commands: [echo status is $DRONE_BUILD_STATUS], when: {status: [failure]}}
`

func TestExecOutcomes(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, yaml string
		args       []string
		code       int
		want       []string
	}{
		{"a failing step is shown as such", outcomes, nil, 1,
			[]string{"broken  > failure, exit code 3", "after   > skipped", "cleanup | status is failure", "pipeline default: failure", "!| two"}},
		{"a failure that is ignored", "kind: pipeline\nsteps: [{name: a, image: IMAGE, failure: ignore, commands: [exit 3]}, {name: b, image: IMAGE, commands: [echo on]}]", nil, 0,
			[]string{"a > failure, exit code 3 (ignored)", "b | on", "pipeline default: success"}},
		{"an image that isn't there", "kind: pipeline\nsteps: [{name: a, image: 'standin/nothing:9', pull: never, commands: [a]}]", nil, 1,
			[]string{"a > error, exit code 255", "standin/nothing:9"}},
		{"a command that isn't there", "kind: pipeline\nsteps: [{name: a, image: IMAGE, entrypoint: [/no/such/thing]}]", nil, 1,
			[]string{"a > error", "/no/such/thing"}},
		{"a step that is too slow", "kind: pipeline\nsteps: [{name: slow, image: IMAGE, commands: [sleep 300]}, {name: b, image: IMAGE, commands: [echo on]}]", []string{"--timeout", "1s"}, 1,
			[]string{"pipeline default: killed", "b    > skipped", "ran longer than 1s, its timeout (--timeout sets it)"}},
		{"--include", outcomes, []string{"--include", "first,cleanup"}, 0, []string{"first   | one", "!broken"}},
		{"--exclude", outcomes, []string{"--exclude", "broken"}, 0, []string{"first   | one", "after   | two", "!broken"}},
		{"--include and --exclude", outcomes, []string{"--include=first", "--include=broken", "--exclude=broken"}, 0, []string{"first | one", "!broken"}},
		{"exit code 78 skips the rest", "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: [exit 78]}, {name: b, image: IMAGE, commands: [echo on]}]", nil, 0,
			[]string{"b > skipped"}},
		{"exit code 78 skips nothing that always runs", "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: [exit 78]}, {name: b, image: IMAGE, commands: [echo on], when: {status: [success, failure]}}]", nil, 0,
			[]string{"b | on"}},
		{"no steps", "kind: pipeline\nsteps: []", nil, 0, []string{"steps: the pipeline has no steps, and succeeds at once", "pipeline default: 0 steps", "pipeline default: success"}},
		{"no steps, and nothing else", "kind: pipeline", nil, 0, []string{"pipeline default: success"}},
		{"services alone", "kind: pipeline\nservices: [{name: db, image: IMAGE, commands: [sleep 300]}]", nil, 0, []string{"db > started in the background", "pipeline default: success"}},
		{"a pipeline that nobody knows to wait for", "kind: pipeline\ndepends_on: [other]\nsteps: [{name: a, image: IMAGE, commands: [echo on]}]", nil, 0, []string{"warning: pipeline \"default\": depends_on: there is no pipeline \"other\"", "a | on"}},
		{"mounts of nothing", "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: ['test ! -e /cache', 'test ! -e /b && echo on'], volumes: [{name: v, path: /cache}, {name: w, path: /b}]}]\nvolumes: [{name: w}]", nil, 0,
			[]string{"volumes[0].name: the volume \"v\" is not declared, and the mount is ignored", "volumes[0].temp: the volume has no source", "a | on"}},
		{"variables without a value", "kind: pipeline\nsteps: [{name: a, image: IMAGE, environment: {TOKEN: {from_secret: nowhere}, EMPTY: ''}, settings: {x: '', y: {from_secret: nowhere}, z: []}, " +
			"commands: ['echo \"$${TOKEN-unset} $${EMPTY-unset} $${PLUGIN_X-unset} $${PLUGIN_Y-unset} $${PLUGIN_Z-unset} $${DRONE_DEPLOY_TO-unset}\" | sed s/unset/no/g']}]", nil, 0,
			[]string{"a |   no  no no\n", "TOKEN is empty: this build doesn't get secret \"nowhere\""}},
		{"errors come after the command that made them", "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: ['echo one >&2', 'echo two', 'echo three >&2']}]", nil, 0,
			[]string{"a | + echo one >&2\na | one\na | + echo two\na | two\na | + echo three >&2\na | three\n"}},
		{"the docker socket is a share of the machine's", "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: ['test -S /var/run/docker.sock && echo it is there'], volumes: [{name: d, path: /var/run/docker.sock}]}]\nvolumes: [{name: d, host: {path: /var/run/docker.sock}}]", []string{"--trusted"}, 0,
			[]string{"| it is there"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			newJob(t, map[string]string{".drone.yml": row.yaml}, row.args...).run(t).expect(t, row.code, row.want...)
		})
	}
}

// TestExecDetachedFailures holds that a service or detached step which failed is shown so, with its
// reason once.
func TestExecDetachedFailures(t *testing.T) {
	t.Parallel()
	r := newJob(t, map[string]string{".drone.yml": `
kind: pipeline
services:
- {name: gone, image: 'standin/nothing:9', pull: never}
- {name: dies, image: IMAGE, commands: [echo last words, exit 3]}
- {name: lives, image: IMAGE, commands: [sleep 300]}
steps:
- {name: bg, image: IMAGE, detach: true, entrypoint: [/no/such/thing]}
- {name: a, image: IMAGE, commands: ["until [ -e /tmp/x ]; do sleep 2; touch /tmp/x; done"]}
`}).run(t)
	r.expect(t, 0, "gone  > failed after", "bg    > failed after", "dies  > failed after", "dies  > exit code 3", "lives > success after", "gone    failed", "dies    failed", "bg      failed", "lives   success",
		`warning: service "gone" has failed (the stage goes on)`, "pipeline default: success")
	for _, once := range []string{"forbids to fetch it", "the image has no such program", "exit code 3", "| last words"} {
		if n := strings.Count(r.stdout+r.stderr, once); n != 1 {
			t.Errorf("%q is there %d times: %s", once, n, r)
		}
	}
}

func TestExecParallelSteps(t *testing.T) {
	t.Parallel()
	// Each waits for the other, so both have to run at once.
	j := newJob(t, map[string]string{".drone.yml": `
kind: pipeline
steps:
- {name: a, image: IMAGE, depends_on: [], commands: [touch a, "until [ -e b ]; do sleep 0.1; done"]}
- {name: b, image: IMAGE, depends_on: [], commands: [touch b, "until [ -e a ]; do sleep 0.1; done"]}
- {name: c, image: IMAGE, depends_on: [a, b], commands: [echo joined]}
`})
	j.run(t).expect(t, 0, "c | joined")
}

func TestExecNothingToRun(t *testing.T) {
	t.Parallel()
	wrong := "kind: pipeline\nsteps:\n- name: a\n  commands: [x]\n- name: a\n  image: b\n  privileged: true\n  imaje: c\n"
	fine := "kind: pipeline\nname: one\nsteps: [{name: a, image: b}]\n"
	dir := folder(t, map[string]string{
		"wrong.yml": wrong, "fine.yml": fine, "syntax.yml": "kind: [\n", "empty.yml": "", "vm.yml": "kind: pipeline\ntype: vm\nname: one\n", "slip.yml": "kind: pipelin\nname: one\n",
		"promoted.yml": fine + "trigger: {event: promote}\n",
		"windows.yml":  fine + "platform: {os: windows}\n",
		"circle.yml":   "kind: pipeline\nname: a\ndepends_on: [b]\nsteps: [{name: s, image: i}]\n---\nkind: pipeline\nname: b\ndepends_on: [a, zebra]\nsteps: [{name: s, image: i}]\n",
		"bad.env":      "PASSWORD=hunter22\nwhat is \"this\n",
		"subst.yml":    "kind: pipeline\nsteps: [{name: a, image: '${'}]\n",
	})
	for _, row := range []struct {
		name string
		args []string
		env  []string
		want []string
	}{
		{"every finding, one a line", []string{"exec", "wrong.yml"}, nil, []string{"wrong.yml:3:3: error: pipeline \"default\": step \"a\": image:", "wrong.yml:7:3: error: pipeline \"default\": step \"a\": privileged:", "wrong.yml:8:3: warning:", "did you mean image?"}},
		{"a file that isn't there", []string{"exec", "nothing.yml"}, nil, []string{"nothing.yml: no such file"}},
		{"no .drone.yml", []string{"exec"}, nil, []string{".drone.yml: no such file"}},
		{"YAML that isn't", []string{"exec", "syntax.yml"}, nil, []string{"syntax.yml:", "error: YAML"}},
		{"an empty file", []string{"exec", "empty.yml"}, nil, []string{"empty.yml has no docker pipeline"}},
		{"a pipeline of another runner", []string{"exec", "vm.yml"}, nil, []string{"vm.yml has no docker pipeline"}},
		{"a slip in its kind", []string{"exec", "slip.yml"}, nil, []string{"slip.yml:1:1: warning:", "did you mean pipeline?", "slip.yml has no docker pipeline"}},
		{"a pipeline of another runner by name", []string{"exec", "--pipeline", "one", "vm.yml"}, nil, []string{"vm.yml has no docker pipeline"}},
		{"a pipeline that isn't there", []string{"exec", "--pipeline", "two", "fine.yml"}, nil, []string{`no docker pipeline "two": it has "one"`}},
		{"a pipeline of another platform", []string{"exec", "windows.yml"}, nil, []string{"no pipeline is to be run", "one: it is for a runner of windows"}},
		{"a pipeline of another platform, by name", []string{"exec", "--pipeline", "one", "windows.yml"}, nil, []string{"linux containers"}},
		{"no trigger matches", []string{"exec", "promoted.yml"}, nil, []string{"no pipeline is to be run", "one: its trigger doesn't match (event push", "--pipeline runs it all the same"}},
		{"pipelines in a circle", []string{"exec", "circle.yml"}, nil, []string{`circle: a → b → a`, `there is no pipeline "zebra"`}},
		{"a substitution that isn't", []string{"exec", "subst.yml"}, nil, []string{"subst.yml: line 2"}},
		{"an unknown flag", []string{"exec", "--privileged"}, nil, []string{"unknown flag: --privileged", "--help"}},
		{"an unknown command", []string{"exce"}, nil, []string{`no command "exce"`, `did you mean "exec"?`}},
		{"two files", []string{"exec", "a", "b"}, nil, []string{"accepts at most 1 arg"}},
		{"a step that isn't there", []string{"exec", "--include", "b", "fine.yml"}, nil, []string{`--include: there is no step "b": there are a`}},
		{"an event that isn't", []string{"exec", "--event", "psuh", "fine.yml"}, nil, []string{`there is no event "psuh": write one of push`}},
		{"a tag that isn't there", []string{"exec", "--event", "tag", "fine.yml"}, nil, []string{"--ref refs/tags/NAME"}},
		{"a repository without namespace", []string{"exec", "--repo", "lab", "fine.yml"}, nil, []string{`--repo: "lab"`}},
		{"a variable without name", []string{"exec", "--env", "=x", "fine.yml"}, nil, []string{"--env =x"}},
		{"a variable that this shell lacks", []string{"exec", "--env", "NO_SUCH_VARIABLE", "fine.yml"}, nil, []string{"--env NO_SUCH_VARIABLE"}},
		{"an environment file that isn't", []string{"exec", "--env-file", "bad.env", "fine.yml"}, nil, []string{"bad.env", "KEY=VALUE", "!hunter22"}},
		{"a secret file that isn't", []string{"exec", "--secret-file", "bad.env", "fine.yml"}, nil, []string{"--secret-file: bad.env", "!hunter22"}},
		{"a secret file that isn't there", []string{"exec", "--secret-file", "none", "fine.yml"}, nil, []string{"--secret-file: open none"}},
		{"a volume that isn't", []string{"exec", "--volume", "/a", "fine.yml"}, nil, []string{`--volume: "/a"`}},
		{"a timeout that isn't", []string{"exec", "--timeout", "5", "fine.yml"}, nil, []string{"--timeout"}},
		{"no time at all", []string{"exec", "--timeout", "0s", "fine.yml"}, nil, []string{"--timeout: 0s"}},
		{"nothing to clone", []string{"exec", "--clone", "fine.yml"}, nil, []string{"--clone", "remote origin"}},
		{"no Docker", []string{"exec", "fine.yml"}, []string{"DOCKER_HOST=unix:///no/such/docker.sock"}, []string{"unix:///no/such/docker.sock", "DOCKER_HOST"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := call{dir: dir, args: row.args, env: row.env}.run(t)
			r.expect(t, 2, row.want...)
			if r.stdout != "" {
				t.Errorf("nothing was run, so standard output is empty: %s", r)
			}
		})
	}
}

func TestExecFromStandardInput(t *testing.T) {
	t.Parallel()
	j := newJob(t, map[string]string{}, "-")
	j.stdin = "kind: pipeline\nsteps: [{name: a, image: '" + standin.Image(t, "busybox") + "', commands: [echo read]}]\n"
	j.run(t).expect(t, 0, "a | read")
}

func TestExecVariables(t *testing.T) {
	t.Parallel()
	j := newJob(t, map[string]string{
		"a.env": "ONE=file\nTWO=file\n", "b.env": "TWO=later file\n",
		".drone.yml": `
kind: pipeline
steps:
- name: show
  image: IMAGE
  environment: {FIXED: here}
  commands:
  - echo "$ONE, $TWO, $THREE, $FOUR, $FIXED, ${ONE} ${DRONE_BRANCH} ${NONE:-default}"
  - echo "$DRONE_BUILD_EVENT $DRONE_COMMIT_REF $DRONE_DEPLOY_TO $DRONE_REPO_BRANCH $DRONE_COMMIT_SHA $DRONE_SYSTEM_HOST"
`}, "--env-file", "a.env", "--env-file", "b.env", "--env", "THREE=a, b=c", "--env", "FOUR", "--branch", "topic/x", "--event", "promote", "--target", "production", "--commit", "1234567", "--instance", "ci.example.com")
	j.env = []string{"FOUR=handed on"}
	j.run(t).expect(t, 0,
		"show | file, later file, a, b=c, handed on, here, file topic/x default\n",
		"show | promote refs/heads/topic/x production main 1234567 ci.example.com\n")
}

func TestExecSecretsAreMasked(t *testing.T) {
	t.Parallel()
	j := newJob(t, map[string]string{
		"secrets": "token=hunter22\nkey=\"first line\\nsecond line\"\nquoted='pa$$word#1'\n",
		".drone.yml": `
kind: pipeline
steps:
- name: leak
  image: IMAGE
  environment: {TOKEN: {from_secret: token}, KEY: {from_secret: key}, QUOTED: {from_secret: quoted}, NONE: {from_secret: nothing}}
  commands:
  - test "$TOKEN" = hunter22
  - echo "token $TOKEN, in pieces"; printf hunt; sleep 0.3; printf 'er%s\n' 22
  - echo "$KEY"
  - test "$(printf %s "$QUOTED" | wc -c)" = 10
  - echo "$TOKEN" >secret.txt
- name: other
  image: IMAGE
  commands: [cat secret.txt]
`}, "--secret-file", "secrets")
	j.run(t).expect(t, 0, "leak  | token ******, in pieces", "other | ******", "nothing", "!second line", "!er22")
}

func TestExecClone(t *testing.T) {
	t.Parallel()
	cloneImage := standin.Image(t, "git")
	for _, row := range []struct{ name, login, password string }{
		{"public", "", ""},
		{"private", "mona", "s3cret-of-git"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			repo := gitServer(t, map[string]string{"tracked.txt": "from the repository\n"}, row.login, row.password)
			j := newJob(t, map[string]string{"untracked.txt": "", ".drone.yml": `
kind: pipeline
steps:
- name: look
  image: IMAGE
  commands:
  - cat tracked.txt
  - test ! -e untracked.txt
  - test "$DRONE_COMMIT_SHA" = "$WANT"
  - echo "$DRONE_REMOTE_URL $DRONE_COMMIT_AUTHOR_EMAIL"
`}, "--clone", "--clone-image", cloneImage, "--env", "WANT="+repo.commit)
			git(t, j.dir, "init", "-q")
			remote := repo.url
			if row.login != "" {
				remote = strings.Replace(remote, "://", "://"+row.login+":"+row.password+"@", 1)
			}
			git(t, j.dir, "remote", "add", "origin", remote)
			git(t, j.dir, "fetch", "-q", repo.dir, "main")
			git(t, j.dir, "reset", "-q", "FETCH_HEAD")
			j.run(t).expect(t, 0, "clone > success", "look  | from the repository", "look  | "+repo.url+" mona@example.com", "!s3cret-of-git")
		})
	}
}

// several is a file whose pipelines aren't in the order of their dependencies.
const several = `
kind: pipeline
name: deploy
depends_on: [test, elsewhere]
steps: [{name: d, image: IMAGE, commands: [echo deployed]}]
---
kind: pipeline
name: test
depends_on: [build]
steps: [{name: t, image: IMAGE, commands: [echo tested, test -z "$FAIL"]}]
---
kind: pipeline
name: build
steps: [{name: b, image: IMAGE, commands: [echo built]}]
---
kind: pipeline
name: notify
depends_on: [test]
trigger: {status: [failure]}
steps: [{name: n, image: IMAGE, commands: [echo notified of $DRONE_BUILD_STATUS]}]
---
kind: pipeline
name: release
trigger: {event: [tag]}
steps: [{name: r, image: IMAGE, commands: [echo released]}]
---
kind: pipeline
type: vm
name: elsewhere
`

func TestExecSeveralPipelines(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		args []string
		code int
		want []string
		// order in which these appear
		order []string
	}{
		{"in the order of their dependencies", nil, 0,
			[]string{"pipeline notify: skipped: its trigger.status", "pipeline release: skipped: its trigger doesn't match", "5 pipelines"}, []string{"| built", "| tested", "| deployed"}},
		{"one fails", []string{"--env", "FAIL=yes"}, 1,
			[]string{"pipeline deploy: skipped: it depends on test, which did not pass", "!deployed"}, []string{"| built", "| tested", "| notified of failure"}},
		{"one by name", []string{"--pipeline", "deploy"}, 0, []string{"| deployed", "!built", "!tested", "! pipelines"}, nil},
		{"two by name, in order", []string{"--pipeline", "test", "--pipeline", "build"}, 0, []string{"!deployed"}, []string{"| built", "| tested"}},
		{"a trigger does not matter to a name", []string{"--pipeline", "release"}, 0, []string{"| released"}, nil},
		{"the event of the reference", []string{"--ref", "refs/tags/v1"}, 0, []string{"| released"}, nil},
		{"only the pipelines with an included step", []string{"--include", "t"}, 0, []string{"| tested", "pipeline build: skipped: no step", "!| built"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := newJob(t, map[string]string{".drone.yml": several}, row.args...).run(t)
			r.expect(t, row.code, row.want...)
			at := -1
			for _, text := range row.order {
				next := strings.Index(r.stdout, text)
				if next <= at {
					t.Errorf("%q isn't where it belongs: %s", text, r)
				}
				at = next
			}
		})
	}
}

func TestExecVolumes(t *testing.T) {
	t.Parallel()
	j := newJob(t, map[string]string{"shared/a.txt": "below\n", ".drone.yml": `
kind: pipeline
steps:
- name: look
  image: IMAGE
  commands:
  - cat /mnt/ro/a.txt
  - if touch /mnt/ro/b.txt; then exit 1; fi
  - touch /mnt/rw/c.txt
`})
	other := t.TempDir()
	j.call.args = append(j.call.args, "--volume", "./shared:/mnt/ro:ro", "--volume", other+":/mnt/rw")
	j.run(t).expect(t, 0, "look | below")
	if _, err := os.Stat(filepath.Join(other, "c.txt")); err != nil {
		t.Error(err)
	}
}

func TestExecNetwork(t *testing.T) {
	t.Parallel()
	docker, err := engine.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	name := unique("net")
	if _, err := docker.NetworkCreate(t.Context(), name, network.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := docker.NetworkRemove(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	j := newJob(t, map[string]string{".drone.yml": "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: ['ls /sys/class/net']}]\n"}, "--network", name)
	j.run(t).expect(t, 0, "a | eth0", "a | eth1")
}

package resource

import (
	"strings"
	"testing"

	"github.com/drone/runner-go/manifest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// noPlaces leaves positions out of comparisons.
var noPlaces = cmpopts.IgnoreTypes(Position{}, map[string]Position{})

// parseOne parses a file that has one pipeline and nothing wrong with it but what Drone's server
// refuses.
func parseOne(t *testing.T, text string) *Pipeline {
	t.Helper()
	f, findings := Parse(".drone.yml", []byte(text))
	for _, finding := range findings {
		if !finding.Refused {
			t.Fatalf("findings: %v", lines(findings))
		}
	}
	if len(f.Pipelines) != 1 {
		t.Fatalf("%d pipelines, want 1", len(f.Pipelines))
	}
	return f.Pipelines[0]
}

func lines(fs Findings) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.String())
	}
	return out
}

func TestParseEveryKey(t *testing.T) {
	p := parseOne(t, `---
version: 1
kind: pipeline
type: docker
name: all
depends_on: [first, second]
clone: {disable: true, depth: 50, retries: 3, skip_verify: yes, trace: on}
concurrency: {limit: 2}
node: {disk: ssd, size: 3}
platform: {os: linux, arch: arm64, variant: v8, version: 1809}
trigger:
  branch: main
  event: [push, tag]
  ref: {include: ["refs/tags/**"], exclude: [refs/tags/x]}
environment: {A: 1.10, B: {from_secret: b}, C: {value: c}, D: yes, E: }
image_pull_secrets: dockerconfig
workspace: {base: /drone, path: src}
volumes:
- name: tmp
  temp: {}
- name: mem
  temp: {medium: memory, size_limit: 512m}
- name: nulltemp
  temp:
- name: cache
  host: {path: /cache/npm}
services:
- name: db
  image: postgres:16
steps:
- name: build
  image: golang:1.26
  pull: If-Not-Exists
  command: [a, b]
  commands:
  - go build
  - 1.10
  -
  entrypoint: dockerd
  environment: {GOFLAGS: -mod=mod}
  settings: {repo: x/y, password: {from_secret: p}, tags: [1, a]}
  depends_on: clone
  detach: true
  devices: [{name: kvm, path: /dev/kvm}]
  dns: 1.1.1.1
  dns_search: [a.b]
  extra_hosts: ["a:1.2.3.4"]
  failure: ignore
  mem_limit: 1g
  memswap_limit: -1
  network_mode: none
  privileged: true
  shell: bash
  shm_size: 1024
  user: 1000
  volumes: [{name: tmp, path: /tmp}]
  when: {status: failure, action: x, cron: c, repo: r, instance: i, target: t, paths: [p]}
  working_dir: /app
`)
	want := &Pipeline{
		Version: "1", Kind: "pipeline", Type: "docker", Name: "all", DependsOn: []string{"first", "second"},
		Clone:       manifest.Clone{Disable: true, Depth: 50, Retries: 3, SkipVerify: true, Trace: true},
		Concurrency: manifest.Concurrency{Limit: 2},
		Node:        map[string]string{"disk": "ssd", "size": "3"},
		Platform:    manifest.Platform{OS: "linux", Arch: "arm64", Variant: "v8", Version: "1809"},
		Trigger: manifest.Conditions{
			Branch: manifest.Condition{Include: []string{"main"}},
			Event:  manifest.Condition{Include: []string{"push", "tag"}},
			Ref:    manifest.Condition{Include: []string{"refs/tags/**"}, Exclude: []string{"refs/tags/x"}},
		},
		Environment: map[string]*manifest.Variable{"A": {Value: "1.10"}, "B": {Secret: "b"}, "C": {Value: "c"}, "D": {Value: "yes"}},
		PullSecrets: []string{"dockerconfig"},
		Workspace:   Workspace{Base: "/drone", Path: "src"},
		Volumes: []*Volume{
			{Name: "tmp", Temp: &TempVolume{}},
			{Name: "mem", Temp: &TempVolume{Medium: "memory", SizeLimit: 512 << 20}},
			{Name: "nulltemp", Temp: &TempVolume{}},
			{Name: "cache", Host: &HostVolume{Path: "/cache/npm"}},
		},
		Services: []*Step{{Name: "db", Image: "postgres:16"}},
		Steps: []*Step{{
			Name: "build", Image: "golang:1.26", Pull: "if-not-exists", Command: []string{"a", "b"},
			Commands: []string{"go build", "1.10", ""}, Entrypoint: []string{"dockerd"},
			Environment: map[string]*manifest.Variable{"GOFLAGS": {Value: "-mod=mod"}},
			Settings:    map[string]*manifest.Parameter{"repo": {Value: "x/y"}, "password": {Secret: "p"}, "tags": {Value: []any{1, "a"}}},
			DependsOn:   []string{"clone"}, Detach: true, Devices: []Device{{Name: "kvm", Path: "/dev/kvm"}},
			DNS: []string{"1.1.1.1"}, DNSSearch: []string{"a.b"}, ExtraHosts: []string{"a:1.2.3.4"}, Failure: "ignore",
			MemLimit: 1 << 30, MemSwap: -1, Network: "none", Privileged: true, Shell: "bash", ShmSize: 1024, User: "1000",
			Volumes: []VolumeMount{{Name: "tmp", Path: "/tmp"}},
			When: manifest.Conditions{
				Status: manifest.Condition{Include: []string{"failure"}}, Action: manifest.Condition{Include: []string{"x"}},
				Cron: manifest.Condition{Include: []string{"c"}}, Repo: manifest.Condition{Include: []string{"r"}},
				Instance: manifest.Condition{Include: []string{"i"}}, Target: manifest.Condition{Include: []string{"t"}},
				Paths: manifest.Condition{Include: []string{"p"}},
			},
			WorkingDir: "/app",
		}},
	}
	if diff := cmp.Diff(want, p, noPlaces); diff != "" {
		t.Error(diff)
	}
}

// step wraps the keys of a step into a file; they begin in line 6.
func step(keys string) string {
	return "kind: pipeline\nname: p\nsteps:\n- name: s\n  image: a\n  " + strings.ReplaceAll(strings.TrimSpace(keys), "\n", "\n  ") + "\n"
}

// TestParseFindings has a row for everything that the parser reports: the findings in full, and by
// their lines that they are in the right place.
func TestParseFindings(t *testing.T) {
	const p = `pipeline "p": `
	const s = p + `step "s": `
	for _, tt := range []struct {
		name, text string
		want       []string // beginnings of the findings, without "f:"
	}{
		{"unknown key, near one", step("imgae: x"), []string{`6:3: warning: ` + s + `imgae: unknown key, ignored (did you mean image?)`}},
		{"unknown key, wrong case and separator", step("dependsOn: x"), []string{`6:3: warning: ` + s + `dependsOn: unknown key, ignored (did you mean depends_on?)`}},
		{"unknown key, near none", step("frobnicate: x"), []string{`6:3: warning: ` + s + `frobnicate: unknown key, ignored`}},
		{"unknown key in a condition", step("when: {branch: {inclde: a}}"), []string{`6:19: warning: ` + s + `when.branch.inclde: unknown key, ignored (did you mean include?)`}},
		{"kubernetes key", step("resources: {limits: {memory: 1}}"), []string{`6:3: warning: ` + s + `resources: the key belongs to the kubernetes runner and is ignored here: write mem_limit`}},
		{"kubernetes pipeline key", "kind: pipeline\nname: p\nnode_selector: {a: b}\n", []string{`3:1: warning: ` + p + `node_selector: the key belongs to the kubernetes runner`}},
		{"0.8 secrets", step("secrets: [a]"), []string{`6:3: warning: ` + s + `secrets: the key is that of Drone 0.8 and is ignored here: write environment`}},
		{"trigger with exclude at its top", "kind: pipeline\nname: p\ntrigger: {exclude: {branch: x}}\n", []string{`3:11: warning: ` + p + `trigger.exclude: the key is ignored here: include and exclude stand inside one condition`}},
		{"key twice", step("image: b"), []string{`6:3: warning: ` + s + `image: the key stands twice in the same map, and the later one counts`}},
		{"<< below what it overrides", "x-a: &a {image: b}\nkind: pipeline\nname: p\nsteps:\n- name: s\n  image: a\n  <<: *a\n",
			[]string{`7:3: warning: ` + s + `image: << below the key overrides it`}},
		{"<< of a text", step("<<: a"), []string{`6:3: error: ` + p + `<< takes a map, or a list of maps`}},
		{"<< of a list of texts", step("<<: [a]"), []string{`6:8: error: ` + p + `<< takes a map, or a list of maps`}},
		{"list for a text", step("user: [a]"), []string{`6:3: error: ` + s + `user: needs a text and has a list`}},
		{"map for a text", step("user: {a: b, c: d}"), []string{`6:3: error: ` + s + `user: needs a text and has a map`}},
		{"command that became a map", step("commands:\n- echo foo: bar"), []string{`7:5: error: ` + s + `commands[0]: needs a text and has a map, since an unquoted ": " makes one: write it in quotes, as in 'echo foo: bar'`}},
		{"list in a list", step("commands: [[a]]"), []string{`6:14: error: ` + s + `commands[0]: needs a text and has a list`}},
		{"map for a list", step("commands: {a: b}"), []string{`6:3: error: ` + s + `commands: needs a list and has a map`}},
		{"text for a flag", step("detach: maybe"), []string{`6:3: error: ` + s + `detach: needs true or false and has "maybe"`}},
		{"list for a flag", step("detach: []"), []string{`6:3: error: ` + s + `detach: needs true or false and has a list`}},
		{"text for a number", "kind: pipeline\nname: p\nclone: {depth: deep}\n", []string{`3:9: error: ` + p + `clone.depth: needs a whole number and has "deep"`}},
		{"fraction for a number", "kind: pipeline\nname: p\nclone: {depth: 1.5}\n", []string{`3:9: error: ` + p + `clone.depth: needs a whole number and has "1.5"`}},
		{"text for a size", step("mem_limit: lots"), []string{`6:3: error: ` + s + `mem_limit: needs a size and has "lots": write a number of bytes, or one with a unit such as 512m or 2g`}},
		{"map for a size", step("mem_limit: {}"), []string{`6:3: error: ` + s + `mem_limit: needs a size and has a map`}},
		{"environment as a list", step("environment: [A=b]"), []string{`6:3: error: ` + s + `environment: needs a map and has a list: write each variable as "A: b", without a dash`}},
		{"environment as a text", step("environment: a"), []string{`6:3: error: ` + s + `environment: needs a map and has a text`}},
		{"variable as a list", step("environment: {A: [b]}"), []string{`6:17: error: ` + s + `environment.A: an environment variable needs a text and has a list`}},
		{"variable with a misspelled from_secret", step("environment: {A: {from_secrets: b}}"), []string{
			`6:17: warning: ` + s + `environment.A: the variable is empty`,
			`6:21: warning: ` + s + `environment.A.from_secrets: unknown key, ignored (did you mean from_secret?)`}},
		{"settings as a list", step("settings: [a]"), []string{`6:3: error: ` + s + `settings: needs a map and has a list`}},
		{"node as a text", "kind: pipeline\nname: p\nnode: big\n", []string{`3:1: error: ` + p + `node: needs a map and has a text`}},
		{"text for a list", step("command: [a]\nentrypoint: a b"), []string{`7:3: warning: ` + s + `entrypoint: Drone's server refuses this: a list is due here, and it has a text: write entrypoint: ['a b']`}},
		{"texts for lists", step("dns: 1.1.1.1\ndns_search: a\nextra_hosts: a:b\ncommand: it's\ncommands: |\n  a\n  b\ndepends_on: clone"), []string{
			`6:3: warning: ` + s + `dns: Drone's server refuses this: a list is due here, and it has a text: write dns: [1.1.1.1]`,
			`7:3: warning: ` + s + `dns_search: Drone's server refuses this`, `8:3: warning: ` + s + `extra_hosts: Drone's server refuses this: a list is due here, and it has a text: write extra_hosts: ['a:b']`,
			`9:3: warning: ` + s + `command: Drone's server refuses this: a list is due here, and it has a text: write command: ['it''s']`,
			`10:3: warning: ` + s + `commands: Drone's server refuses this: a list is due here, and it has a text: write commands: with the text behind a dash`,
			`13:3: warning: ` + s + `depends_on: Drone's server refuses this`}},
		{"texts for lists of the pipeline", "kind: pipeline\nname: p\ndepends_on: a\nimage_pull_secrets: b\n", []string{
			`3:1: warning: ` + p + `depends_on: Drone's server refuses this`, `4:1: warning: ` + p + `image_pull_secrets: Drone's server refuses this`}},
		{"nothing for a list", step("command:\ndns: ~"), nil},
		{"texts in conditions", step("when: {branch: a, event: {include: b}, ref: {exclude: c}}"), []string{
			`6:29: warning: ` + s + `when.event.include: a list is due here, and Drone's own server and runner overlook a text: write include: [b]`,
			`6:48: warning: ` + s + `when.ref.exclude: a list is due here`}},
		{"quoted flags", step("detach: \"true\"\nprivileged: 'no'"), []string{
			`6:3: warning: ` + s + `detach: Drone's server refuses this: the quotes make a text of it: write detach: true`,
			`7:3: warning: ` + s + `privileged: Drone's server refuses this: the quotes make a text of it: write privileged: false`}},
		{"quoted number", "kind: pipeline\nname: p\nclone: {depth: \"5\"}\nconcurrency: {limit: '1'}\n", []string{
			`3:9: warning: ` + p + `clone.depth: Drone's server refuses this: the quotes make a text of it: write depth: 5`,
			`4:15: warning: ` + p + `concurrency.limit: Drone's server refuses this`}},
		{"quoted size", step("mem_limit: \"1073741824\""), nil},
		{"pull: true", step("pull: true"), []string{`6:3: warning: ` + s + `pull: true is Drone 0.8's and has no effect, so the image is pulled if it is absent or its tag is latest: write always`}},
		{"pull: no", step("pull: no"), []string{`6:3: warning: ` + s + `pull: no is Drone 0.8's and has no effect, so the image is pulled if it is absent or its tag is latest: write if-not-exists or never`}},
		{"directive", "%YAML 1.1\n---\n%TAG x y\n# c\nkind: pipeline\nname: p\n---\nkind: pipeline\nname: q\nx-a: |2\n  %z\n", []string{
			`1:1: warning: Drone's server refuses this: the directive "%YAML 1.1", which is ignored here: remove the line`}},
		{"name of another runner's pipeline", "kind: pipeline\ntype: vm\n---\nkind: pipeline\n---\nkind: pipeline\ntype: exec\nname: a\n---\nkind: secret\nname: a\n", []string{`4:1: warning: pipeline "default": name: Drone's server refuses this: the pipeline in line 1 has the same name`}},
		{"unknown pull policy", step("pull: if-not-present"), []string{`6:3: warning: ` + s + `pull: "if-not-present" is none of always, if-not-exists, never: the default is taken`}},
		{"unknown failure policy", step("failure: retry"), []string{`6:3: warning: ` + s + `failure: "retry" is none of ignore, fast, fast-fail, fail-fast: the default is taken`}},
		{"when as a list", step("when: [a]"), []string{`6:3: error: ` + s + `when: needs a map and has a list: write for example when: {branch: main}`}},
		{"condition with a map in it", step("when: {branch: [{a: b}]}"), []string{`6:19: error: ` + s + `when.branch[0]: needs a text and has a map`}},
		{"clone as a flag", "kind: pipeline\nname: p\nclone: false\n", []string{`3:1: error: ` + p + `clone: needs a map and has a text: write clone: {disable: true}`}},
		{"platform as a text", "kind: pipeline\nname: p\nplatform: linux/amd64\n", []string{`3:1: error: ` + p + `platform: needs a map and has a text: write platform: {os: linux, arch: amd64}`}},
		{"concurrency as a number", "kind: pipeline\nname: p\nconcurrency: 1\n", []string{`3:1: error: ` + p + `concurrency: needs a map and has a text: write concurrency: {limit: 1}`}},
		{"workspace as a text", "kind: pipeline\nname: p\nworkspace: /a\n", []string{`3:1: error: ` + p + `workspace: needs a map and has a text`}},
		{"steps as a map", "kind: pipeline\nname: p\nsteps:\n  build: {image: a}\n", []string{`3:1: error: ` + p + `steps: needs a list and has a map: write each of the steps as "- name: NAME"`}},
		{"services as a text", "kind: pipeline\nname: p\nservices: db\n", []string{`3:1: error: ` + p + `services: needs a list and has a text`}},
		{"step as a text", "kind: pipeline\nname: p\nsteps: [a]\n", []string{`3:9: error: ` + p + `steps[0]: needs a map and has a text`}},
		{"step without a name", "kind: pipeline\nname: p\nsteps:\n- image: a\n  usr: b\n", []string{`5:3: warning: ` + p + `step "steps[0]": usr: unknown key, ignored (did you mean user?)`}},
		{"volumes as a map", "kind: pipeline\nname: p\nvolumes: {a: b}\n", []string{`3:1: error: ` + p + `volumes: needs a list and has a map`}},
		{"volume as a text", "kind: pipeline\nname: p\nvolumes: [a]\n", []string{`3:11: error: ` + p + `volumes[0]: needs a map and has a text`}},
		{"empty volume", "kind: pipeline\nname: p\nvolumes:\n-\n", []string{`4:2: warning: ` + p + `volumes[0]: empty item`}},
		{"volume twice", "kind: pipeline\nname: p\nvolumes:\n- {name: a, host: {path: /b}}\n- {name: a, host: {path: /b}}\n", []string{`5:3: warning: ` + p + `volumes[1]: the volume "a" is declared twice in the same words`}},
		{"host as a text", "kind: pipeline\nname: p\nvolumes: [{name: a, host: /b}]\n", []string{`3:21: error: ` + p + `volumes[0].host: needs a map and has a text: write host: {path: /b}`}},
		{"temp as a flag", "kind: pipeline\nname: p\nvolumes: [{name: a, temp: true}]\n", []string{`3:21: error: ` + p + `volumes[0].temp: needs a map and has a text: write temp: {}`}},
		{"step body under volumes", "kind: pipeline\nname: p\nvolumes:\n- name: a\n  image: b\n  commands: [c]\n", []string{
			`5:3: warning: ` + p + `volumes[0].image: unknown key, ignored`, `6:3: warning: ` + p + `volumes[0].commands: unknown key, ignored`}},
		{"kubernetes volume", "kind: pipeline\nname: p\nvolumes: [{name: a, config_map: {name: b}}]\n", []string{`3:21: warning: ` + p + `volumes[0].config_map: the key belongs to the kubernetes runner`}},
		{"mount as docker writes it", step("volumes: [a:/b]"), []string{`6:13: error: ` + s + `volumes[0]: a mount is a map, not "a:/b": write {name: a, path: /b}, and declare`}},
		{"bind as docker writes it", step("volumes: [\"/var/run/docker.sock:/var/run/docker.sock\"]"), []string{
			`6:13: error: ` + s + `volumes[0]: a mount is a map, not "/var/run/docker.sock:/var/run/docker.sock": write {name: docker, path: /var/run/docker.sock} here, and {name: docker, host: {path: /var/run/docker.sock}} among`}},
		{"mounts as a map", step("volumes: {a: b}"), []string{`6:3: error: ` + s + `volumes: needs a list and has a map`}},
		{"mount as a list", step("volumes: [[a]]"), []string{`6:13: error: ` + s + `volumes[0]: needs a map and has a list`}},
		{"empty mount", step("volumes: [~]"), []string{`6:13: warning: ` + s + `volumes[0]: empty item`}},
		{"name twice in the file", "kind: pipeline\n---\nkind: pipeline\n", []string{`3:1: warning: pipeline "default": name: Drone's server refuses this: the pipeline in line 1 has the same name`}},
		{"secret with a map for data", "kind: secret\nname: a\ndata: {b: c, d: e}\n", []string{`3:1: error: data: needs a text and has a map`}},
		{"Drone 0.8", "pipeline:\n  build: {image: a}\n", []string{`1:1: error: pipeline: this is the syntax of Drone 0.8`}},
		{"no kind", "steps: []\n", []string{`1:1: warning: kind: Drone's server refuses this: a document without kind, which is ignored here`}},
		{"kind but for case", "kind: Pipeline\nname: p\n", []string{`1:1: warning: kind: "Pipeline" is nothing that Drone knows, and the document is ignored here: did you mean pipeline?`}},
		{"kind but for a letter", "kind: pipelines\nname: p\n", []string{`1:1: warning: kind: "pipelines" is nothing`}},
		{"kind of the server", "kind: cron\nname: p\n---\nkind: signature\nhmac: a\n---\nkind: template\nload: a\n", nil},
		{"kind of something else", "kind: Deployment\n", nil},
		{"type but for case", "kind: pipeline\ntype: Docker\nname: p\n", []string{`1:1: warning: ` + p + `type: no runner of Drone takes a pipeline of type "Docker", and it is ignored here: did you mean docker?`}},
		{"type of another runner", "kind: pipeline\ntype: macstadium\nname: p\n---\nkind: pipeline\ntype: vm\nname: q\n", nil},
		{"type of a runner that somebody wrote", "kind: pipeline\ntype: lambda\nname: p\n", nil},
		{"list for a document", "- a\n", []string{`1:1: error: a document is a map of keys such as kind, name and steps, and this one is a list`}},
		{"text for a document", "hello\n", []string{`1:1: error: a document is a map of keys such as kind, name and steps, and this one is a text`}},
		{"text after ---", "--- kind: x\nkind: pipeline\n", []string{`1:1: warning: "kind: x" after --- is ignored`}},
		{"text after ...", "kind: pipeline\n...\nkind: secret\n", []string{`2:1: warning: everything below ... is ignored`}},
		{"syntax error", "kind: a\n---\nkind: pipeline\nname: b: c\n", []string{`4:1: error: YAML: mapping values are not allowed in this context: put a text that holds ": " in quotes`}},
		{"tab", "kind: pipeline\nsteps:\n\t- name: a\n", []string{`3:1: error: YAML: found character that cannot start any token: indent with spaces, not tabs`}},
		{"unclosed bracket", "kind: [a\n", []string{`1:1: error: YAML: did not find expected ',' or ']': close the bracket`}},
		{"unknown anchor", "x: &a 1\nkind: k\n---\nkind: *a\n", []string{`4:1: error: YAML: unknown anchor 'a' referenced: define it above, in the same document`}},
		{"more than a document", "{kind: x}\n{kind: y}\n", []string{`1:1: error: YAML: did not find expected <document start>`}},
		{"UTF-16", "\xFF\xFEk\x00", []string{`1:1: error: the file is UTF-16: save it as UTF-8`}},
		{"Latin 1", "kind: pipeline\nname: caf\xe9\n", []string{`2:10: error: byte 0xe9 is not UTF-8`}},
		{"control character", "kind: pipeline\nname: a\x01\n", []string{`2:8: error: control character 0x01 is not allowed in YAML`}},
		{"anchor in itself", "kind: pipeline\nname: p\nx: &a [*a]\n", []string{`3:8: error: ` + p + `anchor &a contains its own alias *a`}},
		{"map for a key", "kind: pipeline\nname: p\n{a: b}: c\n", []string{`3:1: error: ` + p + `the key of a map is itself a list or a map`}},
		{"too deep", "kind: pipeline\nname: p\na: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "\n", []string{
			`3:104: error: ` + p + `lists and maps are nested more than 100 deep`, `3:1: warning: ` + p + `a: unknown key`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, findings := Parse("f", []byte(tt.text))
			got := lines(findings)
			if len(got) != len(tt.want) {
				t.Fatalf("got %d findings, want %d:\n%s", len(got), len(tt.want), strings.Join(got, "\n"))
			}
			for i := range got {
				if !hasOne(got, "f:"+tt.want[i]) {
					t.Errorf("no finding begins\n  f:%s\nof\n  %s", tt.want[i], strings.Join(got, "\n  "))
				}
			}
		})
	}
}

func hasOne(got []string, beginning string) bool {
	for _, g := range got {
		if strings.HasPrefix(g, beginning) {
			return true
		}
	}
	return false
}

package resource

import (
	"strings"
	"testing"

	"github.com/drone/runner-go/manifest"
	"github.com/drone/runner-go/secret"
	"github.com/google/go-cmp/cmp"
)

func TestParseDocuments(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       File
	}{
		{"nothing", "", File{}},
		{"only comments", "# a\n--- # b\n\n# c", File{}},
		{"one without an end of line", "kind: pipeline\nname: a", File{Pipelines: []*Pipeline{{Kind: "pipeline", Name: "a"}}}},
		{"without a name", "kind: pipeline\nname:\n", File{Pipelines: []*Pipeline{{Kind: "pipeline", Name: "default"}}}},
		{"byte order mark and carriage returns", "\xEF\xBB\xBF---\r\nkind: pipeline\r\nname: a\r\n---\r\nkind: pipeline\r\nname: b\r\n",
			File{Pipelines: []*Pipeline{{Kind: "pipeline", Name: "a"}, {Kind: "pipeline", Name: "b"}}}},
		{"separators with comments and decoration", "---------\nkind: pipeline\nname: a\n--- # next\nkind: pipeline\nname: b\n---\n",
			File{Pipelines: []*Pipeline{{Kind: "pipeline", Name: "a"}, {Kind: "pipeline", Name: "b"}}}},
		{"terminator", "kind: pipeline\nname: a\n...\n", File{Pipelines: []*Pipeline{{Kind: "pipeline", Name: "a"}}}},
		{"directive", "%YAML 1.1\n---\nkind: pipeline\nname: a\n", File{Pipelines: []*Pipeline{{Kind: "pipeline", Name: "a"}}}},
		{"other runners' and the server's documents, whatever is in them",
			"kind: pipeline\ntype: kubernetes\nname: k\nsteps: {a: 1}\n---\nkind: pipeline\ntype: vm\n---\nkind: signature\nhmac: [x]\n---\nkind: template\nload: x.star\ndata: &a {b: 1, b: 2}\n",
			File{Others: []Document{{Kind: "pipeline", Type: "kubernetes", Name: "k"}, {Kind: "pipeline", Type: "vm", Name: "default"},
				{Kind: "signature"}, {Kind: "template"}}}},
		{"secrets", "kind: secret\nname: a\ndata: b\n---\nkind: secret\nname: c\nget: {path: d, name: e, key: f}\n",
			File{Secrets: []*manifest.Secret{{Kind: "secret", Name: "a", Data: "b"}, {Kind: "secret", Name: "c", Get: manifest.SecretGet{Path: "d", Name: "e", Key: "f"}}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, findings := Parse("", []byte(tt.text))
			for _, finding := range findings {
				if !finding.Refused {
					t.Error(lines(findings))
				}
			}
			if diff := cmp.Diff(&tt.want, f, noPlaces); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseLongLine(t *testing.T) {
	long := strings.Repeat("x", MaxFile-1000)
	p := parseOne(t, "kind: pipeline\nname: p\nsteps:\n- name: s\n  image: a\n  commands: [\""+long+"\"]\n- {name: after, image: b}\n")
	if len(p.Steps) != 2 || p.Steps[0].Commands[0] != long {
		t.Error("the line, or what follows it, is lost")
	}
}

// TestParseAnchors keeps pipelines alive that use YAML's own means of saying things once.
func TestParseAnchors(t *testing.T) {
	p := parseOne(t, `
kind: pipeline
name: p
common: &common
  image: golang
  environment: {A: 1, B: 2}
  when: {event: push}
shared:
- &cmds [make, make test]
x-unused: {a: 1}
steps:
- name: one
  <<: *common
  environment: {B: 3}
  when: {branch: main}
  commands: *cmds
- <<: [*common, {image: ignored, user: root}]
  name: two
- &three
  name: three
  image: a
- <<: *three
  name: four
`)
	env := func(a, b string) map[string]*manifest.Variable {
		return map[string]*manifest.Variable{"A": {Value: a}, "B": {Value: b}}
	}
	push := manifest.Condition{Include: []string{"push"}}
	want := []*Step{
		{Name: "one", Image: "golang", Environment: env("1", "3"), Commands: []string{"make", "make test"},
			When: manifest.Conditions{Event: push, Branch: manifest.Condition{Include: []string{"main"}}}},
		{Name: "two", Image: "golang", User: "root", Environment: env("1", "2"), When: manifest.Conditions{Event: push}},
		{Name: "three", Image: "a"},
		{Name: "four", Image: "a"},
	}
	// "name" overrides that of the alias above it, silently: the two are in different maps.
	if diff := cmp.Diff(want, p.Steps, noPlaces); diff != "" {
		t.Error(diff)
	}
}

// TestParseBombs holds that no file, however small, costs much.
func TestParseBombs(t *testing.T) {
	laughs := "x0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
	for i := 1; i < 10; i++ {
		before := "*x" + string(rune('0'+i-1))
		laughs += "x" + string(rune('0'+i)) + ": &x" + string(rune('0'+i)) + " [" + strings.TrimSuffix(strings.Repeat(before+", ", 10), ", ") + "]\n"
	}
	for _, tt := range []struct{ name, text, want string }{
		{"a billion laughs", "kind: pipeline\nname: p\n" + laughs, "stand for more than 100000 values"},
		{"an anchor in itself", "kind: pipeline\nname: p\nsteps: &a\n- name: s\n  settings: {x: *a}\n", "anchor &a contains its own alias"},
		{"an anchor that merges itself", "kind: pipeline\nname: p\nsteps:\n- &a\n  name: s\n  <<: *a\n", "anchor &a contains its own alias"},
		{"brackets", "kind: pipeline\nname: p\nx: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "nested more than 100 deep"},
		{"brackets past the library's bound", strings.Repeat("[", 20_000), "exceeded max depth"},
		{"too many brackets", strings.Repeat("[", maxIndicators+1), "too large, with more than 200000"},
		{"too many bytes", strings.Repeat("#", MaxFile+1), "more than 1024 KiB"},
		{"too many documents", strings.Repeat("---\na\n", maxDocuments+2), "more than 1000 documents"},
		{"too many steps", "kind: pipeline\nname: p\nsteps: [" + strings.Repeat("{},", 50_000) + "]", "has 50000 steps: write at most 1000"},
		{"too many volumes", "kind: pipeline\nname: p\nvolumes: [" + strings.Repeat("{},", 2_000) + "]", "has 2000 volumes: write at most 1000"},
		{"aliases of a long text", "kind: pipeline\nname: p\nx: &x " + strings.Repeat("x", 500_000) + "\nsteps: [{commands: [" + strings.Repeat("*x,", 1000) + "]}]", "for texts of more than 4096 KiB"},
		{"merges", "kind: pipeline\nname: p\nx: " + strings.Repeat("{<<: ", 90) + "{" + strings.Repeat("a,", 20_000) + "}" + strings.Repeat("}", 90), "stand for more than 100000 values"},
		{"patterns", "kind: pipeline\nname: p\nx: &x [" + strings.Repeat("abcdefg*,", 1000) + "]\ntrigger: {branch: {include: *x}, ref: *x, event: {include: *x, exclude: *x}, repo: {include: *x, exclude: *x}, target: {include: *x, exclude: *x}, cron: {include: *x, exclude: *x}, action: {include: *x, exclude: *x}, instance: {include: *x, exclude: *x}, status: {include: *x, exclude: *x}}", "patterns of more than 128 KiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, findings := Parse("", []byte(tt.text))
			if err := findings.Err(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParseClaim(t *testing.T) {
	p := parseOne(t, "kind: pipeline\nname: p\nvolumes:\n- {name: a, claim: {name: b, read_only: false}}\n")
	if diff := cmp.Diff([]*Volume{{Name: "a", Claim: "b", Temp: &TempVolume{}}}, p.Volumes, noPlaces); diff != "" {
		t.Error(diff)
	}
}

func TestParsePullBooleans(t *testing.T) {
	for text, want := range map[string]string{"true": "", "false": "", "yes": "", "Always": "always", "NEVER": "never", "": "", "default": ""} {
		f, _ := Parse("", []byte(step("pull: "+text)))
		if got := f.Pipelines[0].Steps[0].Pull; got != want {
			t.Errorf("pull: %s is %q, want %q", text, got, want)
		}
	}
}

func TestParseNullItems(t *testing.T) {
	p := parseOne(t, "kind: pipeline\nname: p\nservices: ~\nsteps:\n-\n- {name: a, image: b, commands: , when: }\n")
	if len(p.Steps) != 2 || p.Steps[0] != nil || p.Steps[1].Name != "a" {
		t.Errorf("got %+v", p.Steps)
	}
	if at := p.Place("steps[0]"); at.Line != 5 {
		t.Errorf("the empty step is at %+v", at)
	}
}

func TestParseMultilineCommand(t *testing.T) {
	p := parseOne(t, step("commands: |\n  cd a\n  make"))
	if diff := cmp.Diff([]string{"cd a\nmake\n"}, p.Steps[0].Commands); diff != "" {
		t.Error(diff)
	}
}

func TestPlace(t *testing.T) {
	f, _ := Parse("", []byte("# one\n---\nkind: pipeline\nname: p\n---\nkind: pipeline\nname: q\nworkspace:\n  base: /a\nsteps:\n- name: s\n  image: b\n  volumes:\n  - name: v\n    path: /c\n  environment:\n    A.B: 1\nvolumes:\n- name: v\n  host:\n    path: /d\n"))
	p := f.Pipelines[1]
	for _, tt := range []struct {
		name string
		got  Position
		want Position
	}{
		{"a pipeline", p.Position, Position{6, 1}},
		{"a key", p.Place("workspace.base"), Position{9, 3}},
		{"a key that isn't there, in a map that is", p.Place("workspace.path"), Position{8, 1}},
		{"a key that isn't there at all", p.Place("trigger.branch"), Position{6, 1}},
		{"an item", p.Place("steps[0]"), Position{11, 3}},
		{"an item that isn't there", p.Place("steps[7].x"), Position{10, 1}},
		{"a key of a step", p.Steps[0].Place("image"), Position{12, 3}},
		{"a key of a mount", p.Steps[0].Place("volumes[0].path"), Position{15, 5}},
		{"a key with a dot", p.Steps[0].Place("environment.A.B"), Position{17, 5}},
		{"a step", p.Steps[0].Place("user"), Position{11, 3}},
		{"no step", (*Step)(nil).Place("user"), Position{}},
		{"a key of a volume", p.Volumes[0].Place("host.path"), Position{21, 5}},
		{"a key that a volume lacks", p.Volumes[0].Place("temp.medium"), Position{19, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("got %+v, want %+v", tt.got, tt.want)
			}
		})
	}
}

func TestFilePipeline(t *testing.T) {
	f, _ := Parse(".drone.yml", []byte("kind: pipeline\n---\nkind: pipeline\nname: b\nversion: 1\n---\nkind: pipeline\nname: b\n---\nkind: pipeline\ntype: vm\nname: v\n"))
	for _, tt := range []struct{ name, want, failure string }{
		{"default", "default", ""},
		{"", "default", ""},
		{"b", "b", ""},
		{"c", "", `.drone.yml has no docker pipeline "c": it has "default", "b", "b"`},
		{"v", "", `pipeline "v" of .drone.yml has type "vm", which another runner runs: this one runs type "docker", and pipelines without a type`},
	} {
		p, err := f.Pipeline(tt.name)
		switch {
		case err != nil && err.Error() != tt.failure, err == nil && tt.failure != "":
			t.Errorf("%q: got error %v, want %q", tt.name, err, tt.failure)
		case err == nil && p.Name != tt.want:
			t.Errorf("%q: got %q", tt.name, p.Name)
		}
	}
	if p, _ := f.Pipeline("b"); p.Version != "1" {
		t.Error("not the first of two pipelines")
	}
	if _, err := (&File{}).Pipeline("a"); err == nil || !strings.Contains(err.Error(), `the file has no docker pipeline, so none named "a"`) {
		t.Errorf("got %v", err)
	}
}

// TestManifest asks a secret provider of runner-go's for a secret of the file.
func TestManifest(t *testing.T) {
	f, _ := Parse("", []byte("kind: secret\nname: a\nget: {path: x, name: y}\n---\nkind: pipeline\n"))
	m := f.Manifest()
	if len(m.Resources) != 1 {
		t.Fatalf("%d resources", len(m.Resources))
	}
	if got, err := secret.Encrypted().Find(t.Context(), &secret.Request{Name: "a", Conf: m}); err != nil || got != nil {
		t.Errorf("an external secret is no encrypted one: %v, %v", got, err)
	}
	if s, ok := m.Resources[0].(*manifest.Secret); !ok || s.Get.Path != "x" || s.Get.Name != "y" {
		t.Errorf("got %+v", m.Resources[0])
	}
}

package resource

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/buildkite/yaml"
	"github.com/drone/runner-go/manifest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The YAML library of Drone's runners is the measure: what it reads without an error, ours reads
// the same.

// oracleStep has the keys whose values the library and we both decode.
type oracleStep struct {
	Name        string
	Image       string
	Commands    []string
	Environment map[string]*manifest.Variable
	Settings    map[string]*manifest.Parameter
	Detach      bool
	MemLimit    manifest.BytesSize `yaml:"mem_limit"`
	When        manifest.Conditions
}

type oraclePipeline struct {
	Kind  string
	Name  string
	Node  map[string]string
	Clone manifest.Clone
	Steps []*oracleStep
}

// normal turns what the library gives into our terms: maps with texts for keys, and no value where
// it has a nil pointer, which Drone passes over.
func (p *oraclePipeline) normal() {
	for _, s := range p.Steps {
		if s == nil {
			continue
		}
		for k, v := range s.Environment {
			if v == nil {
				delete(s.Environment, k)
			}
		}
		for k, v := range s.Settings {
			if v == nil {
				delete(s.Settings, k)
				continue
			}
			v.Value = textKeys(v.Value)
		}
	}
}

func textKeys(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := map[string]any{}
		for k, e := range v {
			key := fmt.Sprint(k)
			if k == nil {
				key = "null"
			}
			out[key] = textKeys(e)
		}
		return out
	case []any:
		for i := range v {
			v[i] = textKeys(v[i])
		}
	}
	return v
}

// ours is the same part of a pipeline as we read it.
func ours(p *Pipeline) *oraclePipeline {
	out := &oraclePipeline{Kind: p.Kind, Name: p.Name, Node: p.Node, Clone: p.Clone}
	for _, s := range p.Steps {
		if s == nil {
			out.Steps = append(out.Steps, nil)
			continue
		}
		out.Steps = append(out.Steps, &oracleStep{Name: s.Name, Image: s.Image, Commands: s.Commands, Environment: s.Environment,
			Settings: s.Settings, Detach: s.Detach, MemLimit: s.MemLimit, When: s.When})
	}
	return out
}

var oracleOptions = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b)
})}

func compare(t *testing.T, text string) {
	t.Helper()
	want := &oraclePipeline{}
	if err := yaml.Unmarshal([]byte(text), want); err != nil {
		t.Fatalf("the oracle itself: %v", err)
	}
	want.normal()
	if want.Name == "" {
		want.Name = "default"
	}
	f, findings := Parse("f", []byte(text))
	if err := findings.Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, ours(f.Pipelines[0]), oracleOptions); diff != "" {
		t.Errorf("%s\n%s", text, diff)
	}
}

func TestOracleScalars(t *testing.T) {
	for _, s := range strings.Fields(`y Y yes on On TRUE true n no off False ~ null Null NULL nil 0 -1 +1 1_000 0777 08 0o17 0x1F 0b101 -0b1 -0x1
		9223372036854775807 9223372036854775808 18446744073709551615 18446744073709551616 1.10 1. .5 -.5 +.5 1e3 1e+3 1E-3 .1e3 .inf -.inf +.Inf .NaN
		1:30 190:20:30 2001-01-01 2001-12-14t21:59:43.10-05:00 1.2.3 v1 a,b "yes" "1" 'x' "" !!str!yes . .. ... - + -a 0x 0b2 _1 1__0 0xG =
		1_0.5 .5_0 1e 1e+ infinity -Infinity 0x1p-2`) {
		if s == "..." || s == "-" || strings.HasPrefix(s, "!!") {
			continue
		}
		text := "kind: pipeline\nsteps:\n- settings: {a: " + s + ", b: [" + s + "], c: {k: " + s + "}}\n"
		if s != `"1"` && s != "~" {
			text = strings.TrimSuffix(text, "\n") + "\n  environment: {A: " + s + "}\n  commands: [" + s + "]\n"
		}
		t.Run(s, func(t *testing.T) { compare(t, text) })
	}
}

func TestOracleDocuments(t *testing.T) {
	for name, text := range map[string]string{
		"tags":                 "kind: pipeline\nsteps:\n- settings: {a: !!str 1, b: !!int 3, c: !!float 1.5, d: !!binary aGk=, e: !foo 1, f: !!null ~, g: !!bool yes, h: !!timestamp 2001-01-01}\n",
		"block scalars":        "kind: pipeline\nsteps:\n- commands:\n  - |\n    a\n     b\n\n    c\n  - >-\n    d\n    e\n  settings:\n    x: |\n      1\n",
		"keys of settings":     "kind: pipeline\nsteps:\n- settings: {a: {1: x, yes: y, 0x10: z, 'on': w, 1.5: v}}\n",
		"null values":          "kind: pipeline\nsteps:\n- ~\n- environment:\n    A:\n  settings:\n    b:\n    c: {d: , e: [~]}\n  when:\n",
		"merge adds to maps":   "x: &x {name: a, environment: {A: 1}, settings: {s: [1]}, when: {event: push}}\nkind: pipeline\nsteps:\n- {<<: *x, name: b, environment: {B: 2}, settings: {t: 1}, when: {branch: c}}\n",
		"merge below":          "x: &x {name: a, environment: &e {A: 1}}\nkind: pipeline\nsteps:\n- {name: b, environment: {A: 2, <<: *e}, <<: *x}\n",
		"merge of a list":      "x: &x {name: a, image: i}\ny: &y {name: b, detach: yes}\nkind: pipeline\nsteps:\n- {<<: [*x, *y]}\n",
		"merge of a merge":     "x: &x {name: a, image: i}\ny: &y {<<: *x, name: b}\nkind: pipeline\nsteps:\n- {<<: *y, image: j}\n",
		"quoted merge":         "kind: pipeline\nsteps:\n- settings: {\"<<\": {a: b}}\n",
		"merge in settings":    "x: &x {a: 1, b: 2}\nkind: pipeline\nsteps:\n- settings: {m: {<<: *x, b: 3}, n: {b: 3, <<: *x}, <<: *x}\n",
		"duplicate keys":       "kind: pipeline\nname: a\nname: b\nsteps:\n- {name: c, name: d, environment: {A: 1}, environment: {B: 2}, commands: [a], commands: [b]}\n",
		"duplicate and null":   "kind: pipeline\nsteps:\n- {name: c, name: ~, commands: [a], commands: ~, settings: {a: 1}, settings: ~}\n",
		"aliases of scalars":   "x: &x yes\nkind: pipeline\nsteps:\n- {name: *x, detach: *x, settings: {a: *x}, commands: [*x, *x]}\n",
		"conditions":           "kind: pipeline\nsteps:\n- when: {branch: [a, b], event: {exclude: [c]}, ref: {include: [d], exclude: [e]}, status: yes, cron: }\n",
		"sizes":                "kind: pipeline\nsteps:\n- mem_limit: 512m\n- mem_limit: 1024\n- mem_limit: 2GiB\n- mem_limit: 0x10\n- mem_limit: 1.5g\n- mem_limit: '7'\n",
		"secrets and settings": "kind: pipeline\nsteps:\n- settings: {a: {from_secret: b}, c: {from_secret: b, d: e}, f: {from_secret: }, g: {from_secret: [h]}}\n  environment: {A: {from_secret: b}, B: {value: c}}\n",
		"numbers":              "kind: pipeline\nclone: {depth: 0x10, retries: 1e+1}\nnode: {a: 1, b: yes, c: ~, d: 1.10}\n",
		"strings that fold":    "kind: pipeline\nname: \"a\\n\\x41 \\\n   b\"\nsteps:\n- name: plain\n    folded\n    text\n",
	} {
		t.Run(name, func(t *testing.T) { compare(t, text) })
	}
}

// loneTag is YAML's non-specific tag, which makes a text of anything, and which our library drops
// without a trace. No pipeline has one.
var loneTag = regexp.MustCompile(`!(\s|$)`)

// FuzzOracle compares the two wherever both accept a text, but for what we read on purpose where
// Drone's library has no answer, or a wrong one.
func FuzzOracle(f *testing.F) {
	f.Add("1_0", "a: &x {b: c}\nd: {<<: *x}")
	f.Add("'null'", "[a, {b: c}]")
	f.Fuzz(func(t *testing.T, value, nested string) {
		nested = strings.ReplaceAll("\n"+nested, "\n", "\n      ")
		text := "kind: pipeline\nsteps:\n- settings:\n    a: " + strings.ReplaceAll(value, "\n", " ") + "\n    b:" + nested + "\n"
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "---") || strings.HasPrefix(line, "...") {
				return
			}
		}
		// Drone, and we, take carriage returns off line ends before the library sees them.
		if loneTag.MatchString(text) || strings.Contains(text, "\r") {
			return
		}
		want := &oraclePipeline{}
		if yaml.Unmarshal([]byte(text), want) != nil {
			return
		}
		want.normal()
		want.Name = "default"
		file, findings := Parse("f", []byte(text))
		if findings.Err() != nil || len(file.Pipelines) != 1 {
			return
		}
		if diff := cmp.Diff(want, ours(file.Pipelines[0]), oracleOptions); diff != "" {
			t.Errorf("%q\n%s", text, diff)
		}
	})
}

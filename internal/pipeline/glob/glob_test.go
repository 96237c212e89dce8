package glob

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar"
	"github.com/drone/runner-go/manifest"
)

// TestOracle compares with Drone's matcher on random patterns that it decides quickly.
func TestOracle(t *testing.T) {
	const patterns = `aab/\*?[]{},^-é` + "\xff"
	const names = `aab/\*é{}` + "\xff"
	random := rand.New(rand.NewPCG(1, 2))
	text := func(letters string, most int) string {
		var out strings.Builder
		for range random.IntN(most + 1) {
			switch random.IntN(12) {
			case 0:
				out.WriteString("**")
			case 1:
				out.WriteString("[a-b]")
			case 2:
				out.WriteString("{a,b*}")
			default:
				i := random.IntN(len(letters))
				out.WriteString(letters[i : i+1])
			}
		}
		return out.String()
	}
	matched := 0
	for range 200_000 {
		pattern := text(patterns, 10)
		name := text(names, 8)
		want, _ := doublestar.Match(pattern, name)
		if got := Match(pattern, name); got != want {
			t.Fatalf("Match(%q, %q) = %v, want %v", pattern, name, got, want)
		}
		if want {
			matched++
		}
	}
	if matched < 1_000 {
		t.Errorf("only %d patterns matched: the comparison says little", matched)
	}
}

// FuzzOracle compares with Drone's matcher, and holds that the work doesn't pass its bound: a
// constant multiple of the product of both lengths for patterns without alternatives.
func FuzzOracle(f *testing.F) {
	for _, pattern := range []string{"feature/*", "**/x/**", "refs/tags/v[0-9]*", "{a,b}{c,d*}", "{a,{b}c}", `\{`, "[^a-c]?"} {
		f.Add(pattern, "feature/x")
		f.Add(pattern, "ac")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got, left := match(pattern, name)
		if len(pattern) > MaxPattern {
			if got {
				t.Error("a pattern that is too long matches")
			}
			return
		}
		if !strings.Contains(pattern, "{") {
			if spent, most := maxWork-left, 16*(len(pattern)+1)*(len(name)+1)*(len(pattern)+1); most < maxWork && spent > most {
				t.Errorf("%q and %q took %d steps, more than %d", pattern, name, spent, most)
			}
		}
		if stars := strings.Count(pattern, "*"); stars > 4 || len(name) > 50 || strings.Count(pattern, "{") > 4 {
			return // the oracle would take its time
		}
		if want, _ := doublestar.Match(pattern, name); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", pattern, name, got, want)
		}
	})
}

// TestWork holds that patterns for which Drone's matcher takes for ever are decided, and within a
// small part of the budget.
func TestWork(t *testing.T) {
	long := strings.Repeat("a", 250)
	paths := strings.Repeat("a/", 100)
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{strings.Repeat("*a", 8) + "*b", long, false},
		{strings.Repeat("*a", 60) + "*b", long, false},
		{strings.Repeat("*a", 60) + "*", long, true},
		{strings.Repeat("**/", 40) + "b", paths, false},
		{strings.Repeat("**/", 40) + "a", paths, true},
		{strings.Repeat("{a,a}", 60) + "b", long, false},
		{strings.Repeat("{a,aa}", 40) + "b", long, false},
		{strings.Repeat("{*a,a*}", 20) + "b", long, false},
		{strings.Repeat("*[a-z]", 40) + "b", long, false},
	} {
		got, left := match(tt.pattern, tt.name)
		if got != tt.want || left == 0 {
			t.Errorf("%.40s…: %v with %d left, want %v", tt.pattern, got, left, tt.want)
		}
	}
}

// TestGivenUp holds that what passes the bounds matches nothing, and ends.
func TestGivenUp(t *testing.T) {
	name := strings.Repeat("a", 4000)
	for what, pattern := range map[string]string{
		"too long":     strings.Repeat("a", MaxPattern) + "*",
		"stars":        strings.Repeat("*a", MaxPattern/2-1) + "*b",
		"alternatives": strings.Repeat("{*b,*a,*a*,?}", 300) + "b",
	} {
		if matched, left := match(pattern, name); matched || left > 0 {
			t.Errorf("%s: %v with %d left", what, matched, left)
		}
	}
}

// TestConditions compares with runner-go on every combination of a few patterns and values.
func TestConditions(t *testing.T) {
	lists := [][]string{nil, {}, {"a*"}, {"b", "c"}, {"["}, {"**"}}
	for _, include := range lists {
		for _, exclude := range lists {
			c := manifest.Condition{Include: include, Exclude: exclude}
			for _, value := range []string{"", "a", "ab", "b", "x/y"} {
				if got, want := Condition(c, value), c.Match(value); got != want {
					t.Errorf("%+v, %q: %v, want %v", c, value, got, want)
				}
			}
		}
	}
	for i, set := range []func(*manifest.Conditions, manifest.Condition){
		func(c *manifest.Conditions, v manifest.Condition) { c.Cron = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Ref = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Repo = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Instance = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Target = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Event = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Branch = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Action = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Status = v },
		func(c *manifest.Conditions, v manifest.Condition) { c.Paths = v },
	} {
		m := manifest.Match{Action: "a", Branch: "b", Cron: "c", Event: "e", Instance: "i", Ref: "r", Repo: "o", Target: "t"}
		for _, value := range []string{"a", "b", "c", "e", "i", "r", "o", "t", "x"} {
			var c manifest.Conditions
			set(&c, manifest.Condition{Include: []string{value}})
			if got, want := Conditions(c, m), c.Match(m); got != want {
				t.Errorf("condition %d, %q: %v, want %v", i, value, got, want)
			}
		}
	}
}

// BenchmarkStars is a pattern for which doublestar v1 takes longer than a stage may run.
func BenchmarkStars(b *testing.B) {
	pattern, name := strings.Repeat("*a", 20)+"*b", strings.Repeat("a", 250)
	for b.Loop() {
		Match(pattern, name)
	}
}

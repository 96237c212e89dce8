package pipeline

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// Bounds of what loading a file of n bytes may allocate: what aliases, substitution and the shared
// environment may add is bounded by constants, the rest is a multiple of n.
const (
	costBase    = 96 << 20
	costPerByte = 700
)

// cost returns how many bytes f allocates.
func cost(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// hostile are files that were made to be expensive. Each costs gigabytes or hours without its
// bound.
func hostile() map[string]string {
	pipeline := func(keys string) string { return "kind: pipeline\nname: default\n" + keys + "\n" }
	steps := func(n int, format string) string {
		var out strings.Builder
		out.WriteString("steps:\n")
		for i := range n {
			fmt.Fprintf(&out, format+"\n", i)
		}
		return out.String()
	}
	env := func(n int) string {
		var out strings.Builder
		for i := range n {
			fmt.Fprintf(&out, "v%d: x,", i)
		}
		return "environment: {" + out.String() + "}\n"
	}
	return map[string]string{
		"a comment that doubles":      pipeline("# ${DRONE_COMMIT_MESSAGE//a/" + strings.Repeat("b", 15_000) + "}\n" + simple),
		"a value a thousand times":    pipeline("# " + strings.Repeat("${DRONE_COMMIT_MESSAGE}", 20_000)),
		"nested replacements":         pipeline("# ${DRONE_COMMIT_MESSAGE//a/${DRONE_COMMIT_MESSAGE//a/${DRONE_COMMIT_MESSAGE}}}"),
		"trims":                       pipeline("# " + strings.Repeat("${DRONE_COMMIT_MESSAGE%%*a*a*a*a*b}", 1000)),
		"escapes in expressions":      pipeline("# " + strings.Repeat("${A:-"+strings.Repeat(`\\`, 8_000)+"}", 60)),
		"expressions that don't end":  pipeline("# " + strings.Repeat("${A:-"+strings.Repeat("${B:-}", 60), 2000)),
		"steps in flow style":         pipeline("steps: [" + strings.Repeat("{name: a},", 50_000) + "]"),
		"empty steps":                 pipeline("steps: [" + strings.Repeat("{},", 60_000) + "]"),
		"brackets":                    pipeline("x: [" + strings.Repeat("[],", 66_000) + "]"),
		"nested brackets":             pipeline("x: " + strings.Repeat("[", 9_900) + strings.Repeat("]", 9_900)),
		"values without end":          strings.Repeat("a,", 500_000),
		"comments":                    pipeline(strings.Repeat("# x\n", 200_000)) + simple,
		"comments between values":     pipeline("x:\n" + strings.Repeat("- a # x\n", 60_000)),
		"anchors":                     pipeline("x:\n" + strings.Repeat("- &a a\n", 60_000)),
		"aliases":                     pipeline("x: [&a a" + strings.Repeat(",*a", 90_000) + "]"),
		"unknown keys":                pipeline(strings.Repeat("stepz: a\n", 60_000)),
		"long keys":                   pipeline("environment: {" + strings.Repeat("k", 400_000) + ": {" + strings.Repeat("a,", 90_000) + "}}"),
		"volumes and mounts":          pipeline("volumes:\n" + strings.Repeat("- {name: "+strings.Repeat("v", 300)+"}\n", 900) + steps(100, "- {name: s%d, image: a, volumes: ["+strings.Repeat("{name: x, path: /x},", 100)+"]}")),
		"dependencies":                pipeline("x: &d [" + strings.Repeat("s1,", 90) + "]\n" + steps(1000, "- {name: s%d, image: a, depends_on: *d}")),
		"unknown dependencies":        pipeline("x: &d [" + strings.Repeat("nobody,", 90) + "]\n" + steps(1000, "- {name: "+strings.Repeat("s", 90)+"%d, image: a, depends_on: *d}")),
		"variables of every step":     pipeline(env(20_000) + steps(1000, "- {name: s%d, image: a, commands: [b]}")),
		"globs":                       pipeline(steps(500, "- {name: s%d, image: a, when: {branch: '*a*a*a*a*a*a*a*a*a*a*a*b'}}")),
		"globs of parts":              pipeline("trigger: {ref: '" + strings.Repeat("**/", 60) + "b'}\n" + steps(900, "- {name: s%d, image: a, when: {ref: '"+strings.Repeat("**/", 30)+"b'}}")),
		"a thousand steps":            pipeline(steps(1000, "- {name: s%d, image: a, commands: [b]}")),
		"documents":                   strings.Repeat("---\na: b\n", 100_000),
		"long names":                  pipeline("name: " + strings.Repeat("n", 500_000) + "\n" + steps(1000, "- {name: s%d, depends_on: [x], image: A}")),
		"a long step in each finding": pipeline("steps: [{name: " + strings.Repeat("n", 500_000) + ", dns: [" + strings.Repeat("a,", 60_000) + "]}]"),
		"quotes":                      pipeline("steps: [{name: a, image: \"" + strings.Repeat(`\x01`, 100_000) + "\"}]"),
	}
}

// TestCost holds that no file costs more than its bound, nor is reported at length.
func TestCost(t *testing.T) {
	for name, yaml := range hostile() {
		t.Run(name, func(t *testing.T) {
			d := details(yaml)
			d.Build.Message = strings.Repeat("a", 60_000)
			d.Build.Target = strings.Repeat("a", 250)
			d.Build.Ref = "refs/heads/" + strings.Repeat("a/", 120)
			var err error
			var found resource.Findings
			began := time.Now()
			spent := cost(func() { _, found, err = testLoader().Load(t.Context(), d) })
			if most := uint64(costBase + costPerByte*len(yaml)); spent > most {
				t.Errorf("%d bytes cost %d MiB, more than %d MiB", len(yaml), spent>>20, most>>20)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if len(text) > 128<<10 || len(found) > 200 {
				t.Errorf("%d findings and an error of %d bytes", len(found), len(text))
			}
			t.Logf("%d bytes, %d MiB, %s, %.200s", len(yaml), spent>>20, time.Since(began), text)
		})
	}
}

// FuzzCost holds the same of any text.
func FuzzCost(f *testing.F) {
	f.Add("kind: pipeline\nname: default\nsteps: [{name: ${DRONE_REPO//o/o}, image: a, when: {branch: '*a*{b,c}'}}]\n")
	f.Add("kind: pipeline\nname: default\nx: &x [a, b]\nsteps: [{<<: {environment: {a: b}}, name: a, commands: *x}]\n")
	f.Fuzz(func(t *testing.T, yaml string) {
		if yaml == "" {
			return
		}
		d := details(yaml)
		d.Build.Message = strings.Repeat("a\n", 30_000)
		if spent, most := cost(func() { _, _, _ = testLoader().Load(t.Context(), d) }), uint64(costBase+costPerByte*len(yaml)); spent > most {
			t.Errorf("%d bytes cost %d bytes, more than %d", len(yaml), spent, most)
		}
	})
}

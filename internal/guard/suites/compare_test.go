//go:build !unit

package suites

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// outcomes are a suite's tests by name, and whether they passed. A test that was skipped isn't
// among them.
type outcomes map[string]bool

// passed counts.
func (o outcomes) passed() int {
	n := 0
	for _, ok := range o {
		if ok {
			n++
		}
	}
	return n
}

// readers find outcomes in what a suite prints.
var (
	goTests  = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL): (\S+) \(`)
	pyTests  = regexp.MustCompile(`(?m)^(PASSED|FAILED|ERROR) (?:.*/)?(\S+::\S+)`)
	ownCalls = regexp.MustCompile(`(?m)^(ok|not ok) ([^:\n]+)`)
)

// read is the outcomes in a text, by one of the readers. A name that comes twice has passed if it
// did so each time.
func read(text []byte, by *regexp.Regexp) outcomes {
	out := outcomes{}
	for _, m := range by.FindAllSubmatch(text, -1) {
		name := strings.TrimSpace(string(m[2]))
		ok := slices.Contains([]string{"PASS", "PASSED", "ok"}, string(m[1]))
		before, seen := out[name]
		out[name] = ok && (before || !seen)
	}
	return out
}

// reasons are the differences that may be, by suite and test: the written list.
type reasons map[string]string

// readReasons reads the list: SUITE TEST: REASON, one a line. A test's name may end in "/*", for
// all below it.
func readReasons(b []byte) (reasons, error) {
	out := reasons{}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		test, reason, ok := strings.Cut(line, ": ")
		if !ok || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("the difference %q has no reason", line)
		}
		if out[test] != "" {
			return nil, fmt.Errorf("the difference %q is listed twice", test)
		}
		out[test] = reason
	}
	return out, nil
}

// of is the reason of a test of a suite, and the line that has it.
func (r reasons) of(suite, test string) (reason, line string) {
	for name := test; ; {
		if reason := r[suite+" "+name]; reason != "" {
			return reason, suite + " " + name
		}
		i := strings.LastIndexByte(strings.TrimSuffix(name, "/*"), '/')
		if i < 0 {
			return "", ""
		}
		name = name[:i] + "/*"
	}
}

// compare is what differs, in words, and what of it is wrong: a difference without a reason, and a
// reason without a difference.
func (r reasons) compare(suite string, plain, guard outcomes) (differences, wrong []string) {
	used := map[string]bool{}
	for _, test := range slices.Sorted(maps.Keys(plain)) {
		if !plain[test] || guard[test] {
			continue
		}
		reason, line := r.of(suite, test)
		if reason == "" {
			wrong = append(wrong, test+" passes on the plain socket and not on the guard's, and isn't on the list")
			reason = "NO REASON"
		}
		used[line] = true
		differences = append(differences, test+": "+reason)
	}
	for _, line := range slices.Sorted(maps.Keys(r)) {
		name, ok := strings.CutPrefix(line, suite+" ")
		if ok && !used[line] && plain[name] && guard[name] {
			wrong = append(wrong, name+" is on the list and passes on both")
		}
	}
	return differences, wrong
}

func differencesFile(t *testing.T) reasons {
	t.Helper()
	b, err := os.ReadFile("differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	r, err := readReasons(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCompare(t *testing.T) {
	list, err := readReasons([]byte("# a comment\n\ns a: it is refused\ns b/*: they are refused\ns stale: it was refused\nother c: no\n"))
	if err != nil {
		t.Fatal(err)
	}
	plain := outcomes{"a": true, "b": true, "b/1": true, "b/2/x": true, "c": true, "d": false, "e": true, "stale": true, "f": true}
	guard := outcomes{"a": false, "b": true, "b/1": false, "b/2/x": false, "c": false, "d": true, "e": true, "stale": true}
	differences, wrong := list.compare("s", plain, guard)
	if got, want := strings.Join(differences, "\n"), "a: it is refused\nb/1: they are refused\nb/2/x: they are refused\nc: NO REASON\nf: NO REASON"; got != want {
		t.Errorf("differences\n%s\nwant\n%s", got, want)
	}
	if len(wrong) != 3 || !strings.HasPrefix(wrong[0], "c passes") || !strings.HasPrefix(wrong[1], "f passes") || !strings.HasPrefix(wrong[2], "stale is on the list") {
		t.Errorf("wrong is %q", wrong)
	}
	for _, bad := range []string{"s a", "s a: ", "s a: x\ns a: y"} {
		if _, err := readReasons([]byte(bad)); err == nil {
			t.Errorf("the list %q is read", bad)
		}
	}
}

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		by         *regexp.Regexp
		want       outcomes
	}{
		{"go test", "=== RUN A\n--- PASS: A (0.1s)\n    --- FAIL: A/b (0.00s)\n--- SKIP: C (0s)\n", goTests, outcomes{"A": true, "A/b": false}},
		{"pytest", "PASSED tests/integration/a_test.py::A::b\nFAILED a_test.py::A::c - AssertionError\nERROR a_test.py::D::e\nSKIPPED x\n", pyTests,
			outcomes{"a_test.py::A::b": true, "a_test.py::A::c": false, "a_test.py::D::e": false}},
		{"calls", "ok one\nnot ok two more: because: of\nok two more\n", ownCalls, outcomes{"one": true, "two more": false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := read([]byte(tt.text), tt.by); !maps.Equal(got, tt.want) {
				t.Errorf("read %v, want %v", got, tt.want)
			}
		})
	}
}

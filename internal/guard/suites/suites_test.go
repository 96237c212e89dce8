//go:build !unit

package suites

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// suite is a set of tests.
type suite struct {
	name string
	// long suites run with CLIENTS=all alone.
	long bool
	by   *regexp.Regexp
	run  func(context.Context, *testing.T, *place) []byte
}

// suites are all. Each runs at both places, after those before it.
var suites = []suite{
	{"dockerode", false, ownCalls, func(ctx context.Context, _ *testing.T, p *place) []byte {
		return p.onMachine(ctx, nil, filepath.Join(p.clients, "dockerode"), p.socket, image)
	}},
	{"docker-py", true, ownCalls, func(ctx context.Context, _ *testing.T, p *place) []byte {
		return p.onMachine(ctx, []string{"PYTHONPATH=" + filepath.Join(p.clients, "python"), "PYTHONDONTWRITEBYTECODE=1"}, "python3", filepath.Join(p.clients, "dockerpy.py"), image)
	}},
	{"testcontainers-go", true, goTests, func(ctx context.Context, t *testing.T, p *place) []byte {
		return goSuite(ctx, t, p, "testcontainers", "RYUK_RECONNECTION_TIMEOUT=30s", "-test.short")
	}},
}

// goSuite runs the tests of a Go package in the step, in their folder.
func goSuite(ctx context.Context, t *testing.T, p *place, name, env, flags string) []byte {
	t.Helper()
	p.toStep(t, filepath.Join(p.clients, "suites", name))
	if p.name == "guard" { // what a step with Docker has
		env += " TESTCONTAINERS_HOST_OVERRIDE=host.docker.internal TESTCONTAINERS_RYUK_CONTAINER_PRIVILEGED=false"
	}
	return p.inStep(ctx, "cd "+name+"/folder && "+env+" ../suite.test -test.v -test.parallel 2 -test.timeout 20m "+flags)
}

// suiteTime bounds one suite at one place.
const suiteTime = 30 * time.Minute

// TestSuites runs the suites on both sockets, and fails for each difference without a reason. -v
// prints the comparison; SUITES_LOG is a folder for what the suites print.
func TestSuites(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "../../../scripts/clients")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("get the clients: %v\n%s", err, errs.String())
	}
	clients := strings.TrimSpace(string(out))
	list := differencesFile(t)
	places := [2]*place{plain(t, clients), guarded(t, clients)}
	for _, s := range suites {
		if s.long && os.Getenv("CLIENTS") != "all" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			var printed [2][]byte
			var both sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), suiteTime)
			defer cancel()
			for i, p := range places {
				both.Go(func() { printed[i] = s.run(ctx, t, p) })
			}
			both.Wait()
			if dir := os.Getenv("SUITES_LOG"); dir != "" {
				for i, p := range places {
					if err := os.WriteFile(filepath.Join(dir, s.name+"."+p.name), printed[i], 0o644); err != nil {
						t.Error(err)
					}
				}
			}
			plain, guard := read(printed[0], s.by), read(printed[1], s.by)
			if plain.passed() == 0 {
				t.Fatalf("nothing passes on the plain socket:\n%s", printed[0])
			}
			differences, wrong := list.compare(s.name, plain, guard)
			t.Logf("%s: %d of %d tests pass on the plain socket, %d on the guard's; %d differences\n%s", s.name, plain.passed(), len(plain), guard.passed(), len(differences),
				strings.Join(differences, "\n"))
			for _, w := range wrong {
				t.Error(w)
			}
			if len(wrong) > 0 {
				t.Logf("the guard's side prints\n%s", failures(printed[1]))
			}
		})
	}
}

// failures are the lines of an output that say that something failed, with what stands before them
// in a test's log.
func failures(b []byte) []byte {
	var out []byte
	for line := range bytes.Lines(b) {
		if bytes.Contains(line, []byte("not ok")) || bytes.Contains(line, []byte("FAIL")) || bytes.Contains(line, []byte("Error")) {
			out = append(out, line...)
		}
	}
	return out
}

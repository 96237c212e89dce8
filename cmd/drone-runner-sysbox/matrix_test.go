//go:build !unit

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/drone/drone-go/drone"
	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// fault is something that goes wrong.
type fault struct {
	name string
	env  []string
	// alone says that the daemon suffers too, which worlds share otherwise.
	alone bool
	// strike makes it go wrong and heal lets it be right again, last time later. In between what
	// was held is released.
	strike, heal func(t *testing.T, w *world)
	// last is how long it lasts in the short form; in the long one it is lasts.
	last, lasts time.Duration
	// want is how a build ends that it met in a phase: a status and, behind a colon, what its error
	// says. Where there is none it is success.
	want map[string][]string
	// ends says that the runner is to end by itself.
	ends bool
}

const interruptedEnd = "error: " + interrupted

// faults are all of them.
func faults() []fault {
	nothing := func(*testing.T, *world) {}
	all := func(f rpctest.Fault) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			for _, call := range []string{rpctest.CallRequest, rpctest.CallDetail, rpctest.CallUpdate, rpctest.CallUpdateStep, rpctest.CallWatch, rpctest.CallBatch, rpctest.CallUpload} {
				f.Call = call
				w.disarm = append(w.disarm, w.server.Fault(f))
			}
			t.Cleanup(w.calm)
		}
	}
	// The second is said while nobody listens, which through the world's wire looks so.
	const daemonGone, daemonAway = "error: docker daemon", "error: error during connect"
	const second = time.Second
	return []fault{
		{name: "kill -9 of the runner", strike: func(t *testing.T, w *world) { w.kill(t) }, heal: func(t *testing.T, w *world) { w.start(t) }, last: second, lasts: 10 * second,
			want: map[string][]string{"clone": {interruptedEnd}, "pull": {interruptedEnd}, "step": {interruptedEnd}, "service wait": {interruptedEnd}}},
		{name: "SIGTERM", strike: func(t *testing.T, w *world) { w.signal(t, syscall.SIGTERM) }, heal: nothing, ends: true},
		{name: "server down", strike: func(_ *testing.T, w *world) { w.server.Down() }, heal: func(_ *testing.T, w *world) { w.server.Up() }, last: 3 * second, lasts: time.Minute},
		{name: "server restarted", strike: func(_ *testing.T, w *world) { w.server.Down() }, heal: func(_ *testing.T, w *world) { w.server.Restart() }, last: second, lasts: 10 * second},
		{name: "server answers 500", strike: func(t *testing.T, w *world) {
			all(rpctest.Fault{Status: 500, Body: "database is locked", Times: 4})(t, w)
		}, heal: nothing, last: second, lasts: second},
		{name: "server cuts calls before", strike: all(rpctest.Fault{Drop: true, Every: 2, Times: -1}), heal: nothing, last: second, lasts: second},
		{name: "server cuts calls after", strike: all(rpctest.Fault{Drop: true, Applied: true, Every: 2, Times: -1}), heal: nothing, last: second, lasts: second},
		{name: "server cuts answers", strike: all(rpctest.Fault{Truncate: 5, Every: 2, Times: -1}), heal: nothing, last: second, lasts: second},
		{name: "proxy without server", strike: all(rpctest.Fault{Status: 404, Body: "404 page not found", Times: 4}), heal: nothing, last: second, lasts: second},
		{name: "registry and git down", strike: func(_ *testing.T, w *world) { w.registry.setDown(true); w.git.setDown(true) },
			heal: func(_ *testing.T, w *world) { w.registry.setDown(false); w.git.setDown(false) }, last: second, lasts: second,
			// the stand-in for the clone's image doesn't try again
			want: map[string][]string{"clone": {"failure", "success"}}},
		{name: "spool's disk full", strike: fillState, heal: emptyState, last: second, lasts: 10 * second},
		{name: "kill -9 of dockerd", alone: true, strike: func(t *testing.T, w *world) { w.daemon.Kill(t) }, heal: func(t *testing.T, w *world) { w.daemon.Start(t) }, last: 0, lasts: 20 * second,
			want: map[string][]string{"clone": {daemonGone}, "step": {daemonGone}, "pull": {"success", daemonGone, daemonAway}, "service wait": {"success", daemonGone, daemonAway}}},
		{name: "SIGSTOP of dockerd", alone: true, strike: func(t *testing.T, w *world) { w.daemon.Stop(t) }, heal: func(t *testing.T, w *world) { w.daemon.Continue(t) }, last: 3 * second, lasts: 20 * second},
	}
}

// row is a line of the table.
type row struct {
	fault, phase, status    string
	took                    time.Duration
	lines, missing, doubled int
}

// TestFaultMatrix lets each fault meet builds in each phase, and looks at what becomes of them: the
// server's record is final and right, each line that was printed before the fault is there once, a
// cancel works as ever, and nothing is left, in the daemon, on the disk or in the runner.
// MATRIX=full lets the faults last as long as in life.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	standin.Image(t, "busybox")
	standin.Image(t, "git")
	daemon := guardtest.NewOwnDaemon(t, guardtest.DaemonOptions{Config: `{"default-address-pools": [{"base": "10.96.0.0/12", "size": 24}]}`})
	daemon.Load(t, matrixImages...)
	checked := checkedImage(t, daemon)
	var mu sync.Mutex
	var table []row
	idle := idleGoroutines(t, newWorld(t, daemon, checked))
	if len(idle) < 3 {
		t.Fatalf("an idle runner polls, recovers and serves: %v", idle)
	}

	run := func(f fault) func(*testing.T) {
		return func(t *testing.T) {
			if !f.alone {
				t.Parallel()
			}
			if f.name == "spool's disk full" {
				f.env = append(f.env, "DRONE_RUNNER_STATE="+smallDisk(t))
			}
			rows := meets(t, f, newWorld(t, daemon, checked, f.env...), idle)
			mu.Lock()
			defer mu.Unlock()
			table = append(table, rows...)
		}
	}
	var alone []fault
	t.Run("shared", func(t *testing.T) {
		for _, f := range faults() {
			if f.alone {
				alone = append(alone, f)
				continue
			}
			t.Run(f.name, run(f))
		}
	})
	for _, f := range alone {
		t.Run(f.name, run(f))
	}
	t.Log("\n" + render(table))
}

// meets is one fault in all phases.
func meets(t *testing.T, f fault, w *world, idle map[string]int) []row {
	t.Helper()
	ids := map[string]int64{}
	var parking sync.WaitGroup
	for _, p := range phases() {
		id, parked := p.park(t, w)
		ids[p.name] = id
		parking.Go(parked)
	}
	parking.Wait()
	if t.Failed() {
		t.FailNow()
	}
	sockets := filepath.Join(socketsDir(), w.specOf(t, ids["step"]))
	if _, err := os.Stat(sockets); err != nil {
		t.Errorf("the build with a docker socket: %v", err)
	}
	f.strike(t, w)
	w.release(t)
	last := f.last
	if os.Getenv("MATRIX") == "full" {
		last = f.lasts
	}
	time.Sleep(last)
	healed := time.Now()
	f.heal(t, w)

	var rows []row
	for _, p := range phases() {
		result := w.await(t, ids[p.name])
		stage := result.Stages[0]
		r := row{fault: f.name, phase: p.name, status: stage.Status, took: time.Since(healed)}
		end := stage.Status
		if stage.Error != "" {
			end += ": " + stage.Error
		}
		want := f.want[p.name]
		if want == nil {
			want = []string{drone.StatusPassing}
		}
		if !slices.ContainsFunc(want, func(want string) bool {
			status, text, _ := strings.Cut(want, ": ")
			return stage.Status == status && strings.Contains(stage.Error, text)
		}) {
			t.Errorf("during a %s: the build ended as %q, want one of %q\n%s", p.name, end, want, logs(result))
		}
		for _, step := range stage.Steps {
			if !slices.Contains([]string{drone.StatusPassing, drone.StatusFailing, drone.StatusError, drone.StatusKilled, drone.StatusSkipped}, step.Status) {
				t.Errorf("during a %s: step %s stays %s", p.name, step.Name, step.Status)
			}
		}
		for step, lines := range p.printed {
			if !result.Step(step).Uploaded {
				t.Errorf("during a %s: the server has of the log of %s what came live alone", p.name, step)
			}
			text := "\n" + result.Step(step).Text()
			for _, line := range lines {
				r.lines++
				switch n := strings.Count(text, "\n"+line+"\n"); {
				case n == 0:
					r.missing++
					t.Errorf("during a %s: the log of %s lacks %q:\n%s", p.name, step, line, text)
				case n > 1:
					r.doubled++
					t.Errorf("during a %s: the log of %s has %q %d times:\n%s", p.name, step, line, n, text)
				}
			}
		}
		rows = append(rows, r)
	}
	if f.ends {
		w.wait(t).expect(t, 0, "every build has ended")
	} else {
		rows = append(rows, cancelAfter(t, f, w))
	}
	eventually(t, "the end of what builds left", func() bool { return len(w.left(t)) == 0 })
	if _, err := os.Stat(sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the docker socket of a build is left in %s (%v)", sockets, err)
	}
	for _, dir := range []string{filepath.Join(w.state, "journal"), filepath.Join(w.state, "logs")} {
		if found, err := os.ReadDir(dir); err != nil || len(found) > 0 {
			t.Errorf("%s holds %v (%v)", dir, found, err)
		}
	}
	if !f.ends {
		now := idleGoroutines(t, w)
		for at, n := range now {
			if n > idle[at] {
				t.Errorf("%d goroutines are in %s; in an idle runner %d are", n, at, idle[at])
			}
		}
	}
	if t.Failed() {
		t.Log(w)
	}
	return rows
}

// cancelAfter cancels a build after the fault. Its row tells how long it took until no container
// was left.
func cancelAfter(t *testing.T, f fault, w *world) row {
	t.Helper()
	w.calm()
	id := w.enqueue(rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: [\"trap 'exit 1' TERM\", echo on, 'while :; do sleep 0.1; done']}]\n"})
	w.until(t, id, "a", "\non\n")
	w.server.Cancel(id)
	cancelled := time.Now()
	eventually(t, "the end of the containers of a build that was cancelled", func() bool {
		return !slices.ContainsFunc(w.left(t), func(object string) bool { return strings.HasPrefix(object, "container ") })
	})
	r := row{fault: f.name, phase: "cancel afterwards", took: time.Since(cancelled), lines: 1}
	w.settle(t)
	result := w.await(t, id)
	r.status = result.Stages[0].Status
	if text := "\n" + result.Step("a").Text(); strings.Count(text, "\non\n") != 1 || r.status != drone.StatusKilled {
		t.Errorf("a build that was cancelled after the fault is %s, its log %q", r.status, text)
	}
	return r
}

// idleGoroutines ends a runner that has nothing to do, and is how many of its goroutines began at
// each place.
func idleGoroutines(t *testing.T, w *world) map[string]int {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // what is ending ends
	w.signal(t, syscall.SIGQUIT)
	w.wait(t)
	out := map[string]int{}
	for _, stack := range strings.Split(w.stderr.String(), "\n\n") {
		if !strings.HasPrefix(stack, "goroutine ") || strings.HasPrefix(stack, "goroutine 0 ") {
			continue
		}
		if at := place(stack); at != "" {
			out[at]++
		}
	}
	return out
}

// place is where a goroutine begins, in our own code: where it is at the moment is another thing
// each time. Of one that never gets there it is the library's function that it is in.
func place(stack string) string {
	const ours = "github.com/drone-runner-sysbox/drone-runner-sysbox/"
	begin, library := "", ""
	for line := range strings.Lines(stack) {
		at, _, _ := strings.Cut(line, "(0x")
		at, _, _ = strings.Cut(at, "({")
		at = strings.TrimSpace(at)
		if at, own := strings.CutPrefix(at, ours); own {
			begin = at
		} else if library == "" && strings.HasPrefix(at, "github.com/") {
			library = at
		}
	}
	return cmp.Or(begin, library)
}

// smallDisk is a folder with a disk of its own.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillState leaves no room where the journal and the logs are.
func fillState(t *testing.T, w *world) {
	t.Helper()
	f, err := os.Create(filepath.Join(w.state, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{4096, 1} {
		block := bytes.Repeat([]byte{0}, size)
		for err == nil {
			_, err = f.Write(block)
		}
		err = nil
	}
}

func emptyState(t *testing.T, w *world) {
	t.Helper()
	if err := os.Remove(filepath.Join(w.state, "ballast")); err != nil {
		t.Fatal(err)
	}
}

// logs are what the steps of a build printed, for messages.
func logs(result rpctest.Result) string {
	var out strings.Builder
	for _, stage := range result.Stages {
		for _, step := range stage.Steps {
			fmt.Fprintf(&out, "%s: %s %s\n%s", step.Name, step.Status, step.Error, step.Text())
		}
	}
	return out.String()
}

// render is the table.
func render(table []row) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tphase\tends as\tafter\tlines\tmissing\tdoubled")
	for _, r := range table {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1fs\t%d\t%d\t%d\n", r.fault, r.phase, r.status, r.took.Seconds(), r.lines, r.missing, r.doubled)
	}
	_ = w.Flush()
	return out.String()
}

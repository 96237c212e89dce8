//go:build !unit

package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// number is the value of an environment variable with which who runs the tests makes one longer.
func number(t testing.TB, name string, fallback int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(fallback)))
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: write a number", name, os.Getenv(name))
	}
	return n
}

// memory is how much a process has resident now, and has had at most, in MB.
func memory(t testing.TB, pid int) (now, most float64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	value := func(key string) float64 {
		_, rest, _ := strings.Cut(string(status), key+":")
		kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		return kb / 1024
	}
	return value("VmRSS"), value("VmHWM")
}

// TestSoak runs many builds, a third of which is cancelled at some moment, and looks at what is
// left of them. SOAK=200 runs so many, thirty at once.
func TestSoak(t *testing.T) {
	t.Parallel()
	builds, atOnce := number(t, "SOAK", 16), 6
	if builds >= 200 {
		atOnce = 30
	}
	// Builds clean up after themselves.
	m := newMortal(t, rpctest.NewServer(t), fmt.Sprint("DRONE_RUNNER_CAPACITY=", atOnce), "DRONE_RUNNER_REAP_INTERVAL=0")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))

	const yaml = `
kind: pipeline
clone: {disable: true}
volumes: [{name: docker, host: {path: /var/run/docker.sock}}]
services: [{name: db, image: IMAGE, commands: [sleep 300]}]
steps:
- {name: a, image: IMAGE, commands: [echo one, sleep 0.2], volumes: [{name: docker, path: /var/run/docker.sock}]}
- {name: b, image: IMAGE, commands: [exit 3], failure: ignore}
`
	slots := make(chan struct{}, atOnce)
	ends := make(chan soaked)
	begun := time.Now()
	var running sync.WaitGroup
	running.Go(func() {
		for range builds {
			slots <- struct{}{}
			cancel := time.Duration(-1)
			if chance.IntN(3) == 0 {
				cancel = time.Duration(chance.IntN(1500)) * time.Millisecond
			}
			running.Go(func() {
				defer func() { <-slots }()
				id := m.enqueue(rpctest.Build{YAML: yaml, Trusted: true})
				if cancel >= 0 {
					time.Sleep(cancel)
					m.server.Cancel(id)
				}
				ctx, stop := context.WithTimeout(t.Context(), patience)
				defer stop()
				result, err := m.server.Wait(ctx, id)
				ends <- soaked{result: result, err: err, cancelled: cancel >= 0}
			})
		}
	})
	var passed, killed int
	var early, late float64
	for i := range builds {
		e := <-ends
		switch status := e.result.Build.Status; {
		case e.err == nil && status == drone.StatusPassing:
			passed++
		case e.err == nil && status == drone.StatusKilled && e.cancelled:
			killed++
		default:
			t.Errorf("a build, cancelled: %t, ended as %s: %v", e.cancelled, status, e.err)
		}
		switch now, _ := memory(t, m.cmd.Process.Pid); i {
		case builds / 3:
			early = now
		case builds - 1:
			late = now
		}
	}
	running.Wait()
	m.clean(t)
	_, most := memory(t, m.cmd.Process.Pid)
	t.Logf("%d builds, %d at once, in %s: %d passed, %d cancelled; memory after a third of them %.0f MB, at the end %.0f MB, at most %.0f MB",
		builds, atOnce, time.Since(begun).Round(time.Second/10), passed, killed, early, late, most)
	if late > 1.5*early+20 {
		t.Errorf("the runner's memory grows: %.0f MB after a third of the builds, %.0f MB at the end", early, late)
	}
	m.drain(t)
}

// soaked is how a build ended.
type soaked struct {
	result    rpctest.Result
	err       error
	cancelled bool
}

// TestLongLogNeedsLittleMemory has a step print 50 MB, or LOGMB, all of which is kept, and looks at
// what the runner itself takes: below 60 MB however long the log is. It takes some 35 MB without
// any, so that one which kept the log in memory would show.
func TestLongLogNeedsLittleMemory(t *testing.T) {
	t.Parallel()
	const most, line = 60, 250
	lines := number(t, "LOGMB", 50) * 1_000_000 / line
	server := rpctest.NewServer(t, rpctest.WithoutLogs())
	r := &runner{server: server, image: standin.Image(t, "busybox")}
	c := runnerCall(t, server, "DRONE_RUNNER_LOG_LIMIT=10GB")
	c.program = plainProgram(t)
	r.process = c.start(t)
	r.stderr.await(t, "polling for builds")
	id := r.enqueue(rpctest.Build{YAML: fmt.Sprintf(`
kind: pipeline
clone: {disable: true}
steps:
- name: flood
  image: IMAGE
  commands:
  - awk -v pad=$(printf '%%0%dd' 0) 'BEGIN{for(i=1;i<=%d;i++) printf "%%018d %%s\n", i, pad}'
`, line-20, lines)})
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(lines)*time.Millisecond/4)
	defer cancel()
	result, err := server.Wait(ctx, id)
	if err != nil {
		t.Fatalf("the build doesn't end: %v\n%s", err, r.stderr)
	}
	expectStates(t, result, "default: success 0", "  flood: success 0")
	if got := result.Step("flood").Lines; got != lines+1 {
		t.Errorf("%d lines of the log came, want %d", got, lines+1)
	}
	_, peak := memory(t, r.cmd.Process.Pid)
	t.Logf("a log of %d MB: the runner had %.0f MB of memory at most", lines*line/1_000_000, peak)
	if peak > most {
		t.Errorf("the runner had %.0f MB of memory, want at most %d", peak, most)
	}
	r.drain(t)
}

// plainProgram builds the program as scripts/build does: without the race detector, which
// multiplies its memory.
func plainProgram(t *testing.T) string {
	t.Helper()
	if !underRace {
		return program
	}
	path := filepath.Join(t.TempDir(), "drone-runner-sysbox")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	return path
}

//go:build !unit

package main

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

// sleeper is a file with a step that says that it runs, and then doesn't end, nor heeds SIGTERM.
const sleeper = `
kind: pipeline
services: [{name: web, image: IMAGE, commands: [sleep 300]}]
steps:
- {name: slow, image: IMAGE, commands: ["echo it runs", "sleep 300"]}
- {name: next, image: IMAGE, commands: [echo on]}
`

func TestExecSignals(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		signals []syscall.Signal
		code    int
	}{
		{"Ctrl-C", []syscall.Signal{syscall.SIGINT}, 130},
		{"Ctrl-C twice", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, 130},
		{"SIGTERM", []syscall.Signal{syscall.SIGTERM}, 143},
		{"a terminal that is closed", []syscall.Signal{syscall.SIGHUP}, 129},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, map[string]string{".drone.yml": sleeper})
			p := j.start(t)
			p.stdout.await(t, "slow | it runs")
			for i, s := range row.signals {
				if i > 0 {
					time.Sleep(100 * time.Millisecond)
				}
				// A further one may come too late: then it has no part in the end.
				if err := p.cmd.Process.Signal(s); err != nil && (i == 0 || !errors.Is(err, os.ErrProcessDone)) {
					t.Fatal(err)
				}
			}
			p.wait(t).expect(t, row.code, "slow > killed", "next > skipped", "pipeline default: killed")
		})
	}
}

func TestExecReaderThatGoes(t *testing.T) {
	t.Parallel()
	j := newJob(t, map[string]string{".drone.yml": "kind: pipeline\nsteps: [{name: a, image: IMAGE, commands: ['while true; do echo line; sleep 0.1; done']}]\n"})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{stdout: newBuffer(), stderr: newBuffer(), ended: make(chan struct{})}
	p.begin(t, j.call, w)
	w.Close()
	if _, err := io.ReadAtLeast(r, make([]byte, 200), 60); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if got := p.wait(t).code; got != 141 {
		t.Errorf("exit code %d, want 141, as of a program that SIGPIPE ended", got)
	}
}

//go:build !unit

package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

func TestRunGivesExitCodeAndOutput(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.setup()
	for _, row := range []struct {
		name, script, out string
		code              int
	}{
		{"success", "echo hello", "hello\n", 0},
		{"failure", "echo bye; exit 3", "bye\n", 3},
		{"skip code", "exit 78", "", 78},
		{"last line without newline", "printf 'one\\ntwo'", "one\ntwo", 0},
		{"a lone carriage return", "printf '10%%\\r20%%\\r\\n'", "10%\r20%\r\n", 0},
		{"nothing", "true", "", 0},
		{"closes its output and goes on", "echo before; exec >/dev/null 2>&1; sleep 0.5; exit 4", "before\n", 4},
		{"a child outlives it and holds the output", "sleep 1000 & echo started", "started\n", 0},
		{"a child that a signal ends", "sh -c 'kill -9 $$; true'; exit $?", "Killed\n", 137},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := b.in(t)
			exit, out := b.run(b.step(strings.ReplaceAll(row.name, " ", "-"), row.script))
			if exit != (spec.Exit{Code: row.code}) {
				t.Errorf("exit %+v, want code %d", exit, row.code)
			}
			if out != row.out {
				t.Errorf("output %q, want %q", out, row.out)
			}
		})
	}
}

// The streams are two pipes to the daemon: in which order it reads what is in both is its business.
// What comes after the other stream's line has arrived stays after it.
func TestRunKeepsTheOrderOfBothStreams(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	seen := t.TempDir()
	b.volume("seen", spec.VolumeBind, func(v *spec.Volume) { v.ID, v.Path = "", seen })
	b.setup()
	s := b.step("both", `say() { echo $1 $2; until [ -e /seen/$1$2 ]; do sleep 0.01; done; }; for i in 1 2 3; do say out $i; say err $i >&2; done`, func(s *spec.Step) {
		s.Mounts = []spec.Mount{{Volume: "seen", Path: "/seen"}}
	})
	out := &answering{dir: seen}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if exit, err := b.prepare(s).Run(ctx, out, nil); err != nil || exit.Code != 0 {
		t.Errorf("exit %+v, error %v", exit, err)
	}
	if want := "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"; out.text != want {
		t.Errorf("output %q, want %q", out.text, want)
	}
}

// answering is a log that makes a file for each line, named for its words.
type answering struct{ dir, text string }

func (a *answering) Write(p []byte) (int, error) {
	from := strings.LastIndex(a.text, "\n") + 1
	a.text += string(p)
	for line := range strings.Lines(a.text[from:]) {
		if name, whole := strings.CutSuffix(line, "\n"); whole {
			if err := os.WriteFile(filepath.Join(a.dir, strings.ReplaceAll(name, " ", "")), nil, 0o600); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func TestRunPassesEnvironmentUserAndFolder(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{RunnerName: "runner-1"})
	b.setup()
	s := b.step("env", `echo "[$EMPTY] ${EMPTY+set} [$PLAIN] [$TOKEN] $(id -u) $(pwd) $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null)"; `+
		`df -k /dev/shm | tail -1 | awk '{print $2}'; grep test.example /etc/hosts; cat /etc/resolv.conf`, func(s *spec.Step) {
		s.Env = map[string]string{"EMPTY": "", "PLAIN": "a=b\nc", "TOKEN": "hidden by the secret"}
		s.Secrets = []*spec.Secret{{Name: "token", Env: "TOKEN", Data: "s3cret"}}
		s.User = "65534"
		s.WorkingDir = "/drone/src"
		s.Labels = map[string]string{"own": "label"}
		s.ExtraHosts = []string{"test.example:192.0.2.7"}
		s.DNSSearch = []string{"corp.example"}
		s.Limits = spec.Limits{Memory: 64 << 20, MemorySwap: 64 << 20, ShmSize: 8 << 20, CPUShares: 512, CPUPeriod: 100000, CPUQuota: 50000, CPUSet: "0"}
	})
	out := b.passes(s)
	for _, want := range []string{"[] set [a=b\nc] [s3cret] 65534 /drone/src 67108864\n", "\n8192\n", "192.0.2.7\ttest.example\n", "corp.example"} {
		if !strings.Contains(out, want) {
			t.Errorf("the step doesn't see %q:\n%s", want, out)
		}
	}
	info, err := b.client.ContainerInspect(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{"io.drone": "true", "own": "label", spec.LabelSpec: b.spec.ID, spec.LabelStep: "env", spec.LabelRunner: "runner-1"} {
		if got := info.Config.Labels[label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
	}
	if h := info.HostConfig; h.CPUShares != 512 || h.CPUQuota != 50000 || h.CPUPeriod != 100000 || h.CpusetCpus != "0" {
		t.Errorf("cpu limits didn't arrive: %+v", h.Resources)
	}
}

func TestRunTellsOutOfMemory(t *testing.T) {
	t.Parallel()
	// the daemon's news may be late by more than a build would wait
	b := newBench(t, engine.Options{Deadlines: engine.Deadlines{OOM: patience}})
	b.setup()
	limited := func(s *spec.Step) { s.Limits = spec.Limits{Memory: 16 << 20, MemorySwap: 16 << 20} }
	for _, row := range []struct{ name, script string }{
		{"the shell itself", `x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done`},
		{"a child, whose death the shell reports as 1", `sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done' || exit 1`},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := b.in(t)
			exit, out := b.run(b.step(fmt.Sprintf("oom%d", len(b.spec.Steps)), row.script, limited))
			if want := (spec.Exit{Code: 137, OOMKilled: true}); exit != want {
				t.Errorf("exit %+v, want %+v\n%s", exit, want, out)
			}
		})
	}
	t.Run("a child, and the step copes", func(t *testing.T) {
		b := b.in(t)
		b.passes(b.step("cope", `sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done' || true`, limited))
	})
}

func TestRunDeliversEveryByteOfALongLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.setup()
	const lines = 200_000
	// 250 bytes a line: 50 MB.
	s := b.step("flood", fmt.Sprintf(`pad=$(printf '%%0230d' 0); awk -v pad=$pad 'BEGIN{for(i=1;i<=%d;i++) printf "%%018d %%s\n", i, pad}'`, lines))
	check := &counting{}
	exit, err := b.prepare(s).Run(t.Context(), check, nil)
	if err != nil || exit.Code != 0 {
		t.Fatalf("exit %+v, error %v", exit, err)
	}
	if check.lines != lines || check.wrong != "" {
		t.Errorf("%d lines arrived of %d, out of order at %q", check.lines, lines, check.wrong)
	}
}

// counting checks that lines come numbered in order.
type counting struct {
	rest  []byte
	lines int
	wrong string
	pause time.Duration
}

func (c *counting) Write(p []byte) (int, error) {
	time.Sleep(c.pause)
	c.rest = append(c.rest, p...)
	for {
		end := bytes.IndexByte(c.rest, '\n')
		if end < 0 {
			return len(p), nil
		}
		c.lines++
		var n int
		if _, err := fmt.Sscanf(string(c.rest[:end]), "%d", &n); (err != nil || n != c.lines) && c.wrong == "" {
			c.wrong = string(c.rest[:end])
		}
		c.rest = c.rest[end+1:]
	}
}

// A daemon drops, two seconds after a container has ended, what its client hasn't taken by then:
// with a reader that waits for the log, the output between what the daemon and the socket hold (1.2
// MB) and that plus the pipes of the container.
func TestRunLosesNothingToASlowLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.setup()
	var all sync.WaitGroup
	for _, kb := range []int{1000, 1200, 1250, 1300, 1350, 1400, 1450, 1500, 1600, 10_000} {
		lines := kb * 1000 / 250
		s := b.step(fmt.Sprintf("flood%d", kb), fmt.Sprintf(`pad=$(printf '%%0230d' 0); awk -v pad=$pad 'BEGIN{for(i=1;i<=%d;i++) printf "%%018d %%s\n", i, pad}'`, lines))
		all.Go(func() {
			slow := &stuck{first: 5 * time.Second}
			c, err := b.engine.Prepare(t.Context(), b.spec, s, io.Discard)
			if err != nil {
				t.Error(err)
				return
			}
			exit, err := c.Run(t.Context(), slow, nil)
			if err != nil || exit.Code != 0 {
				t.Errorf("%d kB: exit %+v, error %v", kb, exit, err)
			}
			if slow.lines != lines || slow.wrong != "" {
				t.Errorf("%d kB: %d lines arrived of %d, out of order at %q", kb, slow.lines, lines, slow.wrong)
			}
		})
	}
	all.Wait()
}

// stuck is a log that hangs at its first write.
type stuck struct {
	counting
	first time.Duration
}

func (s *stuck) Write(p []byte) (int, error) {
	time.Sleep(s.first)
	s.first = 0
	return s.counting.Write(p)
}

func TestRunReportsALogThatFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.setup()
	s := b.step("flood", `yes | head -c 5000000`)
	_, err := b.prepare(s).Run(t.Context(), failing{}, nil)
	if !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error %v, want that of the log", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestRunErrorsNameStepImageAndCure(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.setup()
	for _, row := range []struct {
		name   string
		change func(*spec.Step)
		want   []string
	}{
		{"no such program", func(s *spec.Step) { s.Entrypoint = []string{"nowhere"} }, []string{"standin/busybox:1", "nowhere", "the image has no such program"}},
		{"no such path", func(s *spec.Step) { s.Entrypoint = []string{"/no/such"} }, []string{"/no/such", "the image has no such program"}},
		{"not executable", func(s *spec.Step) { s.Entrypoint = []string{"/etc/passwd"} }, []string{"isn't executable"}},
		{"no such user", func(s *spec.Step) { s.User = "jane" }, []string{"jane", "the image doesn't know the step's user"}},
		{"no such group", func(s *spec.Step) { s.User = "0:staff" }, []string{"staff", "the image doesn't know the step's group"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := b.in(t)
			s := b.step("bad"+fmt.Sprint(len(b.spec.Steps)), "true", row.change)
			started := false
			_, err := b.prepare(s).Run(t.Context(), io.Discard, func() { started = true })
			wantError(t, err, append(row.want, "start container \""+s.Name+"\"")...)
			if started {
				t.Error("it was reported as started")
			}
		})
	}
}

func TestRunOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.setup()
	c := b.prepare(b.step("once", "true"))
	if _, err := c.Run(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.Run(t.Context(), nil, nil)
	wantError(t, err, "once", "run before")
}

func TestRunStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{StopGrace: time.Hour}) // longer than the test's patience
	b.setup()
	t.Run("it obeys SIGTERM and has its last word", func(t *testing.T) {
		b := b.in(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var out transcript
		wait := b.background(ctx, b.prepare(b.step("polite", `trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.1; done`)), &out)
		out.waitFor(t, "ready")
		cancel()
		if _, err := wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if got := out.String(); got != "ready\ngoodbye\n" {
			t.Errorf("output %q", got)
		}
	})
	t.Run("it is killed at once where nobody needs its good end", func(t *testing.T) {
		b := b.in(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		var out transcript
		wait := b.background(ctx, b.prepare(b.step("service", `trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.1; done`)), &out)
		out.waitFor(t, "ready")
		cancel(fmt.Errorf("over: %w", spec.ErrKill))
		if exit, err := wait(); !errors.Is(err, context.Canceled) || exit.Code != 137 {
			t.Errorf("exit %+v, error %v", exit, err)
		}
		if got := out.String(); got != "ready\n" {
			t.Errorf("output %q", got)
		}
	})
	for name, row := range map[string]struct{ script, want string }{
		"none of it handles SIGTERM":    {`echo ready; sleep 1000; echo went on`, "ready\n"},
		"a pipe of shells":              {`echo 'echo ready; sleep 1000; echo went on' | sh; echo went on`, "ready\n"},
		"a command of it does":          {`sh -c 'trap "echo goodbye; exit 0" TERM; echo ready; while :; do sleep 0.1; done'; echo went on`, "ready\ngoodbye\n"},
		"a command of a command does":   {`echo 'sh -c "trap \"echo goodbye; exit 0\" TERM; echo ready; while :; do sleep 0.1; done"; echo went on' | sh; echo went on`, "ready\ngoodbye\n"},
		"one that does has its own way": {`sh -c 'trap "" TERM; sh -c "trap \"echo never\" TERM; while :; do sleep 0.1; done" & trap "echo goodbye; exit 0" TERM; echo ready; while :; do sleep 0.1; done'`, "ready\ngoodbye\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out transcript
			wait := b.background(ctx, b.prepare(b.step("s"+strings.ReplaceAll(name, " ", "-"), row.script)), &out)
			out.waitFor(t, "ready")
			cancel()
			if _, err := wait(); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			if got := out.String(); got != row.want {
				t.Errorf("output %q, want %q", got, row.want)
			}
		})
	}
	t.Run("its last word is long", func(t *testing.T) {
		b := b.in(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var out transcript
		wait := b.background(ctx, b.prepare(b.step("talkative", `trap 'yes goodbye | head -n 200000; exit 0' TERM; echo ready; while :; do sleep 0.1; done`)), &out)
		out.waitFor(t, "ready")
		cancel()
		if _, err := wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if got := strings.Count(out.String(), "goodbye\n"); got != 200_000 {
			t.Errorf("%d lines came of 200000", got)
		}
	})
	t.Run("it ignores SIGTERM and is killed", func(t *testing.T) {
		b := b.in(t)
		b2 := newBench(t, engine.Options{StopGrace: 200 * time.Millisecond})
		b2.setup()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var out transcript
		s := b2.step("stubborn", `trap '' TERM; echo ready; while :; do sleep 0.1; done`)
		wait := b2.background(ctx, b2.prepare(s), &out)
		out.waitFor(t, "ready")
		cancel()
		exit, err := wait()
		if !errors.Is(err, context.Canceled) || exit.Code != 137 {
			t.Errorf("exit %+v, error %v", exit, err)
		}
		info, err := b.client.ContainerInspect(t.Context(), s.ID)
		if err != nil || info.State.Running {
			t.Errorf("it runs still, or is gone: %v", err)
		}
	})
	t.Run("before it starts", func(t *testing.T) {
		b := b.in(t)
		ctx, cancel := context.WithCancel(t.Context())
		s := b.step("never", `echo ran`)
		c := b.prepare(s)
		cancel()
		var out transcript
		if _, err := c.Run(ctx, &out, func() { t.Error("it started") }); !errors.Is(err, context.Canceled) || out.String() != "" {
			t.Errorf("error %v, output %q", err, out.String())
		}
	})
	t.Run("a deadline is told as such", func(t *testing.T) {
		b := b.in(t)
		c := b.prepare(b.step("late", `trap 'exit 0' TERM; while :; do sleep 0.1; done`))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Run(ctx, nil, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRunEndsWhenItsContainerIsRemoved(t *testing.T) {
	t.Parallel()
	b := newBench(t, engine.Options{})
	b.setup()
	var out transcript
	s := b.step("victim", "echo ready; sleep 1000")
	wait := b.background(t.Context(), b.prepare(s), &out)
	out.waitFor(t, "ready")
	if err := b.client.ContainerRemove(t.Context(), s.ID, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	exit, err := wait()
	if err == nil && exit.Code == 0 {
		t.Error("it ended as if nothing had happened")
	}
}

func TestRunLeavesNoFilesOfASlowLog(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	b := newBench(t, engine.Options{})
	b.setup()
	slow := &asleep{first: time.Second}
	if _, err := b.prepare(b.step("flood", `yes | head -c 5000000`)).Run(t.Context(), slow, nil); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(os.TempDir()); err != nil || len(files) > 0 {
		t.Errorf("left %v, %v", files, err)
	}
}

// asleep hangs at its first write and takes anything.
type asleep struct{ first time.Duration }

func (a *asleep) Write(p []byte) (int, error) {
	time.Sleep(a.first)
	a.first = 0
	return len(p), nil
}

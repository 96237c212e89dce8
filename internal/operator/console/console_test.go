package console

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

var update = flag.Bool("update", false, "write the golden files anew")

// play runs a stage with a step of every outcome through the console.
func play(t *testing.T, c *Console) {
	t.Helper()
	ctx := t.Context()
	step := func(n int, name, status string, exit int) drone.Step {
		return drone.Step{Number: n, Name: name, Status: status, ExitCode: exit, Image: "docker.io/library/busybox:1"}
	}
	names := []string{"web", "build", "lint", "pull", "deploy"}
	stage := drone.Stage{Name: "default", Status: drone.StatusRunning}
	for i, name := range names {
		s := step(i+1, name, drone.StatusPending, 0)
		stage.Steps = append(stage.Steps, &s)
	}
	if err := c.Begin(ctx, stage); err != nil {
		t.Fatal(err)
	}
	finish := func(s drone.Step) {
		c.StepFinished(ctx, s, nil)
		*stage.Steps[s.Number-1] = s
	}

	web := step(1, "web", drone.StatusRunning, 0)
	web.Detached = true
	webLog := c.StepStarted(ctx, web)
	build := c.StepStarted(ctx, step(2, "build", drone.StatusRunning, 0))
	// Two steps that write at once: their lines stay whole.
	lines(build, "+ make\n")
	lines(webLog, "listening on :80\n")
	lines(build, "compiling\r\n", " 10%\r 100%\n", "\x1b[31mred\n", "last line without an end")
	time.Sleep(1234 * time.Millisecond)
	build.Close()
	finish(step(2, "build", drone.StatusPassing, 0))

	lint := c.StepStarted(ctx, step(3, "lint", drone.StatusRunning, 0))
	time.Sleep(100 * time.Millisecond)
	lint.Close()
	ignored := step(3, "lint", drone.StatusFailing, 2)
	ignored.ErrIgnore = true
	finish(ignored)

	c.StepStarted(ctx, step(4, "pull", drone.StatusRunning, 0)).Close()
	broken := step(4, "pull", drone.StatusError, 255)
	broken.Error = "pull image \"busybox:1\": it is not there:\nask somebody"
	finish(broken)
	finish(step(5, "deploy", drone.StatusSkipped, 0))
	webLog.Close()
	finish(step(1, "web", drone.StatusPassing, 0))

	stage.Status, stage.Error = drone.StatusError, "pull image \"busybox:1\": it is not there:\nask somebody"
	if err := c.End(ctx, stage); err != nil {
		t.Fatal(err)
	}
	c.Skipped("later", "it depends on default, which did not pass")
	c.Total()
}

func TestOutput(t *testing.T) {
	for _, row := range []struct {
		name   string
		colors bool
	}{
		{"plain", false},
		{"colors", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				play(t, New(&out, row.colors))
				golden := filepath.Join("testdata", row.name+".txt")
				if *update {
					if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), out.String()); diff != "" {
					t.Errorf("output differs from %s (-want +got):\n%s", golden, diff)
				}
			})
		})
	}
}

func TestLinesOfParallelStepsDontMix(t *testing.T) {
	var out bytes.Buffer
	c := New(&out, false)
	const steps, each = 8, 200
	stage := drone.Stage{Name: "default"}
	for i := range steps {
		stage.Steps = append(stage.Steps, &drone.Step{Number: i + 1, Name: fmt.Sprintf("step%d", i+1)})
	}
	if err := c.Begin(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for _, step := range stage.Steps {
		running.Go(func() {
			out := livelog.NewOutput(c.StepStarted(t.Context(), *step), livelog.NewMask(nil))
			for i := range each {
				for piece := range strings.SplitSeq(fmt.Sprintf("line %d of %s|\n", i, step.Name), " ") {
					if _, err := out.Write([]byte(piece + " ")); err != nil {
						t.Error(err)
					}
				}
			}
			if _, err := out.Close(); err != nil {
				t.Error(err)
			}
			c.StepFinished(t.Context(), *step, nil)
		})
	}
	running.Wait()
	count := 0
	for line := range strings.Lines(out.String()) {
		if name, text, found := strings.Cut(line, " | "); found && strings.Contains(text, "line") {
			count++
			if !strings.Contains(text, "of "+name+"|") {
				t.Fatalf("a line of another step, or none: %q", line)
			}
		}
	}
	if count != steps*each {
		t.Errorf("%d lines were printed, want %d", count, steps*each)
	}
}

func TestLog(t *testing.T) {
	for _, row := range []struct {
		name   string
		colors bool
		lines  []string
		want   string
	}{
		{"nothing", false, nil, ""},
		{"an empty line", false, []string{"\n"}, "s | \n"},
		{"three lines", false, []string{"a\n", "b\n", "c\n"}, "s | a\ns | b\ns | c\n"},
		{"more than is printed at once", false, []string{strings.Repeat("x", flushSize) + "\n", "y\n"}, "s | " + strings.Repeat("x", flushSize) + "\ns | y\n"},
		{"no end of line", false, []string{"a"}, "s | a\n"},
		{"a file keeps what a terminal would overwrite", false, []string{"1%\r2%\r\n"}, "s | 1%\r2%\n"},
		{"a terminal sees the last state of a bar", true, []string{"1%\r2%\r\n"}, "\x1b[36ms |\x1b[0m 2%\n"},
		{"colours of a line end with it", true, []string{"\x1b[31mred\n"}, "\x1b[36ms |\x1b[0m \x1b[31mred\x1b[0m\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			c := New(&out, row.colors)
			l := &log{console: c, prefix: c.prefix(drone.Step{Number: 1, Name: "s"}, "|")}
			lines(l, row.lines...)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			lines(l, "late")
			if diff := cmp.Diff(row.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := l.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}

// lines gives a log lines, and has them printed.
func lines(log runtime.Log, texts ...string) {
	for _, text := range texts {
		log.Line([]byte(text))
	}
	log.Flush()
}

// broken is a terminal that is gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestReaderThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { play(t, New(broken{}, false)) })
}

func TestOddNames(t *testing.T) {
	var out bytes.Buffer
	c := New(&out, false)
	step := drone.Step{Number: 1, Name: "a\nb\x1b[2J" + strings.Repeat("z", 40), Image: "no\nimage"}
	if err := c.Begin(t.Context(), drone.Stage{Name: "p\r\nq", Steps: []*drone.Step{&step, {Number: 2, Name: "b"}}}); err != nil {
		t.Fatal(err)
	}
	c.StepStarted(t.Context(), step)
	if strings.ContainsAny(out.String(), "\x1b\r") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("names may not steer the terminal: %q", out.String())
	}
}

func TestColors(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if Colors(f) {
		t.Error("a file that is no terminal gets colours")
	}
}

// Package console shows stages on a terminal: it is the runtime.Reporter of builds that no server
// waits for.
//
// The one rule to keep: what is printed is printed by whole lines, each with the name of its step,
// so that steps that run at once stay readable. Secrets are masked before they come here; nothing
// here knows them.
package console

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/distribution/reference"
	"github.com/drone/drone-go/drone"
	"golang.org/x/term"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// maxPrefix is how wide the column of step names gets; longer names stick out.
const maxPrefix = 24

// Console prints one stage after the other, and remembers how each ended for Total. Its methods may
// be called concurrently, as a Reporter's may, for one stage at a time. It writes to nothing but
// its writer, and an error of that one changes nothing: a build doesn't fail because nobody reads
// its output.
type Console struct {
	mu    sync.Mutex
	out   io.Writer
	paint painter

	width   int               // of the column of step names
	began   time.Time         // of the stage
	steps   map[int]time.Time // when each step started, by its number
	took    map[int]time.Duration
	failed  map[string]string // why services and detached steps have failed, by their names
	results []result
}

// result is a line of Total.
type result struct {
	pipeline, status string
	seconds          string
	why              string
}

var _ runtime.Reporter = (*Console)(nil)

// New is a console that prints to w, in colours if asked to; see Colors.
func New(w io.Writer, colors bool) *Console {
	return &Console{out: w, paint: painter(colors)}
}

// Colors reports whether output to f is to be coloured: f is a terminal, and neither NO_COLOR
// (https://no-color.org) nor TERM=dumb forbids it.
func Colors(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// Begin prints the name of the pipeline.
func (c *Console) Begin(_ context.Context, stage drone.Stage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = time.Now()
	c.steps, c.took, c.failed = map[int]time.Time{}, map[int]time.Duration{}, map[string]string{}
	c.width = 0
	for _, step := range stage.Steps {
		c.width = max(c.width, min(len([]rune(printable(step.Name))), maxPrefix))
	}
	c.headline(fmt.Sprintf("pipeline %s: %s", printable(stage.Name), count(len(stage.Steps), "step")))
	return nil
}

// StepStarted prints that the step runs, and is the log whose lines are printed behind its name.
func (c *Console) StepStarted(_ context.Context, step drone.Step) runtime.Log {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps[step.Number] = time.Now()
	what := "started"
	if step.Detached {
		what = "started in the background"
	}
	if step.Image != "" {
		what += " (" + familiar(step.Image) + ")"
	}
	c.state(step, what, dim)
	return &log{console: c, prefix: c.prefix(step, "|")}
}

// DetachedFailed notes why a service or a detached step has failed, whose record says that it
// passed.
func (c *Console) DetachedFailed(step, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[step] = why
}

// outcome returns the status of a step as it is shown. Failed is what a detached one did without
// failing its stage.
func (c *Console) outcome(step drone.Step) (status string, color color) {
	if _, ok := c.failed[step.Name]; ok && step.Detached && step.Status == drone.StatusPassing {
		return "failed", red
	}
	return step.Status, statusColor(step.Status, step.ErrIgnore)
}

// StepFinished prints how the step ended.
func (c *Console) StepFinished(_ context.Context, step drone.Step, _ *drone.CardInput) {
	c.mu.Lock()
	defer c.mu.Unlock()
	status, color := c.outcome(step)
	what := status
	if status == step.Status {
		what = describe(step)
	}
	if start, ok := c.steps[step.Number]; ok {
		c.took[step.Number] = time.Since(start)
		what += " after " + seconds(c.took[step.Number]) + " s"
	}
	c.state(step, what, color)
	why := step.Error
	if status != step.Status {
		why = c.failed[step.Name]
	}
	for line := range strings.Lines(why) {
		c.state(step, strings.TrimRight(line, "\r\n"), color)
	}
}

// End prints the table of the steps and how the stage ended.
func (c *Console) End(_ context.Context, stage drone.Stage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := seconds(time.Since(c.began))
	c.table(stage)
	c.headline(fmt.Sprintf("pipeline %s: %s after %s s", printable(stage.Name), c.paint.as(statusColor(stage.Status, false), stage.Status), took))
	for line := range strings.Lines(stage.Error) {
		c.print("   " + c.paint.as(red, strings.TrimRight(line, "\r\n")))
	}
	c.results = append(c.results, result{pipeline: printable(stage.Name), status: stage.Status, seconds: took})
	return nil
}

// Skipped prints that a pipeline isn't run, and why.
func (c *Console) Skipped(pipeline, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pipeline = printable(pipeline)
	c.headline(fmt.Sprintf("pipeline %s: %s: %s", pipeline, c.paint.as(yellow, drone.StatusSkipped), why))
	c.results = append(c.results, result{pipeline: pipeline, status: drone.StatusSkipped, why: why})
}

// Total prints a line for each pipeline, if there was more than one.
func (c *Console) Total() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.results) < 2 {
		return
	}
	rows := [][]cell{{{text: "PIPELINE"}, {text: "STATUS"}, {text: "SECONDS", right: true}, {text: ""}}}
	for _, r := range c.results {
		rows = append(rows, []cell{{text: r.pipeline}, {text: r.status, color: statusColor(r.status, false)}, {text: orDash(r.seconds), right: true}, {text: r.why}})
	}
	c.headline(count(len(c.results), "pipeline"))
	c.printTable(rows)
}

// headline is a line of the console's own.
func (c *Console) headline(text string) { c.print(c.paint.as(bold, "==") + " " + text) }

// state is a line about the step, told apart from what the step printed by its ">".
func (c *Console) state(step drone.Step, text string, color color) {
	c.print(c.prefix(step, ">") + c.paint.as(color, text))
}

// prefix is the name of the step in its column.
func (c *Console) prefix(step drone.Step, mark string) string {
	name := printable(step.Name)
	pad := strings.Repeat(" ", max(0, c.width-len([]rune(name))))
	return c.paint.as(stepColor(step.Number), name+pad+" "+mark) + " "
}

// print writes a line at once, so that nothing comes between its parts.
func (c *Console) print(line string) { _, _ = io.WriteString(c.out, line+"\n") }

// describe is the step's end in words.
func describe(step drone.Step) string {
	switch {
	case step.Status == drone.StatusSkipped:
		return drone.StatusSkipped
	case step.ErrIgnore && step.Status == drone.StatusFailing:
		return fmt.Sprintf("%s, exit code %d (ignored)", step.Status, step.ExitCode)
	case step.ExitCode != 0:
		return fmt.Sprintf("%s, exit code %d", step.Status, step.ExitCode)
	}
	return step.Status
}

// familiar is an image as one writes it, without Docker Hub's address.
func familiar(image string) string {
	if named, err := reference.ParseNormalizedNamed(image); err == nil {
		return reference.FamiliarString(named)
	}
	return printable(image)
}

// printable is a name without what would disturb the terminal or the columns.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, name)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

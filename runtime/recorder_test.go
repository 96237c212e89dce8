package runtime

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
)

// recorder is a Reporter that keeps what it is told, and fails the test when it is told things that
// the contract of Reporter excludes.
type recorder struct {
	t *testing.T
	// beginErr and endErr are what these calls fail with.
	beginErr, endErr error
	// panicOn names a call ("Begin", "StepStarted a", "Write a", "Close a", "StepFinished a",
	// "End") that panics.
	panicOn string
	// noLogs gives no step a log, and closeErr is what closing one fails with.
	noLogs   bool
	closeErr error

	mu       sync.Mutex
	calls    []string
	began    *drone.Stage
	logs     map[string]*recordedLog
	finished map[string]drone.Step
	cards    map[string]*drone.CardInput
	ended    *drone.Stage
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{t: t, logs: map[string]*recordedLog{}, finished: map[string]drone.Step{}, cards: map[string]*drone.CardInput{}}
}

func (r *recorder) call(format string, args ...any) {
	name := fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.calls = append(r.calls, name)
	panics := r.panicOn == name
	r.mu.Unlock()
	if panics {
		panic("the reporter is broken")
	}
}

func (r *recorder) Begin(_ context.Context, stage drone.Stage) error {
	r.call("Begin")
	for _, step := range stage.Steps {
		if step.Status != drone.StatusPending {
			r.t.Errorf("step %q begins as %q", step.Name, step.Status)
		}
	}
	if stage.Status != drone.StatusRunning || stage.Started == 0 {
		r.t.Errorf("the stage begins as %q, at %d", stage.Status, stage.Started)
	}
	r.began = &stage
	return r.beginErr
}

func (r *recorder) StepStarted(_ context.Context, step drone.Step) Log {
	r.call("StepStarted %s", step.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began == nil || r.ended != nil || r.logs[step.Name] != nil {
		r.t.Errorf("step %q started before the stage began, after it ended, or twice", step.Name)
	}
	if step.Status != drone.StatusRunning || step.Started == 0 {
		r.t.Errorf("step %q started as %q, at %d", step.Name, step.Status, step.Started)
	}
	log := &recordedLog{recorder: r, step: step.Name}
	r.logs[step.Name] = log
	if r.noLogs {
		return nil
	}
	return log
}

func (r *recorder) StepFinished(ctx context.Context, step drone.Step, card *drone.CardInput) {
	r.call("StepFinished %s", step.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.finished[step.Name]; twice || r.ended != nil {
		r.t.Errorf("step %q finished twice, or after the stage ended", step.Name)
	}
	if log := r.logs[step.Name]; log != nil && !log.closed && !r.noLogs && r.panicOn == "" {
		r.t.Errorf("step %q finished while its log was open", step.Name)
	}
	if ctx.Err() != nil {
		r.t.Errorf("step %q finished with a context that is over", step.Name)
	}
	if !rpc.Final(step.Status) || step.Started == 0 || step.Stopped < step.Started {
		r.t.Errorf("step %q finished as %q, %d to %d", step.Name, step.Status, step.Started, step.Stopped)
	}
	r.finished[step.Name] = step
	r.cards[step.Name] = card
}

func (r *recorder) End(ctx context.Context, stage drone.Stage) error {
	r.call("End")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		r.t.Error("the stage ended twice")
	}
	if ctx.Err() != nil {
		r.t.Error("the stage ended with a context that is over")
	}
	for _, step := range stage.Steps {
		if told, ok := r.finished[step.Name]; r.panicOn == "" && (!ok || told.Status != step.Status) {
			r.t.Errorf("step %q ended as %q, and was reported as %q", step.Name, step.Status, told.Status)
		}
	}
	r.ended = &stage
	return r.endErr
}

// text is the log of a step.
func (r *recorder) text(step string) string {
	r.mu.Lock()
	log := r.logs[step]
	r.mu.Unlock()
	if log == nil {
		return ""
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	return log.text.String()
}

type recordedLog struct {
	recorder *recorder
	step     string
	mu       sync.Mutex
	text     bytes.Buffer
	closed   bool
}

func (l *recordedLog) Line(line []byte) {
	if l.recorder.panicOn == "Write "+l.step {
		panic("the log is broken")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.recorder.t.Errorf("step %q: a line after the end of its log", l.step)
	}
	l.text.Write(line)
}

func (l *recordedLog) Flush() {}

func (l *recordedLog) Close() error {
	l.recorder.call("Close %s", l.step)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.recorder.closeErr
}

// render is a stage in one line: "a:success b:failure/3 c:skipped => failure".
func render(stage drone.Stage) string {
	one := func(status string, exit int) string {
		if exit == 0 {
			return status
		}
		return fmt.Sprintf("%s/%d", status, exit)
	}
	var out []string
	for _, step := range stage.Steps {
		out = append(out, step.Name+":"+one(step.Status, step.ExitCode))
	}
	return strings.Join(append(out, "=> "+one(stage.Status, stage.ExitCode)), " ")
}

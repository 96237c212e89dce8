package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// fake is a Client without a network: a server with one stage. rpctest is the faithful one; this
// one works on synctest's clock, panics and answers nonsense.
type fake struct {
	t *testing.T
	// before is asked before each call, by the call's name and its subject: "update running",
	// "update step a running", "batch a", "upload a".
	before func(ctx context.Context, call string) error
	// details are what Detail answers.
	details *client.Context

	mu     sync.Mutex
	calls  []string
	stage  drone.Stage
	steps  map[int64]drone.Step
	logs   map[int64][]*drone.Line
	live   map[int64]int
	stream map[int64]bool
}

var _ Client = (*fake)(nil)

func newFake(t *testing.T) *fake {
	stage := drone.Stage{ID: 1, BuildID: 3, Number: 1, Name: "default", Status: drone.StatusPending, Version: 1}
	return &fake{
		t:     t,
		stage: stage,
		details: &client.Context{
			Build:  &drone.Build{ID: 3, Number: 42, Event: "push", Status: drone.StatusPending},
			Stage:  &drone.Stage{ID: 1},
			Repo:   &drone.Repo{ID: 2, Slug: "octo/lab", Timeout: 60},
			Config: &client.File{},
			System: &drone.System{},
		},
		steps:  map[int64]drone.Step{},
		logs:   map[int64][]*drone.Line{},
		live:   map[int64]int{},
		stream: map[int64]bool{},
	}
}

func (f *fake) call(ctx context.Context, format string, args ...any) error {
	name := fmt.Sprintf(format, args...)
	f.mu.Lock()
	f.calls = append(f.calls, name)
	f.mu.Unlock()
	if f.before != nil {
		if err := f.before(ctx, name); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// final is the stage as the server has it in the end, with its steps.
func (f *fake) final() drone.Stage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return copyStage(f.stage)
}

func (f *fake) Join(context.Context, string) error  { return nil }
func (f *fake) Leave(context.Context, string) error { return nil }
func (f *fake) Ping(context.Context, string) error  { return nil }
func (f *fake) Request(context.Context, *client.Filter) (*drone.Stage, error) {
	panic("nobody asks for stages here")
}

func (f *fake) Accept(ctx context.Context, stage *drone.Stage) error {
	if err := f.call(ctx, "accept %s", stage.Machine); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stage.Version++
	f.stage.Machine = stage.Machine
	stage.Version = f.stage.Version
	return nil
}

func (f *fake) Detail(ctx context.Context, _ *drone.Stage) (*client.Context, error) {
	if err := f.call(ctx, "detail"); err != nil {
		return nil, err
	}
	if f.details == nil {
		return nil, nil
	}
	d := *f.details
	if d.Stage != nil {
		stage := f.final()
		stage.Steps = nil
		d.Stage = &stage
	}
	return &d, nil
}

func (f *fake) Update(ctx context.Context, stage *drone.Stage) error {
	if err := f.call(ctx, "update %s", stage.Status); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if stage.Version != f.stage.Version {
		return client.ErrOptimisticLock
	}
	if rpc.Final(f.stage.Status) {
		f.t.Errorf("the stage is put to %q after its end as %q", stage.Status, f.stage.Status)
	}
	for i, step := range stage.Steps {
		if step.ID == 0 {
			step.ID, step.StageID = int64(i+100), stage.ID
		} else if step.Version != f.steps[step.ID].Version {
			return client.ErrOptimisticLock
		}
		step.Version++
		f.steps[step.ID] = *step
	}
	stage.Version++
	f.stage = copyStage(*stage)
	return nil
}

func (f *fake) UpdateStep(ctx context.Context, step *drone.Step) error {
	if err := f.call(ctx, "update step %s %s", step.Name, step.Status); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	have := f.steps[step.ID]
	f.stream[step.ID] = step.Status == drone.StatusRunning
	if have.Version != step.Version {
		return client.ErrOptimisticLock
	}
	step.Version++
	f.steps[step.ID] = *step
	return nil
}

func (f *fake) Watch(ctx context.Context, _ int64) (bool, error) {
	if err := f.call(ctx, "watch"); err != nil {
		return false, err
	}
	if rpc.Final(f.final().Status) {
		return true, nil
	}
	return false, pause.For(ctx, 30*time.Second)
}

func (f *fake) Batch(ctx context.Context, step int64, lines []*drone.Line) error {
	if err := f.call(ctx, "batch %s", f.name(step)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[step] += len(lines)
	return nil
}

func (f *fake) Upload(ctx context.Context, step int64, lines []*drone.Line) error {
	if err := f.call(ctx, "upload %s", f.name(step)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[step] = lines
	return nil
}

func (f *fake) UploadFrom(ctx context.Context, step int64, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	var lines []*drone.Line
	if err := json.NewDecoder(r).Decode(&lines); err != nil {
		return err
	}
	return f.Upload(ctx, step, lines)
}

func (f *fake) UploadCard(ctx context.Context, step int64, _ *drone.CardInput) error {
	return f.call(ctx, "card %s", f.name(step))
}

func (f *fake) name(step int64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps[step].Name
}

// log is the text that was uploaded for a step.
func (f *fake) log(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := ""
	for id, step := range f.steps {
		if step.Name == name {
			for _, line := range f.logs[id] {
				text += line.Message
			}
		}
	}
	return text
}

package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// locks is how often an update is put again after the server's version was re-read. Each time
// somebody else would have to have been faster.
const locks = 5

// lookups is how often the server's record of a build is asked for before the runner does without
// it.
const lookups = 5

// Update puts the state of the stage, and refreshes its version and, by their number, the ids and
// versions of its steps. A state that somebody else changed first, as a cancel does, is
// client.ErrOptimisticLock. Steps of a final stage that the server never gave an id are left out.
//
// An answer can get lost after the server has done what was asked; the repetition then meets a lock
// error of our own making. What the server holds is read anew in that case:
//
//   - The server has our final status: done.
//   - The stage is running and wanted running: done, except that a first update has to bring home
//     the ids of the steps. They are looked for in the details and then in the server's record of
//     the build, which everybody may read for a public repository. Where neither gives them, the
//     steps are created anew under numbers behind the lost ones (the server lets no number be used
//     twice), which stay pending there. A list of steps with some stale lines is better than a lost
//     build.
//   - The stage isn't final and is wanted so: it is put once more with the server's version and
//     without its steps, of which each has had an update of its own. This also ends a stage of
//     which only a step's version was stale.
func (c *Client) Update(ctx context.Context, stage *drone.Stage) error {
	name := fmt.Sprintf("update stage %d to %q", stage.ID, stage.Status)
	send := *stage
	send.Error = clip(stage.Error)
	send.Steps = clipped(known(stage.Steps))
	if Final(stage.Status) {
		send.Steps = created(send.Steps)
	}
	unsure, offset := false, 0
	for range locks {
		got, out, err := c.putStage(ctx, name, &send)
		unsure = unsure || out.unsure
		if err == nil {
			adopt(stage, got, offset)
			return nil
		}
		if !errors.Is(err, client.ErrOptimisticLock) || !unsure && !Final(stage.Status) {
			return err
		}
		d, derr := c.detail(ctx, stage.ID)
		if derr != nil {
			return fmt.Errorf("%s: see what the server has: %w", name, derr)
		}
		there := d.Stage
		switch {
		case Final(there.Status) && there.Status == stage.Status && unsure:
			adopt(stage, there, offset)
			return nil
		case Final(there.Status) || there.Machine != stage.Machine:
			return err
		case Final(stage.Status):
			send.Steps = nil
		case there.Status == stage.Status && len(created(send.Steps)) == len(send.Steps):
			adopt(stage, there, offset)
			return nil
		case there.Status == stage.Status:
			if steps, found := c.findSteps(ctx, stage.ID, d); found {
				there.Steps = steps
				adopt(stage, there, offset)
				if send.Steps = missing(clipped(known(stage.Steps)), offset); len(send.Steps) == 0 {
					return nil
				}
			} else {
				offset += highest(stage.Steps)
				send.Steps = renumber(clipped(known(stage.Steps)), offset)
			}
		}
		send.Version = there.Version
	}
	return fmt.Errorf("%s: %w", name, client.ErrOptimisticLock)
}

// putStage makes the request, repeated while it makes sense, and checks that the answer gives every
// step an id.
func (c *Client) putStage(ctx context.Context, name string, send *drone.Stage) (*drone.Stage, outcome, error) {
	k := call{name: name, method: http.MethodPut, path: fmt.Sprintf("/stage/%d", send.ID), unlimited: Final(send.Status)}
	var err error
	if k.body, err = encode(name, send); err != nil {
		return nil, outcome{}, err
	}
	var got *drone.Stage
	out, err := c.retry(ctx, k, func(a answer) error {
		got = nil
		if err := c.decode(k, a, &got); err != nil {
			return err
		}
		if err := c.checkStage(k, got, send.ID); err != nil {
			return err
		}
		got.Steps = known(got.Steps)
		for _, step := range send.Steps {
			if step.ID == 0 && find(created(got.Steps), step.Number) == nil {
				return c.wrong(k, false, "it gives no id to step %d, %q", step.Number, step.Name)
			}
		}
		return nil
	})
	return got, out, err
}

// adopt takes what the server decides into the caller's stage: versions, and the ids of steps,
// which the server knows under numbers that are higher by offset.
func adopt(stage, got *drone.Stage, offset int) {
	stage.Version, stage.Updated = got.Version, got.Updated
	for _, step := range known(stage.Steps) {
		if from := find(got.Steps, step.Number+offset); from != nil && from.ID != 0 {
			step.ID, step.StageID, step.Version = from.ID, stage.ID, from.Version
		}
	}
}

// findSteps returns the steps that the server has of the stage, from the details, where a server
// gives them there, or from its record of the build. known is false where neither can be had.
func (c *Client) findSteps(ctx context.Context, stage int64, d *client.Context) (steps []*drone.Step, known bool) {
	steps = created(d.Stage.Steps)
	if d.Build != nil && len(steps) == 0 {
		steps = created(stepsOf(stage, d.Build.Stages))
	}
	if len(steps) > 0 {
		return steps, true
	}
	return c.publicSteps(ctx, stage, d)
}

// publicSteps reads the steps of the stage where people read them: in the server's API, which gives
// the builds of public repositories to everybody. readable is false where that isn't so.
func (c *Client) publicSteps(ctx context.Context, stage int64, d *client.Context) (steps []*drone.Step, readable bool) {
	if d.Build == nil || d.Repo == nil || d.Repo.Private {
		return nil, false
	}
	path := fmt.Sprintf("/api/repos/%s/%s/builds/%d", url.PathEscape(d.Repo.Namespace), url.PathEscape(d.Repo.Name), d.Build.Number)
	k := call{name: fmt.Sprintf("find the steps of stage %d", stage), method: http.MethodGet, path: path, public: true}
	pauses := c.pauses()
	for range lookups {
		var build *drone.Build
		a, err := c.attempt(ctx, k)
		if err == nil {
			err = c.decode(k, a, &build)
		}
		if err == nil && build != nil {
			return created(stepsOf(stage, build.Stages)), true
		}
		c.log.WithError(err).WithField("stage.id", stage).Debug("the record of a build can't be read")
		if errors.Is(err, ErrUnauthorized) || pause.For(ctx, pauses.NextBackOff()) != nil {
			break
		}
	}
	return nil, false
}

// stepsOf returns the steps of the stage with that id.
func stepsOf(id int64, stages []*drone.Stage) []*drone.Step {
	for _, stage := range known(stages) {
		if stage.ID == id {
			return stage.Steps
		}
	}
	return nil
}

// highest is the highest number of a step.
func highest(steps []*drone.Step) int {
	last := 0
	for _, step := range known(steps) {
		last = max(last, step.Number)
	}
	return last
}

// renumber copies the steps, with numbers that are higher by offset.
func renumber(steps []*drone.Step, offset int) []*drone.Step {
	out := make([]*drone.Step, len(steps))
	for i, step := range steps {
		anew := *step
		anew.Number += offset
		out[i] = &anew
	}
	return out
}

// missing returns the steps that the server has given no id, under the numbers that it is to know
// them by.
func missing(steps []*drone.Step, offset int) []*drone.Step {
	var out []*drone.Step
	for _, step := range renumber(steps, offset) {
		if step.ID == 0 {
			out = append(out, step)
		}
	}
	return out
}

// created are the steps that the server knows.
func created(steps []*drone.Step) []*drone.Step {
	var out []*drone.Step
	for _, step := range steps {
		if step != nil && step.ID != 0 {
			out = append(out, step)
		}
	}
	return out
}

func find(steps []*drone.Step, number int) *drone.Step {
	for _, step := range steps {
		if step != nil && step.Number == number {
			return step
		}
	}
	return nil
}

package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
)

// UpdateStep puts the state of the step, and refreshes its version. A first update to running also
// opens the step's live log, so it comes before the first Batch. A step that somebody else changed
// first, as a cancel does, is client.ErrOptimisticLock.
//
// A lock error after an attempt whose answer was lost is taken for that attempt's own doing, unless
// the stage is final by now: the step counts as delivered, and its version as one higher, since
// that is what an update makes of it and nobody else updates a running stage's steps.
func (c *Client) UpdateStep(ctx context.Context, step *drone.Step) error {
	name := fmt.Sprintf("update step %d %q to %q", step.ID, step.Name, step.Status)
	k := call{name: name, method: http.MethodPut, path: fmt.Sprintf("/step/%d", step.ID)}
	var err error
	send := *step
	send.Error = clip(step.Error)
	if k.body, err = encode(name, &send); err != nil {
		return err
	}
	var got *drone.Step
	out, err := c.retry(ctx, k, func(a answer) error {
		got = nil
		if err := c.decode(k, a, &got); err != nil {
			return err
		}
		if got == nil || got.ID != step.ID {
			return c.wrong(k, false, "it isn't about step %d", step.ID)
		}
		return nil
	})
	if errors.Is(err, client.ErrOptimisticLock) && out.unsure {
		if step.StageID != 0 {
			d, derr := c.detail(ctx, step.StageID)
			if derr != nil {
				return fmt.Errorf("%s: see what the server has: %w", name, derr)
			}
			if Final(d.Stage.Status) {
				return err
			}
		}
		step.Version++
		return nil
	}
	if err != nil {
		return err
	}
	step.Version = got.Version
	return nil
}

// UploadCard gives the step a card. Afterwards UpdateStep tells the server the card's schema, in
// step.Schema.
func (c *Client) UploadCard(ctx context.Context, step int64, card *drone.CardInput) error {
	name := fmt.Sprintf("upload the card of step %d", step)
	if card == nil {
		return fmt.Errorf("%s: there is none", name)
	}
	k := call{name: name, method: http.MethodPost, path: fmt.Sprintf("/step/%d/card", step), keepsFirst: true}
	var err error
	if k.body, err = encode(name, card); err != nil {
		return err
	}
	return delivered(c.retry(ctx, k, nil))
}

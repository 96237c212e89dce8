package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/client"
)

// Request asks for work and waits for it, up to the server's 30 s. It returns (nil, nil) when there
// was none: ask again at once. It isn't repeated inside: after an error the caller decides when to
// ask again.
func (c *Client) Request(ctx context.Context, filter *client.Filter) (*drone.Stage, error) {
	k := call{name: "request a stage", method: http.MethodPost, path: "/stage", poll: true}
	var err error
	if k.body, err = encode(k.name, filter); err != nil {
		return nil, err
	}
	a, err := c.attempt(ctx, k)
	if err != nil {
		return nil, err
	}
	if a.status == http.StatusNoContent {
		return nil, nil
	}
	var stage *drone.Stage
	if err := c.decode(k, a, &stage); err != nil {
		return nil, err
	}
	if stage == nil || stage.ID <= 0 {
		return nil, c.wrong(k, false, "it names no stage")
	}
	stage.Steps = known(stage.Steps)
	return stage, nil
}

// Accept takes the stage for the machine that stage.Machine names, and refreshes its version.
// Somebody else's stage is client.ErrOptimisticLock: drop it silently.
//
// A lock error after an attempt whose answer was lost may be that attempt's own doing: if the
// server then has the stage under our machine's name, still to be started, it's ours.
func (c *Client) Accept(ctx context.Context, stage *drone.Stage) error {
	k := call{name: fmt.Sprintf("accept stage %d", stage.ID), method: http.MethodPost,
		path: fmt.Sprintf("/stage/%d?machine=%s", stage.ID, url.QueryEscape(stage.Machine))}
	var got *drone.Stage
	out, err := c.retry(ctx, k, func(a answer) error {
		got = nil
		if err := c.decode(k, a, &got); err != nil {
			return err
		}
		return c.checkStage(k, got, stage.ID)
	})
	if errors.Is(err, client.ErrOptimisticLock) && out.unsure {
		d, derr := c.detail(ctx, stage.ID)
		if derr != nil {
			return fmt.Errorf("accept stage %d: see who has it: %w", stage.ID, derr)
		}
		if d.Stage.Machine == stage.Machine && stage.Machine != "" && d.Stage.Status == drone.StatusPending {
			got, err = d.Stage, nil
		}
	}
	if err != nil {
		return err
	}
	stage.Version, stage.Updated = got.Version, got.Updated
	return nil
}

// Detail gets everything that the stage needs to run. Build, stage, configuration, repository and
// system are there; netrc is nil for a public repository; no secret is nil. What is missing from a
// readable answer is an *AnswerError, and final.
func (c *Client) Detail(ctx context.Context, stage *drone.Stage) (*client.Context, error) {
	d, err := c.detail(ctx, stage.ID)
	if err != nil {
		return nil, err
	}
	k := call{name: fmt.Sprintf("get the details of stage %d", stage.ID)}
	switch {
	case d.Build == nil:
		return nil, c.wrong(k, true, `it has no "build"`)
	case d.Repo == nil:
		return nil, c.wrong(k, true, `it has no "repository"`)
	case d.Config == nil:
		return nil, c.wrong(k, true, `it has no "config"`)
	}
	if d.System == nil {
		d.System = &drone.System{}
	}
	d.Stage.Steps = known(d.Stage.Steps)
	d.Build.Stages = known(d.Build.Stages)
	d.Secrets = known(d.Secrets)
	return d, nil
}

// detail gets the details of a stage, of which only Stage is sure to be there.
func (c *Client) detail(ctx context.Context, id int64) (*client.Context, error) {
	k := call{name: fmt.Sprintf("get the details of stage %d", id), method: http.MethodGet, path: fmt.Sprintf("/stage/%d", id)}
	var d *client.Context
	_, err := c.retry(ctx, k, func(a answer) error {
		d = nil
		if err := c.decode(k, a, &d); err != nil {
			return err
		}
		if d == nil {
			return c.wrong(k, false, "it is null")
		}
		return c.checkStage(k, d.Stage, id)
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// checkStage refuses an answer that isn't about the stage.
func (c *Client) checkStage(k call, got *drone.Stage, id int64) error {
	switch {
	case got == nil:
		return c.wrong(k, false, "it has no stage")
	case got.ID != id:
		return c.wrong(k, false, "it is about stage %d", got.ID)
	}
	return nil
}

// Final reports whether a status of a stage or a step is its last.
func Final(status string) bool {
	switch status {
	case "", drone.StatusPending, drone.StatusRunning, drone.StatusWaiting, drone.StatusBlocked:
		return false
	}
	return true
}

// known drops the nil entries of a list.
func known[T any](list []*T) []*T {
	var out []*T
	for _, entry := range list {
		if entry != nil {
			out = append(out, entry)
		}
	}
	return out
}

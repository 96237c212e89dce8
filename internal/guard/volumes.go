package guard

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/docker/docker/api/types/volume"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// volumeFilters of GET /volumes.
var volumeFilters = map[string]filterRule{"dangling": passed, "driver": passed, "label": passed, "name": local}

// listVolumes answers with what was made through this guard.
func listVolumes(ctx context.Context, c *call) error {
	up, mine, err := c.rewriteFilters(ctx, volumeFilters)
	if err != nil {
		return err
	}
	q, err := encodeFilters(c.query, restrict(up, LabelGuard, c.g.opts.ID))
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/volumes", Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var list struct {
			Volumes  []json.RawMessage
			Warnings []string
		}
		if err := json.Unmarshal(b, &list); err != nil {
			return nil, err
		}
		out := []json.RawMessage{}
		for _, item := range list.Volumes {
			var v volumeFound
			if err := json.Unmarshal(item, &v); err != nil {
				return nil, err
			}
			if c.g.own.judgeVolume(v) == ofClient &&
				(mine.Len() == 0 || mine.Match("name", c.g.names.Unscope(v.Name))) {
				out = append(out, c.g.names.Answer(item))
			}
		}
		list.Volumes = out
		return json.Marshal(list)
	})
}

func inspectVolume(ctx context.Context, c *call) error {
	v, err := c.g.own.findVolume(ctx, c.vars["id"], c.version)
	if err != nil {
		return err
	}
	c.answerBytes(http.StatusOK, c.g.names.Answer(v.raw))
	return nil
}

// createVolume makes a volume for the stage, or finds the one of that name, as Docker does.
func createVolume(ctx context.Context, c *call) error {
	var req volume.CreateOptions
	if err := c.decode(&req); err != nil {
		return err
	}
	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := policy.VolumeCreate(world{c.g}, &req); err != nil {
		return err
	}
	if req.Name != "" {
		req.Name = c.g.names.Scope(req.Name)
	}
	body, length, err := dockerd.JSONBody(req)
	if err != nil {
		return err
	}
	return c.sendNamed(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/volumes/create",
			Header: dockerd.JSONHeader(),
			Body:   body,
			Length: length,
		},
	)
}

func removeVolume(ctx context.Context, c *call) error {
	v, err := c.g.own.findVolume(ctx, c.vars["id"], "")
	if apierror.IsNotFound(err) && c.flag("force") {
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	if v.standing != ofClient {
		return apierror.Refuse(
			"removing volume "+apierror.Quote(c.vars["id"]),
			"it is a volume of the pipeline's, which goes with the stage",
			"",
		)
	}
	return c.send(ctx, dockerd.Request{Method: http.MethodDelete, Path: "/volumes/" + v.Name, Query: c.query})
}

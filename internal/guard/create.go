package guard

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// createContainer answers POST /containers/create: it has the policy judge the request and fill in
// what is the stage's, and sends the daemon what came out, encoded from the struct.
func createContainer(ctx context.Context, c *call) error {
	var body container.CreateRequest
	if err := c.decode(&body); err != nil {
		return err
	}
	name, real, err := c.newName()
	if err != nil {
		return err
	}
	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	plan, warnings, err := policy.Create(
		ctx,
		world{c.g},
		policy.CreateRequest{Body: &body, Name: name, Version: c.version},
	)
	if err != nil {
		return err
	}
	c.g.runner.AboutToUse(ctx, plan.Image.ID)
	text, length, err := dockerd.JSONBody(plan.Body)
	if err != nil {
		return err
	}
	q := url.Values{"name": {real}}
	if p := c.query.Get("platform"); p != "" {
		q.Set("platform", p)
	}
	resp, err := c.ask(ctx, dockerd.Request{
		Method: http.MethodPost, Version: plan.Version, Path: "/containers/create", Query: q, Header: dockerd.JSONHeader(), Body: text, Length: length,
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var made container.CreateResponse
		if err := json.Unmarshal(b, &made); err != nil {
			return nil, err
		}
		c.g.own.rememberContainer(made.ID, ofClient)
		made.Warnings = append([]string{}, slices.Concat(made.Warnings, warnings, c.warnings())...)
		b, err := json.Marshal(made)
		return c.g.names.Answer(b), err
	})
}

// newName returns the name that the client wants for a container, and the daemon's name for that.
// Without one, the container gets a name that the client doesn't know.
func (c *call) newName() (name, real string, err error) {
	name = c.g.names.Strip(strings.TrimPrefix(c.query.Get("name"), "/"))
	switch {
	case name == "":
		return "", c.g.names.Random(), nil
	case !names.Valid(name):
		return "", "", apierror.BadRequest(
			"Invalid container name (%.200s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
			name,
		)
	}
	return name, c.g.names.Scope(name), nil
}

// rememberContainer notes the standing of a container.
func (o *ownership) rememberContainer(id string, s standing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.containers[id] = s
}

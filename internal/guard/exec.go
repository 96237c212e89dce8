package guard

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// createExec prepares a process in a container of the client's.
func createExec(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	var o container.ExecOptions
	if err := c.decode(&o); err != nil {
		return err
	}
	if err := policy.Exec(&o); err != nil {
		return err
	}
	body, length, err := dockerd.JSONBody(o)
	if err != nil {
		return err
	}
	resp, err := c.ask(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   c.containerPath(found.ID),
			Header: dockerd.JSONHeader(),
			Body:   body,
			Length: length,
		},
	)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var made container.ExecCreateResponse
		if err := json.Unmarshal(b, &made); err != nil {
			return nil, err
		}
		c.g.own.rememberExec(made.ID, found.ID)
		return b, nil
	})
}

// startExec runs a prepared process. A detached one answers at once and leaves HTTP on the
// connection, so only an attached one is a tunnel.
func startExec(ctx context.Context, c *call) error {
	if err := c.g.own.exec(ctx, c.vars["id"]); err != nil {
		return err
	}
	var o container.ExecStartOptions
	if err := c.decode(&o); err != nil {
		return err
	}
	body, length, err := dockerd.JSONBody(o)
	if err != nil {
		return err
	}
	out := dockerd.Request{
		Method: http.MethodPost,
		Path:   c.execPath(),
		Header: dockerd.JSONHeader(),
		Body:   body,
		Length: length,
	}
	if o.Detach {
		return c.send(ctx, out)
	}
	return c.tunnel(ctx, out)
}

// onExec forwards a call on an exec of the client's.
func onExec(ctx context.Context, c *call) error {
	if err := c.g.own.exec(ctx, c.vars["id"]); err != nil {
		return err
	}
	return c.send(ctx, dockerd.Request{Method: c.route.method, Path: c.execPath(), Query: c.query})
}

func inspectExec(ctx context.Context, c *call) error {
	if err := c.g.own.exec(ctx, c.vars["id"]); err != nil {
		return err
	}
	return c.sendNamed(ctx, dockerd.Request{Method: http.MethodGet, Path: c.execPath()})
}

func (c *call) execPath() string { return strings.Replace(c.route.pattern, "{id}", c.vars["id"], 1) }

package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// networkFilters of GET /networks.
var networkFilters = map[string]filterRule{
	"dangling": passed, "driver": passed, "label": passed, "scope": passed, "type": passed, "id": passed,
	"name": local,
}

// listNetworks answers with the client's networks and the stage's own, as "bridge"; a client that
// asks for the latter by its real name gets it under that.
func listNetworks(ctx context.Context, c *call) error {
	up, mine, err := c.rewriteFilters(ctx, networkFilters)
	if err != nil {
		return err
	}
	q, err := encodeFilters(c.query, restrict(up, c.g.opts.OwnerLabel, c.g.opts.ID))
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/networks", Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var items []json.RawMessage
		if err := json.Unmarshal(b, &items); err != nil {
			return nil, err
		}
		out := []json.RawMessage{}
		for _, item := range items {
			var n networkFound
			if err := json.Unmarshal(item, &n); err != nil {
				return nil, err
			}
			matches := func(name string) bool { return mine.Len() == 0 || mine.Match("name", name) }
			switch c.g.own.judgeNetwork(n) {
			case ofClient:
				if matches(c.g.names.Unscope(n.Name)) {
					out = append(out, c.g.names.Answer(item))
				}
			case ofRunner:
				item = c.g.names.Answer(item)
				if matches(names.Bridge) {
					item = renameNetwork(item, n.Name, names.Bridge)
				} else if !matches(n.Name) {
					continue
				}
				out = append(out, item)
			}
		}
		return json.Marshal(out)
	})
}

// renameNetwork gives the stage's network another name in its description, which begins with it:
// labels come later, and no quote in them stands bare.
func renameNetwork(b []byte, from, to string) []byte {
	return bytes.Replace(b, []byte(`"Name":"`+from+`"`), []byte(`"Name":"`+to+`"`), 1)
}

// inspectNetwork shows the stage's network under the name that the client asked for.
func inspectNetwork(ctx context.Context, c *call) error {
	ref := c.vars["network"]
	n, err := c.g.own.findNetwork(ctx, ref)
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/networks/" + n.ID, Query: c.query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		b = c.g.names.Answer(b)
		if n.standing == ofRunner && ref != n.Name {
			return renameNetwork(b, n.Name, names.Bridge), nil
		}
		return b, nil
	})
}

// nextBridge returns a name for a bridge that no other of the stage's has; "" if the daemon names
// them. Four characters of base 36 are enough for a million.
func (g *Guard) nextBridge() string {
	if g.opts.Bridges == "" {
		return ""
	}
	return g.opts.Bridges + strconv.FormatInt(g.bridges.Add(1)%(36*36*36*36), 36)
}

// createNetwork makes a bridge for the stage.
func createNetwork(ctx context.Context, c *call) error {
	var req network.CreateRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	unlock, err := c.g.lock.lock(ctx, "networks")
	if err != nil {
		return err
	}
	defer unlock()
	if err := policy.NetworkCreate(ctx, world{c.g}, &req, c.g.nextBridge()); err != nil {
		return err
	}
	var have []networkFound
	if err := c.g.up.Call(
		ctx, http.MethodGet, "/networks", url.Values{"filters": {c.g.own.filter()}}, nil, &have,
	); err != nil {
		return err
	}
	real := c.g.names.Scope(req.Name)
	if slices.ContainsFunc(have, func(n networkFound) bool { return n.Name == real }) {
		return apierror.New(http.StatusConflict, "network with name "+req.Name+" already exists")
	}
	if len(have) > c.g.opts.Limits.Networks {
		return apierror.Refuse("another network", fmt.Sprintf("the stage has %d", len(have)), "remove one first")
	}
	req.Name = real
	check := true
	//lint:ignore SA1019 daemons before API 1.44 would make a second network of the name
	req.CheckDuplicate = &check //nolint:staticcheck // as above, in golangci-lint's own form
	body, length, err := dockerd.JSONBody(req)
	if err != nil {
		return err
	}
	return c.sendNamed(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/networks/create",
			Header: dockerd.JSONHeader(),
			Body:   body,
			Length: length,
		},
	)
}

// connectNetwork puts one of the stage's containers, steps included, onto one of its networks.
func connectNetwork(ctx context.Context, c *call) error {
	n, err := c.g.own.findNetwork(ctx, c.vars["network"])
	if err != nil {
		return err
	}
	var req network.ConnectOptions
	if err := c.decode(&req); err != nil {
		return err
	}
	if err := policy.Connect(ctx, world{c.g}, &req); err != nil {
		return err
	}
	body, length, err := dockerd.JSONBody(req)
	if err != nil {
		return err
	}
	return c.send(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/networks/" + n.ID + "/connect",
			Header: dockerd.JSONHeader(),
			Body:   body,
			Length: length,
		},
	)
}

// disconnectNetwork takes one of the stage's containers off a network. A step stays on the stage's:
// it's how the runner's own services reach it.
func disconnectNetwork(ctx context.Context, c *call) error {
	n, err := c.g.own.findNetwork(ctx, c.vars["network"])
	if err != nil {
		return err
	}
	var req network.DisconnectOptions
	if err := c.decode(&req); err != nil {
		return err
	}
	if err := policy.Disconnect(ctx, world{c.g}, policy.Network{ID: n.ID, Name: n.Name, Own: n.standing == ofRunner}, &req); err != nil {
		return err
	}
	body, length, err := dockerd.JSONBody(req)
	if err != nil {
		return err
	}
	return c.send(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/networks/" + n.ID + "/disconnect",
			Header: dockerd.JSONHeader(),
			Body:   body,
			Length: length,
		},
	)
}

func removeNetwork(ctx context.Context, c *call) error {
	n, err := c.g.own.findNetwork(ctx, c.vars["network"])
	if err != nil {
		return err
	}
	if n.standing != ofClient {
		return apierror.New(http.StatusForbidden, names.Bridge+" is a pre-defined network and cannot be removed")
	}
	return c.send(ctx, dockerd.Request{Method: http.MethodDelete, Path: "/networks/" + n.ID})
}

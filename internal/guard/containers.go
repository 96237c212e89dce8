package guard

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// containerFilters of GET /containers/json.
var containerFilters = map[string]filterRule{
	"id": passed, "label": passed, "exited": passed, "status": passed, "health": passed, "publish": passed,
	"expose": passed, "isolation": passed, "is-task": passed,
	"name": local, "before": thereContainer, "since": thereContainer, "network": asNetwork, "volume": asVolume,
	"ancestor": asImage,
}

// listContainers answers with what was made through this guard. Steps aren't in the list: `docker
// rm -f $(docker ps -aq)` is a common line.
func listContainers(ctx context.Context, c *call) error {
	up, mine, err := c.rewriteFilters(ctx, containerFilters)
	if err != nil {
		return err
	}
	for _, key := range []string{"since", "before"} { // parameters of old clients
		if ref := c.query.Get(key); ref != "" {
			found, err := c.resolveFilter(ctx, thereContainer, ref)
			if err != nil {
				return err
			}
			c.query.Del(key)
			up.Add(key, found[0])
		}
	}
	q, err := encodeFilters(c.query, restrict(up, LabelGuard, c.g.opts.ID))
	if err != nil {
		return err
	}
	limit := 0
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil {
			return apierror.BadRequest("limit %s is no number", apierror.Quote(s))
		}
		if q.Del("limit"); limit > 0 { // a limit counts what the client sees, stopped ones included
			q.Set("all", "1")
		}
	}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/containers/json", Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		return c.g.filterList(b, limit, func(item []byte) (bool, error) {
			var o struct {
				ID     string `json:"Id"`
				Names  []string
				Labels map[string]string
			}
			if err := json.Unmarshal(item, &o); err != nil {
				return false, err
			}
			own, named := false, mine.Len() == 0
			for _, name := range o.Names {
				own = own || c.g.own.judgeContainer(name, o.Labels) == ofClient
				shown := c.g.names.Unscope(strings.TrimPrefix(name, "/"))
				named = named || mine.Match("name", shown) || mine.Match("name", "/"+shown)
			}
			return own && named, nil
		})
	})
}

// filterList keeps the items of a JSON list that keep says, at most limit (0: all), names unscoped.
func (g *Guard) filterList(b []byte, limit int, keep func([]byte) (bool, error)) ([]byte, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(b, &items); err != nil {
		return nil, err
	}
	out := make([]json.RawMessage, 0, len(items))
	for _, item := range items {
		if limit > 0 && len(out) == limit {
			break
		}
		ok, err := keep(item)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, g.names.Answer(item))
		}
	}
	return json.Marshal(out)
}

// client resolves the request's container, which must be one that was made through the guard.
func (c *call) client(ctx context.Context) (containerFound, error) {
	found, err := c.g.own.container(ctx, c.vars["id"])
	if err == nil && found.standing != ofClient {
		return found, apierror.Refuse(
			"this call on container "+apierror.Quote(c.vars["id"]),
			"it is a step of the pipeline, whose life is the runner's",
			"",
		)
	}
	return found, err
}

// onContainer forwards a call on one of the client's containers: by its full id, with the checked
// query, without a body.
func onContainer(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	return c.send(ctx, dockerd.Request{Method: c.route.method, Path: c.containerPath(found.ID), Query: c.query})
}

// containerPath returns the route's path with the container's id in it.
func (c *call) containerPath(id string) string {
	return strings.Replace(c.route.pattern, "{id}", id, 1)
}

// inspectContainer answers for steps as well, without their environment: it holds secrets that
// other steps don't have.
func inspectContainer(ctx context.Context, c *call) error {
	b, standing, err := c.g.own.inspection(ctx, c.vars["id"], c.version, c.query)
	if err != nil {
		return err
	}
	if standing == ofRunner {
		if b, err = withoutEnv(b); err != nil {
			return err
		}
	}
	if b, err = withDefaultNetwork(b, c.g.opts.Network); err != nil {
		return err
	}
	c.answerBytes(http.StatusOK, c.g.names.Answer(b))
	return nil
}

// withoutEnv empties Config.Env of an inspection.
func withoutEnv(b []byte) ([]byte, error) {
	var top, config map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(top["Config"], &config); err != nil {
		return nil, err
	}
	config["Env"] = json.RawMessage("[]")
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	top["Config"] = b
	return json.Marshal(top)
}

// stats unscopes the name that each report carries.
func stats(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: c.containerPath(found.ID), Query: c.query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return dockerd.RelayJSON(c.w, resp, func(b []byte) []byte { return c.g.names.Answer(b) })
}

// top runs ps in the daemon; its arguments are kept to what chooses columns and rows.
func top(ctx context.Context, c *call) error {
	if err := policy.Top(c.query.Get("ps_args")); err != nil {
		return err
	}
	return onContainer(ctx, c)
}

// start starts a container as it was created: from a checkpoint only of the daemon's own keeping.
func start(ctx context.Context, c *call) error {
	if err := policy.CheckpointDir("checkpoint-dir", c.query.Get("checkpoint-dir")); err != nil {
		return err
	}
	return onContainer(ctx, c)
}

// wait is open for steps too: it tells an exit code, at most.
func wait(ctx context.Context, c *call) error {
	found, err := c.g.own.container(ctx, c.vars["id"])
	if err != nil {
		return err
	}
	return c.send(ctx, dockerd.Request{Method: http.MethodPost, Path: c.containerPath(found.ID), Query: c.query})
}

// attach joins the client to a container's streams.
func attach(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	return c.tunnel(ctx, dockerd.Request{Method: http.MethodPost, Path: c.containerPath(found.ID), Query: c.query})
}

// attachWebsocket is attach for browsers. The daemon's own handshake passes: it's made of these
// headers alone.
func attachWebsocket(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	if !c.wantsUpgrade("websocket") {
		return apierror.BadRequest("this endpoint needs an upgrade to websocket")
	}
	h := http.Header{"Origin": {"http://docker"}}
	for _, k := range []string{"Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Protocol"} {
		if v := c.r.Header.Get(k); v != "" {
			h.Set(k, v)
		}
	}
	return c.tunnelAs(
		ctx,
		dockerd.Request{Method: http.MethodGet, Path: c.containerPath(found.ID), Query: c.query, Header: h},
		"websocket",
	)
}

// putArchive unpacks a stream into a container.
func putArchive(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	body, length := c.body()
	return c.send(
		ctx,
		dockerd.Request{
			Method: http.MethodPut,
			Path:   c.containerPath(found.ID),
			Query:  c.query,
			Header: dockerd.TarHeader(),
			Body:   body,
			Length: length,
		},
	)
}

// updateContainer changes limits, within the runner's.
func updateContainer(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	var u container.UpdateConfig
	if err := c.decode(&u); err != nil {
		return err
	}
	warnings, err := policy.Update(ctx, world{c.g}, &u)
	if err != nil {
		return err
	}
	body, length, err := dockerd.JSONBody(u)
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
		var updated container.UpdateResponse
		if err := json.Unmarshal(b, &updated); err != nil {
			return nil, err
		}
		updated.Warnings = slices.Concat(updated.Warnings, warnings, c.warnings())
		b, err := json.Marshal(updated)
		return c.g.names.Answer(b), err
	})
}

// rename scopes the new name, and lets others find the container by it.
func rename(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	name := c.g.names.Strip(strings.TrimPrefix(c.query.Get("name"), "/"))
	if !names.Valid(name) {
		return apierror.BadRequest("Invalid container name (%.200s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	q := url.Values{"name": {c.g.names.Scope(name)}}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodPost, Path: c.containerPath(found.ID), Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := c.g.realias(ctx, found.ID, name); err != nil {
		c.g.log.debug("cannot add the new name of a container to its networks", err, "container", found.ID)
	}
	return dockerd.Relay(c.w, resp)
}

// realias gives a container that doesn't run its new name on its networks. One that runs keeps the
// old: reconnecting would cut its connections.
func (g *Guard) realias(ctx context.Context, id, name string) error {
	var in struct {
		State           struct{ Running bool }
		NetworkSettings struct {
			Networks map[string]*network.EndpointSettings
		}
	}
	if err := g.up.Call(ctx, http.MethodGet, "/containers/"+id+"/json", nil, nil, &in); err != nil ||
		in.State.Running {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(in.NetworkSettings.Networks)) {
		e := in.NetworkSettings.Networks[n]
		if e == nil || slices.Contains(e.Aliases, name) || n != g.opts.Network && !g.names.Scoped(n) {
			continue
		}
		again := &network.EndpointSettings{IPAMConfig: e.IPAMConfig, Links: e.Links, Aliases: append(e.Aliases, name)}
		if err := g.up.Call(ctx, http.MethodPost, "/networks/"+e.NetworkID+"/disconnect", nil, network.DisconnectOptions{Container: id, Force: true}, nil); err != nil {
			return err
		}
		if err := g.up.Call(ctx, http.MethodPost, "/networks/"+e.NetworkID+"/connect", nil, network.ConnectOptions{Container: id, EndpointConfig: again}, nil); err != nil {
			return err
		}
	}
	return nil
}

// removeContainer removes a container together with its anonymous volumes: nobody could find them
// afterwards.
func removeContainer(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	if c.flag("link") {
		return apierror.Refuse("link", "links are on networks; disconnect the container instead", "")
	}
	c.query.Set("v", "1")
	return c.send(ctx, dockerd.Request{Method: http.MethodDelete, Path: c.containerPath(found.ID), Query: c.query})
}

// checkpoints lists and removes checkpoints, of the daemon's own keeping only.
func checkpoints(ctx context.Context, c *call) error {
	if err := policy.CheckpointDir("dir", c.query.Get("dir")); err != nil {
		return err
	}
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	p := strings.Replace(c.containerPath(found.ID), "{checkpoint}", c.vars["checkpoint"], 1)
	return c.send(ctx, dockerd.Request{Method: c.route.method, Path: p})
}

func createCheckpoint(ctx context.Context, c *call) error {
	found, err := c.client(ctx)
	if err != nil {
		return err
	}
	var o checkpoint.CreateOptions
	if err := c.decode(&o); err != nil {
		return err
	}
	if err := policy.Checkpoint(o); err != nil {
		return err
	}
	body, length, err := dockerd.JSONBody(o)
	if err != nil {
		return err
	}
	return c.send(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   c.containerPath(found.ID),
			Header: dockerd.JSONHeader(),
			Body:   body,
			Length: length,
		},
	)
}

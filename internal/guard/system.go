package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// plain forwards a call that says nothing of any stage.
func plain(ctx context.Context, c *call) error {
	h := http.Header{}
	if v := c.r.Header.Get("X-Registry-Auth"); v != "" {
		h.Set("X-Registry-Auth", v)
	}
	return c.send(ctx, dockerd.Request{Method: c.route.method, Path: c.route.pattern, Query: c.query, Header: h})
}

// ping tells a client which version of the API it may speak, as HEAD and GET.
func ping(ctx context.Context, c *call) error {
	return c.send(ctx, dockerd.Request{Method: c.route.method, Path: "/_ping"})
}

// version is the daemon's, with the versions of the API that can be spoken here: some clients
// choose by them.
func version(ctx context.Context, c *call) error {
	newest, oldest, err := c.g.up.Versions(ctx)
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/version"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var v map[string]any
		if err := json.Unmarshal(b, &v); err != nil {
			return nil, err
		}
		limit := func(o map[string]any) {
			for key, version := range map[string]string{"ApiVersion": newest, "MinAPIVersion": oldest} {
				if _, there := o[key]; there {
					o[key] = version
				}
			}
		}
		limit(v)
		components, _ := v["Components"].([]any)
		for _, component := range components {
			o, _ := component.(map[string]any)
			if details, ok := o["Details"].(map[string]any); ok { // the engine's say the same once more
				limit(details)
			}
		}
		return json.Marshal(v)
	})
}

// info is the daemon's, without what it counts of other stages and without the credentials that a
// proxy's address may hold.
func info(ctx context.Context, c *call) error {
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/info"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var list []struct{ State string }
	q, err := encodeFilters(map[string][]string{"all": {"1"}}, restrict(filters.NewArgs(), LabelGuard, c.g.opts.ID))
	if err != nil {
		return err
	}
	if err := c.g.up.Call(ctx, http.MethodGet, "/containers/json", q, nil, &list); err != nil {
		return err
	}
	count := map[string]int{}
	for _, o := range list {
		count[o.State]++
	}
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var i map[string]json.RawMessage
		if err := json.Unmarshal(b, &i); err != nil {
			return nil, err
		}
		set := func(key string, v any) {
			if _, there := i[key]; there {
				i[key], _ = json.Marshal(v) // numbers and strings always encode
			}
		}
		set("Containers", len(list))
		set("ContainersRunning", count["running"])
		set("ContainersPaused", count["paused"])
		set("ContainersStopped", len(list)-count["running"]-count["paused"])
		set("HttpProxy", "")
		set("HttpsProxy", "")
		return json.Marshal(i)
	})
}

// auth has the daemon try credentials at a registry.
func auth(ctx context.Context, c *call) error {
	var a registry.AuthConfig
	if err := c.decode(&a); err != nil {
		return err
	}
	if err := policy.Auth(&a); err != nil {
		return err
	}
	c.g.shown.add(a)
	body, length, err := dockerd.JSONBody(a)
	if err != nil {
		return err
	}
	return c.send(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/auth",
			Header: dockerd.JSONHeader(),
			Body:   body,
			Length: length,
		},
	)
}

// diskUsage is the daemon's, cut down to the stage's own containers and volumes. Images and stage
// cache are shared; show.go says which a client sees.
func diskUsage(ctx context.Context, c *call) error {
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/system/df", Query: c.query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var df map[string]json.RawMessage
		if err := json.Unmarshal(b, &df); err != nil {
			return nil, err
		}
		for key, raw := range df {
			var err error
			switch key {
			case "LayersSize", "BuilderSize":
			case "Containers":
				df[key], err = c.g.filterRaw(raw, func(b []byte) (bool, error) {
					var o struct {
						Names  []string
						Labels map[string]string
					}
					err := json.Unmarshal(b, &o)
					return len(o.Names) > 0 && c.g.own.judgeContainer(o.Names[0], o.Labels) == ofClient, err
				})
			case "Volumes":
				df[key], err = c.g.filterRaw(raw, func(b []byte) (bool, error) {
					var v volumeFound
					err := json.Unmarshal(b, &v)
					return c.g.own.judgeVolume(v) == ofClient, err
				})
			case "Images":
				df[key], err = c.g.showImages(ctx, raw)
			default: // BuildCache, whose entries tell what other stages ran; the reports of newer versions by type
				if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
					df[key] = json.RawMessage("[]")
				} else {
					delete(df, key)
				}
			}
			if err != nil {
				return nil, err
			}
		}
		return json.Marshal(df)
	})
}

// filterRaw is filterList for a list that may be null.
func (g *Guard) filterRaw(raw []byte, keep func([]byte) (bool, error)) ([]byte, error) {
	if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return raw, nil
	}
	return g.filterList(raw, 0, keep)
}

// eventFilters of GET /events. References are applied by the guard, to what the client sees: they
// may be of objects that don't exist yet.
var eventFilters = map[string]filterRule{
	"event": passed, "type": passed, "scope": passed, "label": passed,
	"container": local, "network": local, "volume": local, "image": local, "daemon": passed, "plugin": passed,
	"node": passed, "service": passed,
	"secret": passed, "config": passed,
}

// message is what the guard reads of an event.
type message struct {
	Type   string
	Action string
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
}

// events streams the stage's own events.
func events(ctx context.Context, c *call) error {
	up, mine, err := c.rewriteFilters(ctx, eventFilters)
	if err != nil {
		return err
	}
	q, err := encodeFilters(c.query, up)
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, dockerd.Request{Method: http.MethodGet, Path: "/events", Query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	wanted := map[string]map[string]bool{}
	for _, key := range mine.Keys() {
		wanted[key] = map[string]bool{}
		for _, v := range mine.Get(key) {
			wanted[key][strings.TrimPrefix(v, "/")] = true
		}
	}
	return dockerd.RelayJSON(c.w, resp, func(b []byte) []byte {
		var m message
		if json.Unmarshal(b, &m) != nil || !c.g.ownEvent(ctx, m) {
			return nil
		}
		b = c.g.eventAnswer(b)
		if len(wanted) == 0 {
			return b
		}
		if json.Unmarshal(b, &m) == nil && matchEvent(m, wanted) {
			return b
		}
		return nil
	})
}

// matchEvent applies the filters by reference to an event with unscoped names. Each must fit.
func matchEvent(m message, wanted map[string]map[string]bool) bool {
	for key, values := range wanted {
		fits := false
		name := m.Actor.Attributes["name"]
		for v := range values {
			switch {
			case m.Type == key && (m.Actor.ID == v || name == v || names.IsHex(v) && len(v) >= 12 && strings.HasPrefix(m.Actor.ID, v)):
				fits = true
			case key == "container" && m.Actor.Attributes["container"] == v: // of a network or a volume
				fits = true
			case key == "image" && m.Type == "container" && m.Actor.Attributes["image"] == v:
				fits = true
			}
		}
		if !fits {
			return false
		}
	}
	return true
}

// eventAnswer unscopes an event.
func (g *Guard) eventAnswer(b []byte) []byte {
	b = g.names.Answer(b)
	return bytes.ReplaceAll(b, []byte(fmt.Sprintf(`"name":%q`, g.opts.Network)), []byte(`"name":"bridge"`))
}

// ownEvent reports whether an event is about what was made through the guard.
func (g *Guard) ownEvent(ctx context.Context, m message) bool {
	a := m.Actor.Attributes
	switch m.Type {
	case "container":
		return g.own.judgeContainer(a["name"], a) == ofClient
	case "network":
		if who := a["container"]; who != "" {
			g.own.mu.Lock()
			s := g.own.containers[who]
			g.own.mu.Unlock()
			return s == ofClient && (g.names.Scoped(a["name"]) || a["name"] == g.opts.Network)
		}
		return g.names.Scoped(a["name"])
	case "volume":
		if g.names.Scoped(m.Actor.ID) {
			return true
		}
		return g.ownAnonymous(ctx, m.Actor.ID)
	case "image":
		return g.ownImageEvent(ctx, m)
	}
	return false
}

// ownAnonymous reports whether an anonymous volume is the client's. One that is gone is remembered.
func (g *Guard) ownAnonymous(ctx context.Context, name string) bool {
	if !names.IsID(name) {
		return false
	}
	g.own.mu.Lock()
	known := g.own.volumes[name]
	g.own.mu.Unlock()
	if known {
		return true
	}
	v, err := g.own.findVolume(ctx, name, "")
	return err == nil && v.standing == ofClient
}

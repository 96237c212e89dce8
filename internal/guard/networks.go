package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// networkFilters of GET /networks.
var networkFilters = map[string]filterRule{
	"dangling": passed, "driver": passed, "label": passed, "scope": passed, "type": passed, "id": passed, "name": local,
}

// listNetworks answers with the client's networks and the build's own, as "bridge"; a client that asks for the latter by its real name gets it under that.
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

// renameNetwork gives the build's network another name in its description, which begins with it: labels come later, and no quote in them stands bare.
func renameNetwork(b []byte, from, to string) []byte {
	return bytes.Replace(b, []byte(`"Name":"`+from+`"`), []byte(`"Name":"`+to+`"`), 1)
}

// inspectNetwork shows the build's network under the name that the client asked for.
func inspectNetwork(ctx context.Context, c *call) error {
	ref := c.vars["id"]
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

// networkRules are for network.CreateRequest: bridges between the build's own containers.
var networkRules = []fieldRule{
	{"Name", allow},
	{"CheckDuplicate", allow},
	{"CreateOptions", sub(networkOptionRules)},
}

var networkOptionRules = []fieldRule{
	{"Driver", oneOf("a build's networks are bridges", "", "", names.Bridge)},
	{"Scope", oneOf("a build's networks are local", "", "", "local")},
	{"EnableIPv4", allow},
	{"EnableIPv6", allow},
	{"IPAM", sub(ipamRules)},
	{"Internal", allow},
	{"Attachable", allow},
	{"Ingress", deny("it is for swarms", "")},
	{"ConfigOnly", deny("a configuration of its own would be shared with other builds", "")},
	{"ConfigFrom", configFrom},
	{"Options", networkOptions},
	{"Labels", ownLabels},
}

var ipamRules = []fieldRule{
	{"Driver", oneOf("only the default address driver may be used", "", "", "default")},
	{"Options", deny("options of address drivers aren't known to the guard", "")},
	{"Config", sub(ipamConfigRules)},
}

var ipamConfigRules = []fieldRule{
	{"Subnet", subnet},
	{"IPRange", allow}, // the daemon keeps these three within the subnet
	{"Gateway", allow},
	{"AuxAddress", allow},
}

// configFrom may be there without a name: clients send the empty struct.
func configFrom(_ *checking, at string, v reflect.Value) error {
	if r, _ := v.Interface().(*network.ConfigReference); r != nil && r.Network != "" {
		return apierror.Refuse(at, "networks of another configuration aren't the build's", "")
	}
	v.SetZero()
	return nil
}

// bridgeOptions that concern the network alone. The name of the bridge isn't among them: it could be another's.
var bridgeOptions = []string{"com.docker.network.bridge.enable_icc", "com.docker.network.bridge.enable_ip_masquerade", "com.docker.network.driver.mtu",
	"com.docker.network.container_iface_prefix", "com.docker.network.container_interface_prefix"}

// hostBinding is where a network's ports are published by default.
const hostBinding = "com.docker.network.bridge.host_binding_ipv4"

// bridgeName is the name of a network's interface.
const bridgeName = "com.docker.network.bridge.name"

// nextBridge names a bridge as no other of the build's is named: four characters of base 36 are enough for a million.
func (g *Guard) nextBridge() string {
	return g.opts.Bridges + strconv.FormatInt(g.bridges.Add(1)%(36*36*36*36), 36)
}

func networkOptions(p *checking, at string, v reflect.Value) error {
	n, err := p.c.g.buildNet(p)
	if err != nil {
		return err
	}
	given, _ := v.Interface().(map[string]string)
	out := map[string]string{hostBinding: n.gateway.String()}
	if p.c.g.opts.Bridges != "" {
		out[bridgeName] = p.c.g.nextBridge()
	}
	for k, val := range given {
		switch {
		case k == hostBinding, k == "com.docker.network.bridge.default_bridge" && val == "false":
		case slices.Contains(bridgeOptions, k):
			out[k] = val
		default:
			return apierror.Refuse(at+" "+apierror.Quote(k), "the guard's policy doesn't know this option as one that concerns the network alone", "")
		}
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// createNetwork makes a bridge for the build.
func createNetwork(ctx context.Context, c *call) error {
	var req network.CreateRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	switch {
	case !names.Valid(req.Name):
		return apierror.BadRequest("invalid network name %s: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", apierror.Quote(req.Name))
	case slices.Contains([]string{names.Bridge, "host", "none", "default"}, req.Name):
		return apierror.New(http.StatusForbidden, "operation is not permitted on predefined "+req.Name+" network ")
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
	p := &checking{Context: ctx, c: c}
	if err := p.enforce("", reflect.ValueOf(&req).Elem(), networkRules); err != nil {
		return err
	}
	var have []networkFound
	if err := c.g.up.Call(ctx, http.MethodGet, "/networks", url.Values{"filters": {c.g.own.ownerFilter()}}, nil, &have); err != nil {
		return err
	}
	real := c.g.names.Scope(req.Name)
	if slices.ContainsFunc(have, func(n networkFound) bool { return n.Name == real }) {
		return apierror.New(http.StatusConflict, "network with name "+req.Name+" already exists")
	}
	if len(have) > c.g.opts.Limits.Networks {
		return apierror.Refuse("another network", fmt.Sprintf("the build has %d", len(have)), "remove one first")
	}
	req.Name = real
	check := true
	//lint:ignore SA1019 daemons before API 1.44 would make a second network of the name
	req.CheckDuplicate = &check
	body, length, err := dockerd.JSONBody(req)
	if err != nil {
		return err
	}
	return c.sendNamed(ctx, dockerd.Request{Method: http.MethodPost, Path: "/networks/create", Header: dockerd.JSONHeader(), Body: body, Length: length})
}

// connectNetwork puts one of the build's containers, steps included, onto one of its networks.
func connectNetwork(ctx context.Context, c *call) error {
	n, err := c.g.own.findNetwork(ctx, c.vars["id"])
	if err != nil {
		return err
	}
	var req network.ConnectOptions
	if err := c.decode(&req); err != nil {
		return err
	}
	who, err := c.g.own.inspectContainer(ctx, strings.TrimPrefix(req.Container, "/"), "", nil)
	if err != nil {
		return err
	}
	if req.EndpointConfig == nil {
		req.EndpointConfig = &network.EndpointSettings{}
	}
	req.Container = who.ID
	p := &checking{Context: ctx, c: c}
	name := ""
	if who.standing == ofClient {
		name = c.g.names.Unscope(who.Name)
	}
	if err := p.endpoint("EndpointConfig", req.EndpointConfig, name); err != nil {
		return err
	}
	body, length, err := dockerd.JSONBody(req)
	if err != nil {
		return err
	}
	return c.send(ctx, dockerd.Request{Method: http.MethodPost, Path: "/networks/" + n.ID + "/connect", Header: dockerd.JSONHeader(), Body: body, Length: length})
}

// disconnectNetwork takes one of the build's containers off a network. A step stays on the build's: it's how the runner's own services reach it.
func disconnectNetwork(ctx context.Context, c *call) error {
	n, err := c.g.own.findNetwork(ctx, c.vars["id"])
	if err != nil {
		return err
	}
	var req network.DisconnectOptions
	if err := c.decode(&req); err != nil {
		return err
	}
	who, err := c.g.own.container(ctx, strings.TrimPrefix(req.Container, "/"))
	if err != nil {
		return err
	}
	if who.standing == ofRunner && n.standing == ofRunner {
		return apierror.Refuse("disconnecting a step", "it is on the build's network as long as it runs", "")
	}
	req.Container = who.ID
	body, length, err := dockerd.JSONBody(req)
	if err != nil {
		return err
	}
	return c.send(ctx, dockerd.Request{Method: http.MethodPost, Path: "/networks/" + n.ID + "/disconnect", Header: dockerd.JSONHeader(), Body: body, Length: length})
}

func removeNetwork(ctx context.Context, c *call) error {
	n, err := c.g.own.findNetwork(ctx, c.vars["id"])
	if err != nil {
		return err
	}
	if n.standing != ofClient {
		return apierror.New(http.StatusForbidden, names.Bridge+" is a pre-defined network and cannot be removed")
	}
	return c.send(ctx, dockerd.Request{Method: http.MethodDelete, Path: "/networks/" + n.ID})
}

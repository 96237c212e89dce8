package guard

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"
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
	resp, err := c.ask(ctx, outgoing{method: http.MethodGet, path: "/networks", query: q})
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
				if matches(c.g.names.unscope(n.Name)) {
					out = append(out, c.g.names.answer(item))
				}
			case ofRunner:
				item = c.g.names.answer(item)
				if matches(bridge) {
					item, err = renameNetwork(item, bridge)
				} else if !matches(n.Name) {
					continue
				}
				out = append(out, item)
			}
			if err != nil {
				return nil, err
			}
		}
		return json.Marshal(out)
	})
}

// renameNetwork sets the Name of a network's description.
func renameNetwork(b []byte, name string) ([]byte, error) {
	var n map[string]json.RawMessage
	if err := json.Unmarshal(b, &n); err != nil {
		return nil, err
	}
	n["Name"], _ = json.Marshal(name) // strings always encode
	return json.Marshal(n)
}

// inspectNetwork shows the build's network under the name that the client asked for.
func inspectNetwork(ctx context.Context, c *call) error {
	ref := c.vars["id"]
	n, err := c.g.own.findNetwork(ctx, ref)
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, outgoing{method: http.MethodGet, path: "/networks/" + n.ID, query: c.query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		b = c.g.names.answer(b)
		if n.standing == ofRunner && ref != n.Name {
			return renameNetwork(b, bridge)
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
	{"Driver", oneOf("a build's networks are bridges", "", "", bridge)},
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
		return refuse(at, "networks of another configuration aren't the build's")
	}
	v.SetZero()
	return nil
}

// bridgeOptions that concern the network alone. The name of the bridge isn't among them: it could be another's.
var bridgeOptions = []string{"com.docker.network.bridge.enable_icc", "com.docker.network.bridge.enable_ip_masquerade", "com.docker.network.driver.mtu",
	"com.docker.network.container_iface_prefix", "com.docker.network.container_interface_prefix"}

// hostBinding is where a network's ports are published by default.
const hostBinding = "com.docker.network.bridge.host_binding_ipv4"

func networkOptions(p *checking, at string, v reflect.Value) error {
	n, err := p.c.g.buildNet(p)
	if err != nil {
		return err
	}
	given, _ := v.Interface().(map[string]string)
	out := map[string]string{hostBinding: n.gateway.String()}
	for k, val := range given {
		switch {
		case k == hostBinding, k == "com.docker.network.bridge.default_bridge" && val == "false":
		case slices.Contains(bridgeOptions, k):
			out[k] = val
		default:
			return refuse(at+" "+quoted(k), "the guard's policy doesn't know this option as one that concerns the network alone")
		}
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// dockerPools are the subnets that Docker chooses from when it isn't told otherwise (libnetwork/ipamutils), and private IPv6 (RFC 4193).
func dockerPools() []netip.Prefix {
	var out []netip.Prefix
	for i := byte(17); i < 32; i++ {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i}), 16))
	}
	return append(out, netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fd00::/8"))
}

// subnet keeps a network's addresses within the pools, and off everything that the daemon's machine has a route to: a network that covers the address of
// the server would receive the runner's own traffic.
func subnet(p *checking, at string, v reflect.Value) error {
	if v.String() == "" {
		return nil
	}
	want, err := netip.ParsePrefix(v.String())
	if err != nil {
		return badRequest("%s %s: invalid subnet: %v", at, quoted(v.String()), err)
	}
	pools := p.c.g.opts.SubnetPools
	within := slices.ContainsFunc(pools, func(pool netip.Prefix) bool { return pool.Bits() <= want.Bits() && pool.Contains(want.Addr()) })
	if !within {
		return refusal{at + " " + quoted(v.String()), "it isn't within the runner's pools for networks", fmt.Sprintf("leave the subnet out, or choose from %v", pools)}
	}
	taken, err := localNetworks()
	if err != nil {
		return fmt.Errorf("look which subnets are free: %w", err)
	}
	for _, t := range taken {
		if t.Overlaps(want) {
			return statusError{http.StatusForbidden, "Pool overlaps with other one on this address space: " + v.String() + " is in use; leave the subnet out, or choose another"}
		}
	}
	return nil
}

// localNetworks are the networks of this machine's interfaces and routes, the default route apart.
func localNetworks() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Masked())
		}
	}
	f, err := os.Open("/proc/net/route")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text()) // Iface Destination Gateway Flags RefCnt Use Metric Mask …, addresses in hex, in the machine's byte order
		if len(fields) < 8 {
			continue
		}
		dest, okDest := routeAddr(fields[1])
		mask, okMask := routeAddr(fields[7])
		if !okDest || !okMask {
			continue
		}
		ones, _ := net.IPMask(mask.AsSlice()).Size()
		if ones > 0 {
			out = append(out, netip.PrefixFrom(dest, ones).Masked())
		}
	}
	return out, nil
}

func routeAddr(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, false
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
	return netip.AddrFrom4(a), true
}

// createNetwork makes a bridge for the build.
func createNetwork(ctx context.Context, c *call) error {
	var req network.CreateRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	switch {
	case !nameable(req.Name):
		return badRequest("invalid network name %s: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", quoted(req.Name))
	case slices.Contains([]string{bridge, "host", "none", "default"}, req.Name):
		return statusError{http.StatusForbidden, "operation is not permitted on predefined " + req.Name + " network "}
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
	if err := c.g.up.call(ctx, http.MethodGet, "/networks", url.Values{"filters": {c.g.own.ownerFilter()}}, nil, &have); err != nil {
		return err
	}
	real := c.g.names.scope(req.Name)
	if slices.ContainsFunc(have, func(n networkFound) bool { return n.Name == real }) {
		return statusError{http.StatusConflict, "network with name " + req.Name + " already exists"}
	}
	if len(have) > c.g.opts.Limits.Networks {
		return refusal{"another network", fmt.Sprintf("the build has %d", len(have)), "remove one first"}
	}
	req.Name = real
	check := true
	//lint:ignore SA1019 daemons before API 1.44 would make a second network of the name
	req.CheckDuplicate = &check
	body, length, err := jsonBody(req)
	if err != nil {
		return err
	}
	return c.sendNamed(ctx, outgoing{method: http.MethodPost, path: "/networks/create", header: jsonHeader(), body: body, length: length})
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
		name = c.g.names.unscope(who.Name)
	}
	if err := p.endpoint("EndpointConfig", req.EndpointConfig, name); err != nil {
		return err
	}
	body, length, err := jsonBody(req)
	if err != nil {
		return err
	}
	return c.send(ctx, outgoing{method: http.MethodPost, path: "/networks/" + n.ID + "/connect", header: jsonHeader(), body: body, length: length})
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
		return refuse("disconnecting a step", "it is on the build's network as long as it runs")
	}
	req.Container = who.ID
	body, length, err := jsonBody(req)
	if err != nil {
		return err
	}
	return c.send(ctx, outgoing{method: http.MethodPost, path: "/networks/" + n.ID + "/disconnect", header: jsonHeader(), body: body, length: length})
}

func removeNetwork(ctx context.Context, c *call) error {
	n, err := c.g.own.findNetwork(ctx, c.vars["id"])
	if err != nil {
		return err
	}
	if n.standing != ofClient {
		return statusError{http.StatusForbidden, bridge + " is a pre-defined network and cannot be removed"}
	}
	return c.send(ctx, outgoing{method: http.MethodDelete, path: "/networks/" + n.ID})
}

package policy

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// networkRules are for network.CreateRequest: bridges between the stage's own containers.
var networkRules = []fieldRule{
	{"Name", networkName},
	{"CheckDuplicate", allow},
	{"CreateOptions", sub(networkOptionRules)},
}

var networkOptionRules = []fieldRule{
	{"Driver", oneOf("a stage's networks are bridges", "", "", names.Bridge)},
	{"Scope", oneOf("a stage's networks are local", "", "", "local")},
	{"EnableIPv4", allow},
	{"EnableIPv6", allow},
	{"IPAM", sub(ipamRules)},
	{"Internal", allow},
	{"Attachable", allow},
	{"Ingress", deny("it is for swarms", "")},
	{"ConfigOnly", deny("a configuration of its own would be shared with other stages", "")},
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
	{"Subnet", allow},  // see Subnets.judge
	{"IPRange", allow}, // the daemon keeps these three within the subnet
	{"Gateway", allow},
	{"AuxAddress", allow},
}

// networkName keeps a network from being taken for one of Docker's own.
func networkName(_ *judgement, _ string, v reflect.Value) error {
	switch name := v.String(); {
	case !names.ValidNetwork(name):
		return apierror.BadRequest("invalid network name: %s", apierror.Quote(name))
	case slices.Contains([]string{names.Bridge, network.NetworkHost, network.NetworkNone, "default"}, name):
		return apierror.New(http.StatusForbidden, "operation is not permitted on predefined "+name+" network ")
	}
	return nil
}

// configFrom may be there without a name: clients send the empty struct.
func configFrom(_ *judgement, at string, v reflect.Value) error {
	if r, _ := v.Interface().(*network.ConfigReference); r != nil && r.Network != "" {
		return apierror.Refuse(at, "networks of another configuration aren't the stage's", "")
	}
	v.SetZero()
	return nil
}

// The options of a bridge that are the guard's: the address on which ports are published by
// default, and the name of the interface.
const (
	hostBinding = "com.docker.network.bridge.host_binding_ipv4"
	bridgeName  = "com.docker.network.bridge.name"
)

// bridgeOptions concern the network alone. The name of the interface isn't among them: it could be
// another's.
var bridgeOptions = []string{
	"com.docker.network.bridge.enable_icc", "com.docker.network.bridge.enable_ip_masquerade",
	"com.docker.network.driver.mtu",
	"com.docker.network.container_iface_prefix", "com.docker.network.container_interface_prefix",
}

// networkOptions drops what is the guard's to say, and what says nothing.
func networkOptions(_ *judgement, at string, v reflect.Value) error {
	given, _ := v.Interface().(map[string]string)
	out := map[string]string{}
	for k, val := range given {
		switch {
		case k == hostBinding, k == "com.docker.network.bridge.default_bridge" && val == "false":
		case slices.Contains(bridgeOptions, k):
			out[k] = val
		default:
			return apierror.Refuse(
				at+" "+apierror.Quote(k),
				"the guard's policy doesn't know this option as one that concerns the network alone",
				"",
			)
		}
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// NetworkCreate judges a network, and publishes its ports on the gateway of the stage's network.
// bridge is the name of its interface; with "", the daemon names it.
func NetworkCreate(ctx context.Context, w World, r *network.CreateRequest, bridge string) error {
	f, err := references{gateway: true}.resolve(ctx, w)
	if err != nil {
		return err
	}
	j := &judgement{stage: w.Stage(), facts: f}
	if err := j.judge("", r, networkRules); err != nil {
		return err
	}
	if err := judgeSubnets(ctx, w, r.IPAM); err != nil {
		return err
	}
	r.Options[hostBinding] = f.gateway.String()
	if bridge != "" {
		r.Options[bridgeName] = bridge
	}
	return nil
}

// containerRef returns a container in the body of a request, where its name may have Docker's
// slash.
func containerRef(name string) string { return strings.TrimPrefix(name, "/") }

// Connect judges a container's way onto a network.
func Connect(ctx context.Context, w World, r *network.ConnectOptions) error {
	refs := references{containers: []string{containerRef(r.Container)}}
	refs.endpoint(r.EndpointConfig)
	f, err := refs.resolve(ctx, w)
	if err != nil {
		return err
	}
	who, err := f.container(containerRef(r.Container))
	if err != nil {
		return err
	}
	r.Container = who.ID
	r.EndpointConfig = alias(r.EndpointConfig, who.Shown)
	return (&judgement{stage: w.Stage(), facts: f}).judge("EndpointConfig", r.EndpointConfig, endpointRules)
}

// Disconnect judges a container's way off a network. A step stays on the stage's: it's how the
// runner's own services reach it.
func Disconnect(ctx context.Context, w World, n Network, r *network.DisconnectOptions) error {
	who, err := w.Container(ctx, containerRef(r.Container))
	if err != nil {
		return err
	}
	if who.Step && n.Own {
		return apierror.Refuse("disconnecting a step", "it is on the stage's network as long as it runs", "")
	}
	r.Container = who.ID
	return nil
}

// judgeSubnets keeps a network's addresses within the pools, and off everything that the daemon's
// machine has a route to or that is reserved: a network that covers the address of the server would
// receive the runner's own traffic.
func judgeSubnets(ctx context.Context, w World, ipam *network.IPAM) error {
	if ipam == nil || !slices.ContainsFunc(ipam.Config, func(c network.IPAMConfig) bool { return c.Subnet != "" }) {
		return nil
	}
	wanted := map[string]netip.Prefix{}
	for i, c := range ipam.Config {
		if c.Subnet == "" {
			continue
		}
		what := fmt.Sprintf("IPAM.Config[%d].Subnet %s", i, apierror.Quote(c.Subnet))
		p, err := netip.ParsePrefix(c.Subnet)
		if err != nil {
			return apierror.BadRequest("%s: invalid subnet: %v", what, err)
		}
		wanted[what] = p
	}
	s, err := w.Subnets(ctx)
	if err != nil {
		return err
	}
	for _, what := range slices.Sorted(maps.Keys(wanted)) {
		if err := s.judge(what, wanted[what]); err != nil {
			return err
		}
	}
	return nil
}

// judge judges one subnet.
func (s Subnets) judge(what string, want netip.Prefix) error {
	within := slices.ContainsFunc(
		s.Pools,
		func(pool netip.Prefix) bool { return pool.Bits() <= want.Bits() && pool.Contains(want.Addr()) },
	)
	if !within {
		return apierror.Refuse(
			what,
			"it isn't within the runner's pools for networks",
			fmt.Sprintf("leave the subnet out, or choose from %v", s.Pools),
		)
	}
	const way = "leave the subnet out, or choose another"
	for _, t := range s.Taken {
		if t.Overlaps(want) {
			return apierror.New(
				http.StatusForbidden,
				"Pool overlaps with other one on this address space: "+want.String()+" is in use; "+way,
			)
		}
	}
	for _, r := range s.Reserved {
		if r.Addresses.Overlaps(want) {
			return apierror.Refuse(what, "it would hide "+r.Purpose+", which is at "+r.Addresses.Addr().String(), way)
		}
	}
	return nil
}

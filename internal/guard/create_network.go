package guard

import (
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// networkingRules are for network.NetworkingConfig.
var networkingRules = []fieldRule{{"EndpointsConfig", endpoints}}

// endpointRules are for network.EndpointSettings.
var endpointRules = []fieldRule{
	{"IPAMConfig", allow}, // an address within a network of the build's own
	{"Links", endpointLinks},
	{"Aliases", allow},
	{"MacAddress", allow},
	{"DriverOpts", deny("driver options set kernel parameters of the interface", "")},
	{"GwPriority", allow},
	{"NetworkID", drop}, // the network is named by the key
	{"EndpointID", drop},
	{"Gateway", drop},
	{"IPAddress", drop},
	{"IPPrefixLen", drop},
	{"IPv6Gateway", drop},
	{"GlobalIPv6Address", drop},
	{"GlobalIPv6PrefixLen", drop},
	{"DNSNames", drop},
}

// networkMode puts a container onto networks of the build's own. What Docker calls its default network is the build's.
func networkMode(p *checking, at string, v reflect.Value) error {
	mode := v.String()
	switch {
	case mode == "" || mode == "default" || mode == names.Bridge:
		v.SetString(p.c.g.opts.Network)
	case mode == network.NetworkNone:
	case mode == network.NetworkHost:
		return apierror.Refuse(at+` "host"`, "the machine's network isn't shared", "leave it out: the container joins the build's network, where steps and services answer by name")
	case strings.HasPrefix(mode, "container:"):
		return joined("the network namespace", true)(p, at, v)
	default:
		n, err := p.c.g.own.findNetwork(p, mode)
		if err != nil {
			return err
		}
		v.SetString(n.Name)
	}
	return nil
}

// onBridge tells whether the container is on networks of the build at all.
func (cr *creation) onBridge() bool {
	m := cr.req.HostConfig.NetworkMode
	return m != network.NetworkNone && !m.IsContainer()
}

// endpoints names the networks as the daemon knows them, and gives the container its own name on each.
func endpoints(p *checking, at string, v reflect.Value) error {
	cr := p.create
	given := cr.req.NetworkingConfig.EndpointsConfig
	mode := string(cr.req.HostConfig.NetworkMode)
	out := map[string]*network.EndpointSettings{}
	for name, e := range given {
		if e == nil {
			e = &network.EndpointSettings{}
		}
		place := at + "." + name
		switch {
		case name == network.NetworkNone && mode == network.NetworkNone:
			out[name] = &network.EndpointSettings{}
			continue
		case !cr.onBridge():
			return apierror.BadRequest("conflicting options: the container has the network mode %s and can't be on the network %s", mode, apierror.Quote(name))
		}
		n, err := p.c.g.own.findNetwork(p, name)
		if err != nil {
			return err
		}
		if out[n.Name] != nil {
			return apierror.BadRequest("the network %s is given twice", apierror.Quote(name))
		}
		if err := p.endpoint(place, e, cr.name); err != nil {
			return err
		}
		out[n.Name] = e
	}
	if cr.onBridge() {
		// Before API 1.44 a container is created on one network only; the daemon itself adds that of the mode.
		if out[mode] == nil && (len(out) == 0 || dockerd.AtLeast(cr.version, "1.44")) {
			e := &network.EndpointSettings{}
			if err := p.endpoint(at, e, cr.name); err != nil {
				return err
			}
			out[mode] = e
		}
		if out[mode] != nil {
			out[mode].Links = append(out[mode].Links, cr.links...)
		}
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// endpoint judges one network's settings, and adds the container's name as the client knows it: others find it by that.
func (p *checking) endpoint(at string, e *network.EndpointSettings, name string) error {
	if err := p.enforce(at, reflect.ValueOf(e).Elem(), endpointRules); err != nil {
		return err
	}
	if name != "" && !slices.Contains(e.Aliases, name) {
		e.Aliases = append(e.Aliases, name)
	}
	return nil
}

// resolveLinks names the targets of links as the daemon does.
func (p *checking) resolveLinks(list []string) ([]string, error) {
	var out []string
	for _, l := range list {
		ref, alias, _ := strings.Cut(l, ":")
		ref = strings.TrimPrefix(ref, "/")
		if alias == "" {
			alias = ref
		}
		other, err := p.c.g.own.inspectContainer(p, ref, "", nil)
		if err != nil {
			return nil, err
		}
		if !names.Valid(alias) {
			return nil, apierror.BadRequest("invalid link %s: the alias is no name", apierror.Quote(l))
		}
		out = append(out, other.Name+":"+alias)
	}
	return out, nil
}

// links of the default network become links on the build's, which stands in for it.
func links(p *checking, _ string, v reflect.Value) (err error) {
	list, _ := v.Interface().([]string)
	p.create.links, err = p.resolveLinks(list)
	v.SetZero()
	return err
}

func endpointLinks(p *checking, _ string, v reflect.Value) error {
	list, _ := v.Interface().([]string)
	out, err := p.resolveLinks(list)
	v.Set(reflect.ValueOf(out))
	return err
}

// publish opens ports on the gateway of the build's network and nowhere else: there the build's containers find them, under host.docker.internal, and two builds
// that publish the same port don't clash.
func publish(p *checking, _ string, v reflect.Value) error {
	ports, _ := v.Interface().(nat.PortMap)
	for port, list := range ports {
		if len(list) == 0 { // Docker publishes such a port at a random one, on all addresses
			list = []nat.PortBinding{{}}
		}
		for i := range list {
			list[i].HostIP = p.create.net.gateway.String()
		}
		ports[port] = list
	}
	return nil
}

// publishAll opens what the container and its image expose, each at a random port of the gateway. The daemon itself would open them on all addresses.
func publishAll(p *checking, _ string, v reflect.Value) error {
	if !v.Bool() {
		return nil
	}
	v.SetBool(false)
	h := p.create.req.HostConfig
	if h.PortBindings == nil {
		h.PortBindings = nat.PortMap{}
	}
	exposed := nat.PortSet{}
	for port := range p.create.req.ExposedPorts {
		exposed[port] = struct{}{}
	}
	for port := range p.create.image.ports {
		exposed[nat.Port(port)] = struct{}{}
	}
	for port := range exposed {
		proto, number := nat.SplitProtoPort(string(port))
		begin, end, err := nat.ParsePortRange(number)
		if err != nil {
			return apierror.BadRequest("the exposed port %s is malformed: %v", apierror.Quote(string(port)), err)
		}
		for n := begin; n <= end; n++ {
			one, err := nat.NewPort(proto, itoa(n))
			if err != nil {
				return apierror.BadRequest("the exposed port %s is malformed: %v", apierror.Quote(string(port)), err)
			}
			if h.PortBindings[one] == nil {
				h.PortBindings[one] = []nat.PortBinding{{HostIP: p.create.net.gateway.String()}}
			}
		}
	}
	return nil
}

// hostName is what reaches published ports, as with Docker Desktop.
const hostName = "host.docker.internal"

// extraHosts resolves Docker's word for the machine's address, and adds hostName and the names of the daemons that the guard answers for.
func extraHosts(p *checking, at string, v reflect.Value) error {
	list, _ := v.Interface().([]string)
	gateway := p.create.net.gateway.String()
	var out []string
	have := map[string]bool{}
	for _, h := range list {
		name, addr, ok := cutHost(h)
		if !ok {
			return apierror.BadRequest("%s: bad format for add-host: %s", at, apierror.Quote(h))
		}
		if addr == "host-gateway" {
			addr = gateway
		}
		if net.ParseIP(strings.Trim(addr, "[]")) == nil {
			return apierror.BadRequest("%s: invalid IP address in add-host: %s", at, apierror.Quote(addr))
		}
		have[name] = true
		out = append(out, name+":"+addr)
	}
	if p.create.onBridge() {
		for _, name := range append([]string{hostName}, p.c.g.opts.Hosts...) {
			if !have[name] {
				out = append(out, name+":"+gateway)
			}
		}
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// cutHost takes "name:address" and the newer "name=address" apart.
func cutHost(s string) (name, addr string, ok bool) {
	i := strings.IndexAny(s, ":=")
	if i <= 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], i+1 < len(s)
}

// volumesFrom names other containers' ids, and notes where their volumes come in.
func volumesFrom(p *checking, at string, v reflect.Value) error {
	list, _ := v.Interface().([]string)
	p.create.from = map[string]bool{}
	for i, s := range list {
		ref, mode, moded := strings.Cut(s, ":")
		if moded && mode != "ro" && mode != "rw" {
			return apierror.Refuse(at+" "+apierror.Quote(s), "the guard knows the modes ro and rw", "")
		}
		other, err := p.c.g.mountsOf(p, strings.TrimPrefix(ref, "/"))
		if err != nil {
			return err
		}
		for _, m := range other.mounts {
			p.create.from[m.Destination] = true
		}
		list[i] = other.id
		if moded {
			list[i] += ":" + mode
		}
	}
	return nil
}

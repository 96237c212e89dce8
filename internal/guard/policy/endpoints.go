package policy

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// networkingRules are for network.NetworkingConfig.
var networkingRules = []fieldRule{{"EndpointsConfig", endpoints}} // the networks' names: fillEndpoints

// endpointRules are for network.EndpointSettings.
var endpointRules = []fieldRule{
	{"IPAMConfig", allow}, // an address within a network of the stage's own
	{"Links", links},
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

// isDefault reports whether a network mode means Docker's default network, which the stage's own
// stands in for.
func isDefault(mode string) bool { return mode == "" || mode == "default" || mode == names.Bridge }

// networkMode puts a container onto networks of the stage's own. What Docker calls its default
// network is the stage's.
func networkMode(j *judgement, at string, v reflect.Value) error {
	mode := v.String()
	switch {
	case isDefault(mode):
		v.SetString(j.stage.Network)
	case mode == network.NetworkNone:
	case mode == network.NetworkHost:
		return apierror.Refuse(
			at+` "host"`,
			"the machine's network isn't shared",
			"leave it out: the container joins the stage's network, where steps and services answer by name",
		)
	case strings.HasPrefix(mode, joinedPrefix):
		return joined("the network namespace", true)(j, at, v)
	default:
		n, err := j.facts.network(mode)
		if err != nil {
			return err
		}
		v.SetString(n.Name)
	}
	return nil
}

// onBridge reports whether a container is on networks of the stage at all.
func onBridge(h *container.HostConfig) bool {
	return h.NetworkMode != network.NetworkNone && !h.NetworkMode.IsContainer()
}

// endpoints judges the settings of each network.
func endpoints(j *judgement, at string, v reflect.Value) error {
	given, _ := v.Interface().(map[string]*network.EndpointSettings)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		e := given[name]
		if e == nil {
			continue
		}
		if err := j.judge(at+"."+name, e, endpointRules); err != nil {
			return err
		}
	}
	return nil
}

// links names the targets of links as the daemon does.
func links(j *judgement, _ string, v reflect.Value) error {
	list, _ := v.Interface().([]string)
	var out []string
	for _, l := range list {
		ref, alias := cutLink(l)
		other, err := j.facts.container(ref)
		if err != nil {
			return err
		}
		if !names.Valid(alias) {
			return apierror.BadRequest("invalid link %s: the alias is no name", apierror.Quote(l))
		}
		out = append(out, other.Name+":"+alias)
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// cutLink takes "container:alias" apart.
func cutLink(l string) (ref, alias string) {
	ref, alias, _ = strings.Cut(l, ":")
	ref = strings.TrimPrefix(ref, "/")
	if alias == "" {
		alias = ref
	}
	return ref, alias
}

// fillEndpoints names the networks of a container as the daemon knows them, and gives the container
// its own name on each. Links of the default network become links on the stage's.
func fillEndpoints(f facts, c *container.CreateRequest, name, version string) error {
	h := c.HostConfig
	linked := h.Links
	h.Links = nil
	out := map[string]*network.EndpointSettings{}
	mode := string(h.NetworkMode)
	given := c.NetworkingConfig.EndpointsConfig
	for _, key := range slices.Sorted(maps.Keys(given)) {
		switch {
		case key == network.NetworkNone && mode == network.NetworkNone:
			out[key] = &network.EndpointSettings{}
			continue
		case !onBridge(h):
			return apierror.BadRequest(
				"conflicting options: the container has the network mode %s and can't be on the network %s",
				mode,
				apierror.Quote(key),
			)
		}
		n, err := f.network(key)
		if err != nil {
			return err
		}
		if out[n.Name] != nil {
			return apierror.BadRequest("the network %s is given twice", apierror.Quote(key))
		}
		out[n.Name] = alias(given[key], name)
	}
	if onBridge(h) {
		// Before API 1.44 a container is created on one network only; the daemon itself adds that
		// of the mode.
		if out[mode] == nil && (len(out) == 0 || apiversion.AtLeast(version, "1.44")) {
			out[mode] = alias(nil, name)
		}
		if e := out[mode]; e != nil {
			e.Links = append(e.Links, linked...)
		}
	}
	c.NetworkingConfig.EndpointsConfig = out
	return nil
}

// alias adds a container's name to its settings on a network: others find it by that.
func alias(e *network.EndpointSettings, name string) *network.EndpointSettings {
	if e == nil {
		e = &network.EndpointSettings{}
	}
	if name != "" && !slices.Contains(e.Aliases, name) {
		e.Aliases = append(e.Aliases, name)
	}
	return e
}

package policy

import (
	"reflect"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// publish opens ports on the gateway of the stage's network and nowhere else: there the stage's
// containers find them, under host.docker.internal, and two stages that publish the same port don't
// clash.
func publish(j *judgement, _ string, v reflect.Value) error {
	ports, _ := v.Interface().(nat.PortMap)
	for port, list := range ports {
		if len(list) == 0 { // Docker publishes such a port at a random one, on all addresses
			list = []nat.PortBinding{{}}
		}
		for i := range list {
			list[i].HostIP = j.facts.gateway.String()
		}
		ports[port] = list
	}
	return nil
}

// fillPorts opens what the container and its image expose, if PublishAllPorts asks for it, each
// port at a random one of the gateway. The daemon itself would open them on all addresses.
func fillPorts(f facts, c *container.CreateRequest) error {
	h := c.HostConfig
	if !h.PublishAllPorts {
		return nil
	}
	h.PublishAllPorts = false
	if h.PortBindings == nil {
		h.PortBindings = nat.PortMap{}
	}
	exposed := nat.PortSet{}
	for port := range c.ExposedPorts {
		exposed[port] = struct{}{}
	}
	for port := range f.image.Ports {
		exposed[nat.Port(port)] = struct{}{}
	}
	for port := range exposed {
		malformed := func(err error) error {
			return apierror.BadRequest("the exposed port %s is malformed: %v", apierror.Quote(string(port)), err)
		}
		proto, number := nat.SplitProtoPort(string(port))
		begin, end, err := nat.ParsePortRange(number)
		if err != nil {
			return malformed(err)
		}
		for n := begin; n <= end; n++ {
			one, err := nat.NewPort(proto, strconv.FormatUint(n, 10))
			if err != nil {
				return malformed(err)
			}
			if h.PortBindings[one] == nil {
				h.PortBindings[one] = []nat.PortBinding{{HostIP: f.gateway.String()}}
			}
		}
	}
	return nil
}

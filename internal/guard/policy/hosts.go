package policy

import (
	"net"
	"reflect"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// HostName is what reaches published ports, as with Docker Desktop.
const HostName = "host.docker.internal"

// HostGateway is Docker's word for the address of the daemon's machine. As a client knows it, that
// is the gateway of the stage's network.
const HostGateway = "host-gateway"

// Host takes a line for /etc/hosts apart, "name:address" or the newer "name=address". The address
// may be HostGateway.
func Host(line string) (name, address string, err error) {
	i := strings.IndexAny(line, ":=")
	if i <= 0 || i+1 == len(line) {
		return "", "", apierror.BadRequest("bad format for add-host: %s", apierror.Quote(line))
	}
	return line[:i], line[i+1:], nil
}

// extraHosts puts the gateway in place of Docker's word for it.
func extraHosts(j *judgement, at string, v reflect.Value) error {
	list, _ := v.Interface().([]string)
	var out []string
	for _, line := range list {
		name, address, err := Host(line)
		if err != nil {
			return apierror.BadRequest("%s: %v", at, err)
		}
		if address == HostGateway {
			address = j.facts.gateway.String()
		}
		if net.ParseIP(strings.Trim(address, "[]")) == nil {
			return apierror.BadRequest("%s: invalid IP address in add-host: %s", at, apierror.Quote(address))
		}
		out = append(out, name+":"+address)
	}
	v.Set(reflect.ValueOf(out))
	return nil
}

// fillHosts adds HostName and the names of the docker daemons that the guard answers for, unless
// the client has names of its own there.
func fillHosts(s Stage, f facts, h *container.HostConfig) {
	if !onBridge(h) {
		return
	}
	have := map[string]bool{}
	for _, line := range h.ExtraHosts {
		name, _, _ := strings.Cut(line, ":")
		have[name] = true
	}
	for _, name := range append([]string{HostName}, s.Hosts...) {
		if !have[name] {
			h.ExtraHosts = append(h.ExtraHosts, name+":"+f.gateway.String())
		}
	}
}

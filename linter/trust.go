package linter

import (
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// socketAdvice is for authors who want privilege, mostly for Docker.
const socketAdvice = "a step that needs Docker mounts a volume with host: {path: /var/run/docker.sock}, the " +
	"Docker of the pipeline, which needs no privilege and keeps its cache"

// untrusted ends a message about what only trusted repositories may write.
const untrusted = "; or have an administrator of Drone mark the repository as trusted"

// checkTrust holds the rules that keep a step inside its container. Devices and other containers'
// or the machine's namespaces are refused to all.
func (c *checker) checkTrust(s subject) {
	c.checkPrivileged(s)
	if len(s.Devices) > 0 {
		severity := resource.Error
		if c.options.Trusted {
			severity = c.ifRun(s)
		}
		c.at(s, severity, "devices", "no step gets a device: remove the key; %s", socketAdvice)
	}
	c.checkNetwork(s)
	if c.options.Trusted {
		return
	}
	for _, rule := range []struct {
		key     string
		set     bool
		instead string
	}{
		{"dns", len(s.DNS) > 0, "remove it, and have the operator set the resolvers of the runner"},
		{"dns_search", len(s.DNSSearch) > 0, "remove it, and write full host names"},
		{"extra_hosts", len(s.ExtraHosts) > 0, "remove it, and reach services and other steps at their names"},
		{"shm_size", s.ShmSize != 0, "remove it, and have the operator set DRONE_SHM_SIZE"},
	} {
		if rule.set {
			c.at(s, resource.Error, rule.key, "an untrusted repository may not set it: %s%s", rule.instead, untrusted)
		}
	}
}

// checkPrivileged holds the rule that no step is. A docker daemon that a pipeline may have needs no
// privilege: the stage's guard answers in its place.
func (c *checker) checkPrivileged(s subject) {
	daemon := s.DockerDaemon(s.list == "services") != nil
	switch {
	case !s.Privileged && daemon && !c.mayHaveDocker():
		c.at(s, resource.Warning, "image", "no docker daemon can start here, as that takes privilege: build "+
			"images with image: plugins/docker, which needs none%s", untrusted)
	case !s.Privileged:
	case c.options.Trusted && !c.options.RefusePrivileged && daemon:
	case !c.options.Trusted:
		trust := ""
		if !c.options.OpenSocket {
			trust = untrusted
		}
		c.at(s, resource.Error, "privileged", "no step is privileged here: remove the key; %s%s", socketAdvice, trust)
	case c.options.RefusePrivileged:
		c.at(s, c.ifRun(s), "privileged", "no step is privileged here, and the operator wants such steps refused: "+
			"remove the key; %s", socketAdvice)
	default:
		c.at(s, resource.Warning, "privileged", "no step is privileged here: this one runs unprivileged; remove "+
			"the key; %s", socketAdvice)
	}
}

// mayHaveDocker reports whether the repository may have a docker socket.
func (c *checker) mayHaveDocker() bool { return c.options.Trusted || c.options.OpenSocket }

func (c *checker) checkNetwork(s subject) {
	mode := strings.ToLower(strings.TrimSpace(s.Network))
	kind, _, joins := strings.Cut(mode, ":")
	severity := resource.Error
	if c.options.Trusted {
		severity = c.ifRun(s)
	}
	switch {
	case mode == "":
	case mode == "host":
		c.at(s, severity, "network_mode", "no step shares the machine's network: remove the key; services and "+
			"other steps are reached at their names")
	case joins:
		c.at(s, severity, "network_mode", "no step shares the network of another container (%s:…): remove the "+
			"key; services and other steps are reached at their names", kind)
	case !c.options.Trusted:
		c.at(s, resource.Error, "network_mode", "an untrusted repository may not set it: remove the key; every "+
			"step is on the pipeline's own network%s", untrusted)
	}
}

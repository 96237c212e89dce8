package config

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// checkRegistries takes what dockerd takes, and no more: a daemon that refuses its configuration
// doesn't start, and says so late.
func (l *loader) checkRegistries(d *Docker) {
	for i, mirror := range d.RegistryMirrors {
		u, err := url.Parse(mirror)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !validPort(u.Port(),
			u.Host) ||
			strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			l.fail("DRONE_RUNNER_REGISTRY_MIRRORS: %q is not the URL of a mirror: write one such as "+
				"https://mirror.example.com or http://10.0.0.5:5000", withoutUser(mirror))
			continue
		}
		d.RegistryMirrors[i] = u.Scheme + "://" + u.Host
	}
	for _, registry := range d.InsecureRegistries {
		if _, err := netip.ParsePrefix(registry); err != nil && !isRegistry(registry) {
			l.fail("DRONE_RUNNER_INSECURE_REGISTRIES: %q is neither a host nor a network: write one such as "+
				"registry.local:5000 or 10.0.0.0/8", withoutUser(registry))
		}
	}
}

// registryHost is what can precede the first slash of an image: a name, an IPv4 address or an IPv6
// address in brackets, maybe with a port.
var registryHost = regexp.MustCompile(`^` + reference.DomainRegexp.String() + `$`)

func isRegistry(s string) bool {
	port := ""
	if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, ']') {
		port = s[colon+1:]
	}
	return registryHost.MatchString(s) && validPort(port, s)
}

// Package registry knows by which names registries go, and asks a Docker configuration's helpers
// for their credentials.
//
// The one rule to keep: two addresses are of one registry exactly if Host gives them one name.
// Credentials, caches and rules of access compare by nothing else.
package registry

import "strings"

// Hub is the registry of images that name none, and HubServer the address by which a Docker daemon
// knows its credentials.
const (
	Hub       = "docker.io"
	HubServer = "https://index.docker.io/v1/"
)

// Host is the name under which a registry is compared: lower case, without scheme and path. Docker
// Hub has several names.
func Host(address string) string {
	host := strings.ToLower(strings.TrimSpace(address))
	if _, rest, found := strings.Cut(host, "://"); found {
		host = rest
	}
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com", "docker.com":
		return Hub
	}
	return host
}

// Server is the address by which a Docker daemon knows the credentials of a registry.
func Server(host string) string {
	if host = Host(host); host == Hub {
		return HubServer
	}
	return host
}

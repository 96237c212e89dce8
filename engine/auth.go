package engine

import (
	"fmt"

	"github.com/docker/docker/api/types/registry"
)

// The registry of images without one, and the address by which the daemon knows its credentials.
const (
	dockerHub       = "docker.io"
	dockerHubServer = "https://index.docker.io/v1/"
)

// registryAuth is the header that carries the credentials of a pull; empty for an anonymous one. The address is that of the image's registry, not the one that the
// credentials were written for: whoever chose them has matched the two, and newer daemons drop credentials whose address is spelled otherwise.
func registryAuth(p pull) (string, error) {
	if p.Auth.Username == "" && p.Auth.Password == "" {
		return "", nil
	}
	server := registryHost(p.Image)
	if server == dockerHub {
		server = dockerHubServer
	}
	header, err := registry.EncodeAuthConfig(registry.AuthConfig{
		Username:      p.Auth.Username,
		Password:      string(p.Auth.Password),
		ServerAddress: server,
	})
	if err != nil {
		return "", fmt.Errorf("encode the credentials for %s: %w", server, err)
	}
	return header, nil
}

package engine

import (
	"fmt"

	"github.com/docker/docker/api/types/registry"

	registries "github.com/drone-runner-sysbox/drone-runner-sysbox/internal/registry"
)

// authConfig are the credentials of a pull, as the daemon takes them; zero for an anonymous one.
// The address is that of the image's registry, not the one that the credentials were written for:
// the compiler has matched the two, and newer daemons drop credentials whose address is spelled
// otherwise.
func authConfig(p pull) registry.AuthConfig {
	if p.Auth.Username == "" && p.Auth.Password == "" {
		return registry.AuthConfig{}
	}
	server := registries.Server(registryHost(p.Image))
	if p.Auth.Username == registries.TokenUser {
		return registry.AuthConfig{IdentityToken: string(p.Auth.Password), ServerAddress: server}
	}
	return registry.AuthConfig{Username: p.Auth.Username, Password: string(p.Auth.Password), ServerAddress: server}
}

// registryAuth is the header that carries them; empty for an anonymous pull.
func registryAuth(p pull) (string, error) {
	c := authConfig(p)
	if c == (registry.AuthConfig{}) {
		return "", nil
	}
	header, err := registry.EncodeAuthConfig(c)
	if err != nil {
		return "", fmt.Errorf("encode the credentials for %s: %w", c.ServerAddress, err)
	}
	return header, nil
}

package compiler

import (
	"context"
	"fmt"
	"net/url"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/environ/provider"
	"github.com/drone/runner-go/registry"
	"github.com/drone/runner-go/secret"

	registries "github.com/drone-runner-sysbox/drone-runner-sysbox/internal/registry"
)

// ExternalEnviron is Drone's environment plugin at an endpoint. Its errors name the plugin and what
// it was asked for. An empty endpoint provides nothing.
func ExternalEnviron(endpoint, token string, skipVerify bool) provider.Provider {
	return &namedEnviron{provider.External(endpoint, token, skipVerify), pluginName("environment", endpoint)}
}

// ExternalSecret is Drone's secret plugin at an endpoint, with errors likewise.
func ExternalSecret(endpoint, token string, skipVerify bool) secret.Provider {
	return &namedSecret{secret.External(endpoint, token, skipVerify), pluginName("secret", endpoint)}
}

// ExternalRegistry is Drone's registry plugin at an endpoint, with errors likewise.
func ExternalRegistry(endpoint, token string, skipVerify bool) registry.Provider {
	return &namedRegistry{registry.External(endpoint, token, skipVerify), pluginName("registry", endpoint)}
}

// RegistryFile is a docker config.json of the operator's with credentials, read anew for each
// build, and with what the credential helpers know that it names. Its errors name the file. An
// empty path lists nothing.
func RegistryFile(path string) registry.Provider {
	return &namedRegistry{fileRegistry{registry.File(path), path}, "docker configuration " + path}
}

// pluginName is how an error calls a plugin; a password in the address stays out of it.
func pluginName(kind, endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil {
		endpoint = u.Redacted()
	}
	return kind + " plugin at " + endpoint
}

type namedEnviron struct {
	provider.Provider
	name string
}

func (p *namedEnviron) List(ctx context.Context, in *provider.Request) ([]*provider.Variable, error) {
	vars, err := p.Provider.List(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("%s: list the variables for %s: %w", p.name, buildName(in.Repo, in.Build), err)
	}
	return vars, nil
}

type namedSecret struct {
	secret.Provider
	name string
}

func (p *namedSecret) Find(ctx context.Context, in *secret.Request) (*drone.Secret, error) {
	s, err := p.Provider.Find(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("%s: find %q for %s: %w", p.name, in.Name, buildName(in.Repo, in.Build), err)
	}
	return s, nil
}

type namedRegistry struct {
	registry.Provider
	name string
}

func (p *namedRegistry) List(ctx context.Context, in *registry.Request) ([]*drone.Registry, error) {
	list, err := p.Provider.List(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("%s: list the credentials for %s: %w", p.name, buildName(in.Repo, in.Build), err)
	}
	return list, nil
}

// fileRegistry is a config.json: what its helpers know, which wins as with Docker's own client,
// then its own entries in an order.
type fileRegistry struct {
	registry.Provider
	path string
}

// List asks the helpers and reads the file.
func (p fileRegistry) List(ctx context.Context, in *registry.Request) ([]*drone.Registry, error) {
	var out []*drone.Registry
	helped, err := registries.Helped(ctx, p.path)
	if err != nil {
		return nil, err
	}
	for _, c := range helped {
		out = append(out, &drone.Registry{Address: c.Address, Username: c.Username, Password: c.Password})
	}
	list, err := p.Provider.List(ctx, in)
	return append(out, ordered(list)...), err
}

func buildName(repo *drone.Repo, build *drone.Build) string {
	return fmt.Sprintf("build %d of %s", build.Number, repo.Slug)
}

package compiler

import (
	"context"
	"fmt"

	"github.com/drone/runner-go/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// OperatorAuth finds the credentials for an image that no pipeline asks for, in a docker
// config.json (DRONE_DOCKER_CONFIG; an empty path has none). Nil pulls anonymously.
func OperatorAuth(ctx context.Context, path, image string) (*spec.Auth, error) {
	// Not RegistryFile, whose errors name a build.
	list, err := fileRegistry{registry.File(path), path}.List(ctx, &registry.Request{})
	if err != nil {
		return nil, fmt.Errorf("docker configuration %s: list the credentials for %s: %w", path, image, err)
	}
	b := &builder{registries: known(list, "the runner's configuration")}
	auth, _ := b.auth(image)
	return auth, nil
}

package engine

import (
	"testing"

	"github.com/docker/docker/api/types/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

func TestAuthConfig(t *testing.T) {
	for name, row := range map[string]struct {
		auth  spec.Auth
		image string
		want  registry.AuthConfig
	}{
		"none":             {spec.Auth{}, "docker.io/library/alpine:3", registry.AuthConfig{}},
		"a user":           {spec.Auth{Address: "quay.io", Username: "jane", Password: "s3cret"}, "quay.io/a/b:1", registry.AuthConfig{Username: "jane", Password: "s3cret", ServerAddress: "quay.io"}},
		"of Docker Hub":    {spec.Auth{Username: "jane", Password: "s3cret"}, "docker.io/library/alpine:3", registry.AuthConfig{Username: "jane", Password: "s3cret", ServerAddress: "https://index.docker.io/v1/"}},
		"a helper's token": {spec.Auth{Username: "<token>", Password: "t0ken"}, "acme.azurecr.io/a:1", registry.AuthConfig{IdentityToken: "t0ken", ServerAddress: "acme.azurecr.io"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := authConfig(pull{Image: row.image, Auth: row.auth}); got != row.want {
				t.Errorf("%+v, want %+v", got, row.want)
			}
		})
	}
}

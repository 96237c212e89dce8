package policy

import (
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// commitRules are configRules for a configuration that becomes an image's: neither the stage's
// labels nor its volumes have a place in it.
func commitRules() []fieldRule {
	out := slices.Clone(configRules)
	for i := range out {
		switch out[i].field {
		case "Labels":
			out[i].do = noLabels
		case "Volumes":
			out[i].do = allow
		}
	}
	return out
}

// Commit judges the configuration of an image that is made of a container.
func Commit(c *container.Config) error { return (&judgement{}).judge("", c, commitRules()) }

// Changes judges instructions that change an image's configuration. The daemon parses them as a
// Dockerfile.
func Changes(list []string) error {
	for _, change := range list {
		if len(change) > 64<<10 {
			return apierror.BadRequest("an instruction in changes is too long")
		}
		if strings.Contains(strings.ToLower(change), LabelSpace) {
			return reservedLabel("changes", change)
		}
	}
	return nil
}

// ImportSource judges where an image is imported from.
func ImportSource(src string) error {
	if src != "-" {
		return apierror.Refuse(
			"fromSrc "+apierror.Quote(src),
			"the daemon would fetch it, from wherever it can reach",
			"fetch it in the step: curl … | docker import -",
		)
	}
	return nil
}

// authRules are for registry.AuthConfig: credentials that the client has anyway.
var authRules = []fieldRule{
	{"Username", allow},
	{"Password", allow},
	{"Auth", allow},
	{"Email", allow},
	{"ServerAddress", allow},
	{"IdentityToken", allow},
	{"RegistryToken", allow},
}

// Auth judges credentials that the daemon is to try.
func Auth(a *registry.AuthConfig) error { return (&judgement{}).judge("", a, authRules) }

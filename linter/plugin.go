package linter

import (
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// pluginSettings are settings that plugins have which build images with Docker, and few others.
var pluginSettings = []string{"repo", "dockerfile", "auto_tag", "build_args", "daemon_off"}

// registryPlugins are the names, without what stands around them, of plugins that build images for
// one registry.
var registryPlugins = []string{"acr", "ecr", "gar", "gcr", "heroku"}

// LikeDockerPlugin reports whether a step looks like a plugin that builds images with Docker.
// Whether such an image is one can't be known by its name, so it decides nothing but what a message
// says.
func LikeDockerPlugin(s *resource.Step) bool {
	if len(s.Commands)+len(s.Command)+len(s.Entrypoint)+len(s.Volumes) > 0 ||
		!slices.ContainsFunc(pluginSettings, func(key string) bool { return s.Settings[key] != nil }) {
		return false
	}
	ref, err := reference.ParseNormalizedNamed(s.Image)
	if err != nil {
		return false
	}
	name := path.Base(reference.Path(ref))
	for _, affix := range []string{"drone-", "plugin-", "woodpecker-"} {
		name = strings.TrimPrefix(name, affix)
	}
	return strings.Contains(name, "docker") || strings.Contains(name, "buildx") ||
		slices.Contains(registryPlugins, name)
}

// checkPlugin warns of a plugin that would start a docker daemon, which fails, since the runner
// doesn't know it.
func (c *checker) checkPlugin(s subject) {
	if c.options.DockerPlugins == nil || c.absent(s) || !LikeDockerPlugin(s.Step) {
		return
	}
	ref, err := reference.ParseNormalizedNamed(s.Image)
	if err != nil || slices.Contains(c.options.DockerPlugins, reference.FamiliarName(ref)) {
		return
	}
	c.at(s, resource.Warning, "image", "%[1]s looks like a plugin that builds images with Docker, and isn't among "+
		"those that get it: "+
		"if it fails for want of a docker daemon, the runner's operator adds %[1]s to DRONE_RUNNER_DOCKER_PLUGINS", reference.FamiliarName(ref))
}

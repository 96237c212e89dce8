package compiler

import (
	"fmt"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// DefaultDockerPlugins are the images that Drone's own runner gives privilege to when a pipeline
// uses them as plugins, so that they can start a docker daemon
// (https://docs.drone.io/runner/docker/configuration/reference/drone-runner-privileged-images/),
// those of Drone's that build upon the first, and the two with buildx that pipelines use most.
func DefaultDockerPlugins() []string {
	return []string{
		"plugins/docker", "plugins/ecr", "plugins/gcr", "plugins/gar", "plugins/acr", "plugins/heroku",
		"thegeeklab/drone-docker-buildx", "woodpeckerci/plugin-docker-buildx",
	}
}

// pluginSettings tell a plugin that builds images to start no daemon of its own, which needs
// privilege, and not to empty the cache, which is everybody's.
var pluginSettings = []struct{ variable, value, why string }{
	{"PLUGIN_DAEMON_OFF", "true", "the plugin uses the docker daemon that is there"},
	{"PLUGIN_PURGE", "false", "images and layers are kept for the builds to come"},
}

// daemonSettings are for a docker daemon that the plugin starts itself
// (https://plugins.drone.io/plugins/docker), and what the operator sets here instead.
var daemonSettings = []struct{ key, operator string }{
	{"storage_driver", ""},
	{"storage_path", ""},
	{"bip", ""},
	{"mtu", "DRONE_RUNNER_NETWORK_OPTS"},
	{"custom_dns", ""},
	{"custom_dns_search", ""},
	{"ipv6", ""},
	{"experimental", ""},
	{"insecure", "DRONE_RUNNER_INSECURE_REGISTRIES"},
	{"insecure_registries", "DRONE_RUNNER_INSECURE_REGISTRIES"},
	{"mirror", "DRONE_RUNNER_REGISTRY_MIRRORS"},
	{"mirrors", "DRONE_RUNNER_REGISTRY_MIRRORS"},
}

// isDockerPlugin reports whether the step runs an image of DockerPlugins the way its authors meant
// it to: one that runs commands of its own is an ordinary step.
func (b *builder) isDockerPlugin(step *spec.Step) bool {
	return len(step.Entrypoint) == 0 && len(step.Command) == 0 && slices.Contains(b.DockerPlugins,
		repository(step.Image))
}

// warnOfDaemon is a line about settings that have no effect here, if there are any.
func warnOfDaemon(dst *spec.Step, env environment) {
	var keys, operators []string
	for _, s := range daemonSettings {
		v, set := env[settingName(s.key)]
		if !set || v.secret == nil && (v.text == "" || v.text == "false") {
			continue
		}
		keys = append(keys, s.key)
		if s.operator != "" && !slices.Contains(operators, s.operator) {
			operators = append(operators, s.operator)
		}
	}
	if len(keys) == 0 {
		return
	}
	note := fmt.Sprintf("without effect here: %s: the plugin starts no docker daemon that could have such "+
		"settings", strings.Join(keys, ", "))
	if len(operators) > 0 {
		note += "; for the runner's, its operator has " + strings.Join(operators, " and ")
	}
	dst.Notes = append(dst.Notes, note)
}

// useSocket points a docker plugin to a docker socket of the run, one with which images can be made
// and nothing else, as it is for untrusted repositories too. What its settings say otherwise can't
// be had, and the log says so.
func (b *builder) useSocket(dst *spec.Step, env environment) {
	for _, s := range pluginSettings {
		if old, set := env[s.variable]; set && (old.secret != nil || old.text != s.value) {
			dst.Notes = append(dst.Notes, fmt.Sprintf("%s is %s here: %s", s.variable, s.value, s.why))
		}
		env.set(s.variable, s.value)
	}
	warnOfDaemon(dst, env)
	if b.volumes[socketName] == nil {
		b.addVolume(&spec.Volume{Name: socketName, Kind: spec.VolumePluginSocket})
	}
}

package compiler

import (
	"fmt"
	"slices"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

// pluginSettings tell a plugin that builds images to start no daemon of its own, which needs privilege, and not to empty the cache, which is everybody's.
var pluginSettings = []struct{ variable, value, why string }{
	{"PLUGIN_DAEMON_OFF", "true", "the plugin uses the docker daemon that is there"},
	{"PLUGIN_PURGE", "false", "images and layers are kept for the builds to come"},
}

// isDockerPlugin tells whether the step runs an image of DockerPlugins the way its authors meant it to: one that runs commands of its
// own is an ordinary step.
func (b *builder) isDockerPlugin(step *engine.Step) bool {
	return len(step.Entrypoint) == 0 && len(step.Command) == 0 && slices.Contains(b.DockerPlugins, repository(step.Image))
}

// useSocket points a docker plugin to the docker socket of the run. What its settings say otherwise can't be had, and the log says so.
func (b *builder) useSocket(dst *engine.Step, env environment) {
	for _, s := range pluginSettings {
		if old, set := env[s.variable]; set && (old.secret != nil || old.text != s.value) {
			dst.Notes = append(dst.Notes, fmt.Sprintf("%s is %s here: %s", s.variable, s.value, s.why))
		}
		env.set(s.variable, s.value)
	}
	if b.findVolume(socketName) == nil {
		b.spec.Volumes = append(b.spec.Volumes, &engine.Volume{Name: socketName, Kind: engine.VolumeSocket})
	}
}

// Package spec is what a pipeline compiles to for one stage, and what running it promises: the spec
// with its steps and volumes, the labels on what a stage makes, and a container with its exit.
//
// The one rule to keep: it has no implementation and imports nothing of Docker, so that code which
// plans or schedules steps compiles without a Docker client.
package spec

// Spec is one stage, compiled: everything that the engine needs to run it and nothing that it would
// have to look up.
//
// What can't be written down can't be started: no type here has a field for privilege, devices,
// capabilities, security profiles or the host's namespaces.
type Spec struct {
	// ID is unique among all runs of all stages: it names the objects of the run in the daemon and
	// is their label LabelSpec.
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Platform Platform `json:"platform"`
	// Labels go onto every object of the run: containers, network, volumes.
	Labels  map[string]string `json:"labels,omitempty"`
	Network Network           `json:"network"`
	// DropPrivileged has containers of clients of the run's docker socket that ask for privilege
	// run without it. Otherwise they are refused.
	DropPrivileged bool `json:"drop_privileged,omitempty"`
	// CacheScope names who shares what image builds keep in cache mounts (RUN --mount=type=cache).
	// Empty is a scope of its own as well.
	CacheScope string `json:"cache_scope,omitempty"`
	// Domain is the trust domain whose cell the run belongs into. Empty is the one that all share.
	Domain  string    `json:"domain,omitempty"`
	Volumes []*Volume `json:"volumes,omitempty"`
	// Steps in the order of the file, services first, the clone step before all. Dependencies are
	// complete: a serial pipeline is a chain.
	Steps []*Step `json:"steps"`
	// Masks are values that appear in no log of this run, besides the secrets of its steps:
	// credentials of git and of registries.
	Masks []Sensitive `json:"-"`
}

// Platform is what the images must be built for.
type Platform struct {
	OS      string `json:"os,omitempty"`
	Arch    string `json:"arch,omitempty"`
	Variant string `json:"variant,omitempty"`
	Version string `json:"version,omitempty"`
}

// Network is the bridge of the run. Steps find each other on it by name.
type Network struct {
	// Name in the daemon; the value of DRONE_DOCKER_NETWORK_ID.
	Name string `json:"name"`
	// Options of the bridge driver, such as com.docker.network.driver.mtu.
	Options map[string]string `json:"options,omitempty"`
}

// NeedsDocker reports whether any step of the run has Docker.
func (s *Spec) NeedsDocker() bool {
	for _, v := range s.Volumes {
		switch v.Kind {
		case VolumeSocket, VolumeSocketDir, VolumePluginSocket, VolumeCerts:
			return true
		}
	}
	for _, step := range s.Steps {
		if step.Daemon != nil && step.RunPolicy != RunNever {
			return true
		}
	}
	return false
}

// Find is the step of that name, or nil.
func (s *Spec) Find(name string) *Step {
	for _, step := range s.Steps {
		if step.Name == name {
			return step
		}
	}
	return nil
}

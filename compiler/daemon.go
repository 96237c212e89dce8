package compiler

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/drone/runner-go/manifest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

const (
	// daemonSocketName is the volume of the docker socket that stands in for a daemon's,
	// daemonCertsName that of its certificates. The linter reserves both.
	daemonSocketName = "_docker_daemon"
	daemonCertsName  = "_docker_certs"
	// portPlain and portTLS are Docker's (IANA).
	portPlain, portTLS = 2375, 2376
	// certsVariable says where docker:dind puts its certificates, and empty that it makes none
	// (https://hub.docker.com/_/docker, "TLS"); defaultCerts is its own value there.
	certsVariable = "DOCKER_TLS_CERTDIR"
	defaultCerts  = "/certs"
)

// overlay is what the guard puts into a volume that a docker daemon would have written to: volume,
// of the engine's, at a path in it.
type overlay struct{ volume, rel string }

// daemons are what the pipeline has of docker daemons of its own, for which the run's guard stands
// in.
type daemons struct {
	// steps that would start one, by their name.
	steps map[string]*resource.DockerDaemon
	// overlays of the volumes that the steps share with it, by the volume's name.
	overlays map[string][]overlay
}

// findDaemons finds the docker daemons among the services and the detached steps.
func (b *builder) findDaemons() {
	b.daemons = daemons{steps: map[string]*resource.DockerDaemon{}, overlays: map[string][]overlay{}}
	if !b.args.Docker {
		return
	}
	p := b.args.Pipeline
	for i, s := range slices.Concat(p.Services, p.Steps) {
		service := i < len(p.Services)
		d := s.DockerDaemon(service)
		if d == nil || b.args.NeverRuns(s, service) {
			continue
		}
		b.daemons.steps[s.Name] = d
	}
}

// ofDaemonsAlone reports whether the volume is mounted, and by nothing but docker daemons: what
// they keep below /var/lib/docker, or want of the machine.
func (b *builder) ofDaemonsAlone(volume string) bool { return b.mounted(volume) && !b.mounts[volume] }

// addDaemonVolumes adds what the guard puts in the place of the daemons, and finds what they would
// write into volumes of the pipeline.
func (b *builder) addDaemonVolumes() {
	if len(b.daemons.steps) == 0 {
		return
	}
	for _, s := range slices.Concat(b.args.Pipeline.Services, b.args.Pipeline.Steps) {
		d := b.daemons.steps[s.Name]
		if d == nil {
			continue
		}
		for _, m := range s.Volumes {
			for _, socket := range d.Sockets {
				if rel, below := inFolder(m.Path, socket); below && rel != "" {
					b.overlay(m.Name, overlay{daemonSocketName, rel})
				}
			}
			if certs := b.certsOf(s); certs != "" {
				if rel, below := inFolder(m.Path, path.Join(certs, "client")); below {
					b.overlay(m.Name, overlay{daemonCertsName, rel})
				}
			}
		}
	}
	b.addVolume(&spec.Volume{Name: daemonSocketName, Kind: spec.VolumeSocket})
	b.addVolume(&spec.Volume{Name: daemonCertsName, Kind: spec.VolumeCerts})
}

// overlay adds to a volume what isn't there already. A volume that is a docker socket, or has one,
// needs nothing.
func (b *builder) overlay(volume string, o overlay) {
	v := b.volumes[volume]
	if v == nil || v.Kind == spec.VolumeSocket || v.Kind == spec.VolumeSocketDir ||
		slices.Contains(b.daemons.overlays[volume], o) {
		return
	}
	b.daemons.overlays[volume] = append(b.daemons.overlays[volume], o)
}

// certsOf is the folder in which the daemon would make certificates, "" for none.
func (b *builder) certsOf(s *resource.Step) string {
	for _, env := range []map[string]*manifest.Variable{s.Environment, b.args.Pipeline.Environment} {
		if v, set := env[certsVariable]; set && (v == nil || v.Secret == "") {
			if v == nil {
				return ""
			}
			return v.Value
		}
	}
	return defaultCerts
}

// inFolder is the path of p in dir, for paths of a container whose /var/run is /run, as in Docker's
// images.
func inFolder(dir, p string) (rel string, below bool) {
	dir, p = realRun(dir), realRun(p)
	if dir == p {
		return "", true
	}
	return strings.CutPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func realRun(p string) string {
	p = path.Clean(p)
	if p == "/var/run" || strings.HasPrefix(p, "/var/run/") {
		return strings.TrimPrefix(p, "/var")
	}
	return p
}

// standIn makes the step one whose docker daemon the guard stands in for, and tells its log where.
// It mounts nothing, as there is no container.
func (b *builder) standIn(dst *spec.Step, src *resource.Step) {
	d := b.daemons.steps[src.Name]
	dst.Daemon = &spec.Daemon{Ports: append([]int{portPlain}, d.Ports...), TLSPorts: []int{portTLS}}
	note := fmt.Sprintf("no docker daemon is started here: the pipeline's own answers in its place, at %[1]s:%[2]d, "+
		"with TLS at %[1]s:%[3]d", src.Name, portPlain, portTLS)
	for _, m := range src.Volumes {
		for _, o := range b.daemons.overlays[m.Name] {
			if o.volume == daemonSocketName {
				note += fmt.Sprintf(", at %s of the volume %s", o.rel, m.Name)
			}
		}
	}
	if len(d.Options) > 0 {
		note += "; without effect: " + strings.Join(d.Options, " ")
	}
	dst.Notes = append(dst.Notes, note)
}

// setOverlays completes the mounts of a step with what a docker daemon would have put there. taken
// are the paths of its mounts.
func (b *builder) setOverlays(dst *spec.Step, taken map[string]bool) {
	socket := false
	for i, m := range slices.Clone(dst.Mounts) {
		for _, o := range b.daemons.overlays[m.Volume] {
			socket = socket || o.volume == daemonSocketName
			switch at := path.Join(m.Path, o.rel); {
			case o.rel == "": // the volume is for the certificates alone
				dst.Mounts[i].Volume = o.volume
			case !taken[at]:
				taken[at] = true
				dst.Mounts = append(dst.Mounts, spec.Mount{Volume: o.volume, Path: at})
			}
		}
	}
	// `buildx create` may be told of a socket elsewhere, but builds by the builder that is there
	// (see dockerVariables), whose socket is at the usual place.
	usual := func(m spec.Mount) bool { _, there := inFolder(m.Path, socketPath); return there }
	if socket && !slices.ContainsFunc(dst.Mounts, usual) {
		taken[socketPath] = true
		dst.Mounts = append(dst.Mounts, spec.Mount{Volume: daemonSocketName, Path: socketPath})
	}
}

// hasDocker reports whether the step, which mounts what it does, has a docker socket, or one of the
// pipeline's daemons within reach.
func (b *builder) hasDocker(dst *spec.Step) bool {
	return len(b.daemons.steps) > 0 || slices.ContainsFunc(dst.Mounts, func(m spec.Mount) bool {
		v := b.volumes[m.Volume]
		return v != nil && slices.Contains([]spec.VolumeKind{spec.VolumeSocket, spec.VolumeSocketDir,
			spec.VolumePluginSocket}, v.Kind)
	})
}

// dockerVariables are what a step with Docker has unless it sets them.
var dockerVariables = []struct{ name, value string }{
	// The builder of `docker buildx`, over what `buildx create --use` chose
	// (https://docs.docker.com/build/building/variables/): what that makes is a container with a
	// builder of its
	// own, privileged and without the cache.
	{"BUILDX_BUILDER", "default"},
	// Where Testcontainers finds published ports. Without it a second process that reuses Ryuk
	// looks where nothing is published.
	{"TESTCONTAINERS_HOST_OVERRIDE", "host.docker.internal"},
	// Ryuk needs no privilege here; Testcontainers for Node has a name of its own for it.
	{"TESTCONTAINERS_RYUK_CONTAINER_PRIVILEGED", "false"},
	{"TESTCONTAINERS_RYUK_PRIVILEGED", "false"},
}

// setDockerVariables has clients of Docker that guess where they are know it.
func setDockerVariables(dst *spec.Step) {
	for _, v := range dockerVariables {
		_, set := dst.Env[v.name]
		secret := slices.ContainsFunc(dst.Secrets, func(s *spec.Secret) bool { return s.Env == v.name })
		if !set && !secret {
			dst.Env[v.name] = v.value
		}
	}
}

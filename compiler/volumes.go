package compiler

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

const (
	// workspaceName is the volume of the workspace. The linter reserves the name.
	workspaceName = "_workspace"
	// socketName is the volume of the docker socket that plugins get. The linter reserves this one
	// too.
	socketName = "_docker_socket"
	// socketPath is where clients look for a docker socket.
	socketPath = "/var/run/docker.sock"
	// defaultBase is where Drone's workspace is.
	defaultBase = "/drone/src"
)

// OperatorVolume is an entry of the operator's volumes: a path of the machine, or the name of a
// volume of the daemon, at a path in every step.
type OperatorVolume struct {
	Source, Target string
	ReadOnly       bool
}

// workspace is where the steps find the sources: full is base and path joined. The volume is
// mounted at base.
type workspace struct{ base, path, full string }

// workspaceOf reads `workspace`. A path alone is the folder in /drone/src when relative, and the
// base when absolute; a relative base is a folder of the root.
func workspaceOf(w resource.Workspace) workspace {
	base, sub := w.Base, w.Path
	if base == "" && path.IsAbs(sub) {
		base, sub = sub, ""
	}
	if base == "" {
		base = defaultBase
	}
	base = path.Join("/", base)
	// Rooted before it is joined, so that no .. leads out of the base.
	sub = strings.TrimPrefix(path.Join("/", sub), "/")
	return workspace{base: base, path: sub, full: path.Join(base, sub)}
}

// below is dir/p, or p when it is absolute.
func below(dir, p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(dir, p)
}

// workspaceVolume is what a docker client names the workspace by: its volume, or the folder that it
// is bound from.
func (b *builder) workspaceVolume() string {
	if b.WorkspaceSource != "" {
		return b.WorkspaceSource
	}
	return b.spec.ID + "-workspace"
}

// addVolumes adds the workspace, the operator's volumes and those that the pipeline declares.
func (b *builder) addVolumes() error {
	ws := &spec.Volume{Name: workspaceName, Kind: spec.VolumeTemp, ID: b.workspaceVolume()}
	if b.WorkspaceSource != "" {
		ws = &spec.Volume{Name: workspaceName, Kind: spec.VolumeBind, Path: b.WorkspaceSource}
	}
	b.addVolume(ws)
	for i, v := range b.Volumes {
		volume, err := operatorVolume(fmt.Sprintf("_operator_%d", i+1), v)
		if err != nil {
			return err
		}
		b.addVolume(volume)
	}
	for i, v := range b.args.Pipeline.Volumes {
		if v == nil {
			return fmt.Errorf("volumes[%d] is empty: write a name and temp or host, or remove the entry", i)
		}
		if v.Name == "" {
			return fmt.Errorf("volumes[%d] has no name: the steps mount it by that", i)
		}
		if isReserved(v.Name) {
			return fmt.Errorf("volume %q: the name is the runner's own: choose another one", v.Name)
		}
		if v.Temp == nil && v.Host == nil || b.volumes[v.Name] != nil {
			// A volume without a source (a step in the wrong list, a kubernetes volume), or the
			// second one of a name: as on Drone's runner it is as if it weren't there, and the
			// linter warns.
			continue
		}
		if !b.mounted(v.Name) || b.ofDaemonsAlone(v.Name) {
			continue // no container has it
		}
		volume, err := b.volume(v, fmt.Sprintf("%s-volume-%d", b.spec.ID, i+1))
		if err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
		b.addVolume(volume)
	}
	return nil
}

// operatorVolume takes the operator at their word, except that a docker socket is the guard's.
func operatorVolume(name string, v OperatorVolume) (*spec.Volume, error) {
	out := &spec.Volume{Name: name, ReadOnly: v.ReadOnly}
	switch {
	case v.Source == "" || !path.IsAbs(v.Target):
		return nil, fmt.Errorf("the runner's volume %q:%q: write a source and an absolute path, as in "+
			"DRONE_RUNNER_VOLUMES=/certs:/certs:ro", v.Source, v.Target)
	case !path.IsAbs(v.Source):
		out.Kind, out.ID = spec.VolumePersistent, v.Source
		return out, nil
	}
	switch resource.ClassifyHostPath(v.Source) {
	case resource.PathSocket:
		out.Kind = spec.VolumeSocket
	case resource.PathSocketDir:
		out.Kind = spec.VolumeSocketDir
	default:
		out.Kind, out.Path = spec.VolumeBind, path.Clean(v.Source)
	}
	return out, nil
}

// isReserved reports whether a pipeline may not use the name of a volume, since the runner does.
func isReserved(name string) bool {
	return slices.Contains([]string{workspaceName, socketName, daemonSocketName, daemonCertsName}, name)
}

// volume maps what a pipeline declares, which has a source; where it has two, temp counts. id names
// the volume in the daemon if it is one that goes with the run.
func (b *builder) volume(v *resource.Volume, id string) (*spec.Volume, error) {
	out := &spec.Volume{Name: v.Name}
	switch {
	case v.Temp != nil && v.Temp.Medium == "memory":
		if v.Temp.SizeLimit < 0 {
			return nil, fmt.Errorf("temp.size_limit: %d is negative: write a size such as 64mb, or leave it out",
				int64(v.Temp.SizeLimit))
		}
		out.Kind, out.ID, out.SizeLimit = spec.VolumeMemory, id, int64(v.Temp.SizeLimit)
	case v.Temp != nil:
		out.Kind, out.ID = spec.VolumeTemp, id
	default:
		return out, b.setHostVolume(out, v.Host.Path)
	}
	return out, nil
}

// setHostVolume maps a host path, which here is never a path of the host: the docker socket is the
// run's own, what the operator allowed is bound, and anything else that does no harm becomes a
// volume that is kept from build to build.
func (b *builder) setHostVolume(out *spec.Volume, hostPath string) error {
	kind := resource.ClassifyHostPath(hostPath)
	clean := resource.CleanHostPath(hostPath)
	switch {
	case kind == resource.PathSocket:
		out.Kind = spec.VolumeSocket
	case kind == resource.PathSocketDir:
		out.Kind = spec.VolumeSocketDir
	case resource.HostPathAllowed(hostPath, b.HostPaths):
		// By its spelling. Whether a symbolic link leads out again is for the engine to find out,
		// where the folder is.
		out.Kind, out.Path, out.Root = spec.VolumeBind, clean, b.rootOf(hostPath)
	case kind == resource.PathForbidden:
		return fmt.Errorf("host.path: %q can't be mounted: write temp: {} for a volume of the pipeline, or a path "+
			"such as /cache/NAME for one that is kept", hostPath)
	default:
		out.Kind, out.Path, out.Owner = spec.VolumePersistent, clean, b.ownerOf(hostPath)
		out.ID = persistentID(out.Owner, clean)
	}
	return nil
}

// ownerOf is whose stages have the volume of a host path. What the stages of a fork's pull request
// write is never read by those of the repository: anybody may open one.
func (b *builder) ownerOf(hostPath string) string {
	switch {
	case fromFork(b.args):
		return b.args.Repo.Slug + " (forks)"
	case resource.HostPathAllowed(hostPath, b.SharedPaths):
		return ""
	}
	return b.args.Repo.Slug
}

// rootOf is the operator's folder that a host path is in.
func (b *builder) rootOf(hostPath string) string {
	for _, root := range b.HostPaths {
		if resource.HostPathAllowed(hostPath, []string{root}) {
			return resource.CleanHostPath(root)
		}
	}
	return ""
}

// persistentID names the volume that stands for a path: the same for every build of its owner,
// readable, and different for paths that read alike.
func persistentID(owner, clean string) string {
	readable := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, strings.Trim(clean, "/"))
	sum := sha256.Sum256([]byte(owner + "\x00" + clean))
	return fmt.Sprintf("drone-cache-%.32s-%s", readable, hex.EncodeToString(sum[:6]))
}

// addVolume adds a volume to the spec.
func (b *builder) addVolume(v *spec.Volume) {
	b.spec.Volumes = append(b.spec.Volumes, v)
	b.volumes[v.Name] = v
}

// findMounts notes which volumes the pipeline has, and which of them are mounted by what.
func (b *builder) findMounts() {
	b.provided, b.mounts = map[string]bool{}, map[string]bool{}
	p := b.args.Pipeline
	for _, v := range p.Volumes {
		if v != nil && (v.Temp != nil || v.Host != nil) {
			b.provided[v.Name] = true
		}
	}
	for i, s := range slices.Concat(p.Services, p.Steps) {
		if len(s.Volumes) == 0 || b.args.NeverRuns(s, i < len(p.Services)) {
			continue
		}
		for _, m := range s.Volumes {
			b.mounts[m.Name] = b.mounts[m.Name] || b.daemons.steps[s.Name] == nil
		}
	}
}

// mounted reports whether a step or service that may run mounts the volume.
func (b *builder) mounted(volume string) bool {
	_, ok := b.mounts[volume]
	return ok
}

// setMounts puts the volumes into a step, each at a path of its own: the step's mounts win over the
// workspace, and that over the operator's. As on Drone's runner, a mount of a volume that isn't
// there is ignored; the linter warns.
func (b *builder) setMounts(dst *spec.Step, src *resource.Step) error {
	taken := map[string]bool{}
	for _, m := range src.Volumes {
		switch clean := path.Clean(m.Path); {
		case isReserved(m.Name):
			return fmt.Errorf("volumes: %q is the runner's own volume: mount one of the pipeline's", m.Name)
		case !b.provided[m.Name]:
		case !path.IsAbs(m.Path):
			return fmt.Errorf("volumes: %q is mounted at %q: write an absolute path", m.Name, m.Path)
		case taken[clean]:
			return fmt.Errorf("volumes: two volumes are mounted at %s: give each a path of its own", clean)
		default:
			taken[clean] = true
			dst.Mounts = append(dst.Mounts, spec.Mount{Volume: m.Name, Path: clean})
		}
	}
	b.setOverlays(dst, taken)
	var ours []spec.Mount
	offer := func(name, target string) {
		if target = path.Clean(target); !taken[target] {
			taken[target] = true
			ours = append(ours, spec.Mount{Volume: name, Path: target})
		}
	}
	offer(workspaceName, b.workspace.base)
	for i, v := range b.Volumes {
		offer(fmt.Sprintf("_operator_%d", i+1), v.Target)
	}
	if b.isDockerPlugin(dst) {
		offer(socketName, socketPath)
	}
	dst.Mounts = append(ours, dst.Mounts...)
	return nil
}

package policy

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/mounts"
)

// subpathVersion of the API is the first one in which a part of a volume can be mounted. The daemon
// guards against symbolic links itself.
const subpathVersion = "1.45"

// socketPaths are where a docker socket is by custom; a container that mounts one gets this stage's
// guard.
var socketPaths = []string{"/var/run/docker.sock", "/run/docker.sock"}

// needsCaller reports whether it takes the caller's mounts to say what a bind mount's source means.
func needsCaller(source string) bool { return !slices.Contains(socketPaths, path.Clean(source)) }

// placing translates the mounts of one container for the daemon.
type placing struct {
	stage Stage
	facts facts
	world World
	// newest is set when a mount needs the newest version of the API.
	newest string
}

// fillMounts translates the sources of all mounts, makes mounts of Binds, and of VOLUMEs of the
// container and its image mounts of labelled, anonymous volumes: the daemon would make volumes
// without labels for them.
func (p *placing) fillMounts(ctx context.Context, c *container.CreateRequest) error {
	h := c.HostConfig
	for i := range h.Mounts {
		m := &h.Mounts[i]
		create := m.BindOptions != nil && m.BindOptions.CreateMountpoint
		if err := p.mount(ctx, "HostConfig.Mounts["+strconv.Itoa(i)+"]", m, create); err != nil {
			return err
		}
	}
	for _, s := range h.Binds {
		m, create, err := parseBind("HostConfig.Binds", s)
		if err != nil {
			return err
		}
		if err := p.mount(ctx, "HostConfig.Binds", &m, create); err != nil {
			return err
		}
		h.Mounts = append(h.Mounts, m)
	}
	h.Binds = nil
	p.anonymous(c)
	return nil
}

func (p *placing) mount(ctx context.Context, at string, m *mount.Mount, create bool) error {
	switch m.Type {
	case mount.TypeBind:
		return p.bind(ctx, at, m, create)
	case mount.TypeVolume:
		return p.volume(ctx, m)
	case mount.TypeImage:
		image, err := p.facts.imageOf(m.Source)
		m.Source = image.Ref
		return err
	}
	return nil
}

// anonymous makes mounts of Config.Volumes and of the image's, unless something is mounted there
// already.
func (p *placing) anonymous(c *container.CreateRequest) {
	h := c.HostConfig
	taken := map[string]bool{}
	for _, s := range h.VolumesFrom {
		id, _, _ := strings.Cut(s, ":")
		for _, m := range p.facts.containers[id].Mounts {
			taken[m.Destination] = true
		}
	}
	for _, m := range h.Mounts {
		taken[path.Clean(m.Target)] = true
	}
	for target := range h.Tmpfs {
		taken[path.Clean(target)] = true
	}
	wanted := slices.Sorted(maps.Keys(c.Volumes))
	wanted = append(wanted, slices.Sorted(maps.Keys(p.facts.image.Volumes))...)
	for _, target := range wanted {
		clean := path.Clean(target)
		if taken[clean] ||
			checkTarget("", target) != nil { // an image that declares /sys/fs/cgroup runs without that volume
			continue
		}
		taken[clean] = true
		h.Mounts = append(h.Mounts, mount.Mount{
			Type: mount.TypeVolume, Target: clean, VolumeOptions: &mount.VolumeOptions{Labels: maps.Clone(p.stage.Labels)},
		})
	}
	c.Volumes = nil
}

// volume makes sure that the volume of a mount is one of the stage's, with its labels.
func (p *placing) volume(ctx context.Context, m *mount.Mount) error {
	if m.VolumeOptions == nil {
		m.VolumeOptions = &mount.VolumeOptions{}
	}
	o := m.VolumeOptions
	if o.Labels == nil { // otherwise they have been judged
		o.Labels = maps.Clone(p.stage.Labels)
	}
	if m.Source == "" {
		return nil // the daemon makes an anonymous volume with them
	}
	found, err := p.world.Volume(ctx, m.Source, o.Labels)
	if err != nil {
		return err
	}
	m.Source, o.Labels, o.DriverConfig = found.Name, nil, nil
	if o.Subpath == "" {
		return nil
	}
	return p.place(
		ctx,
		m,
		Mount{Type: "volume", Name: found.Name, Source: found.Mountpoint, RW: true},
		o.Subpath,
		false,
	)
}

// bind translates a path of the calling container into what is mounted there: the volume and the
// path in it. A docker socket is this stage's guard. Everything else would be a path of the
// daemon's machine, which no stage reaches.
func (p *placing) bind(ctx context.Context, at string, m *mount.Mount, create bool) error {
	s := p.stage
	src := path.Clean(m.Source)
	if slices.Contains(socketPaths, src) {
		return bindSocket(at, m, s.Socket)
	}
	mounted, rel, found, err := p.facts.caller.find(src)
	what := at + " of " + apierror.Quote(src)
	switch {
	case err != nil:
		return apierror.Refuse(
			what,
			err.Error(),
			"and it can't be told which step calls; mount the volume by its name",
		)
	case found && s.isSocket(mounted.Source) && rel == "":
		return bindSocket(at, m, mounted.Source)
	case found && s.SocketDir != "" && mounted.Source == s.SocketDir:
		if rel == "" {
			return bindSocket(at, m, s.SocketDir)
		}
	case !found && (src == "/var/run" || src == "/run"):
		return bindSocket(at, m, s.SocketDir)
	}
	if !found {
		return apierror.Refuse(
			what,
			"the path is in the step's own container, or on the docker daemon's machine, and neither can be mounted",
			"only what is below a volume of the step can (the workspace is one): put the files there, or use a named volume and docker cp",
		)
	}
	return p.place(ctx, m, mounted, rel, create)
}

// isSocket reports whether a path of the daemon's machine is the stage's docker socket.
func (s Stage) isSocket(source string) bool {
	return source != "" && (source == s.Socket || s.SocketDir != "" && source == s.SocketDir+"/docker.sock")
}

// bindSocket mounts the stage's own docker socket, or its folder.
func bindSocket(at string, m *mount.Mount, source string) error {
	if source == "" {
		return apierror.Refuse(
			at+" of "+apierror.Quote(m.Source),
			"this stage has no docker socket that could be mounted further",
			"",
		)
	}
	*m = mount.Mount{Type: mount.TypeBind, Source: source, Target: m.Target, ReadOnly: m.ReadOnly}
	return nil
}

// place makes m a mount of what is at rel in a mount of the caller's. What is read-only there stays
// so.
func (p *placing) place(ctx context.Context, m *mount.Mount, from Mount, rel string, create bool) error {
	out := mount.Mount{Target: m.Target, ReadOnly: m.ReadOnly || !from.RW, Consistency: m.Consistency}
	what := "the mount of " + apierror.Quote(m.Source)
	switch from.Type {
	case "volume":
		newest, err := p.world.Version(ctx)
		if err != nil {
			return err
		}
		inside := path.Join(from.Subpath, rel)
		if strings.HasPrefix(path.Clean("/"+inside), "/..") || path.Clean("/"+inside) != "/"+inside && inside != "" {
			return apierror.Refuse(what, "the path leads out of the volume", "")
		}
		out.Type, out.Source = mount.TypeVolume, from.Name
		out.VolumeOptions = &mount.VolumeOptions{NoCopy: true}
		if inside == "" {
			break
		}
		if apiversion.AtLeast(newest, subpathVersion) {
			if _, err := p.world.Part(ctx, Part{Root: from.Source, Path: inside, Create: create}); err != nil {
				return wordPart(what, err)
			}
			out.VolumeOptions.Subpath = inside
			p.newest = newest
			break
		}
		if rel == "" { // an older daemon can't have made a mount with a subpath
			return apierror.Refuse(what, "the docker daemon mounts no parts of volumes", "")
		}
		return p.point(ctx, m, out, what, Part{Root: from.Source, Path: inside, Create: create})
	case "bind":
		out.Type, out.Source = mount.TypeBind, from.Source
		if rel != "" {
			return p.point(ctx, m, out, what, Part{Root: from.Source, Path: rel, Create: create})
		}
	case "tmpfs":
		return apierror.Refuse(
			what,
			"the step's "+from.Destination+" is memory of its own container, which can't be shared",
			"use a volume",
		)
	default:
		return apierror.Refuse(
			what,
			"the guard doesn't know how to share a mount of the type "+apierror.Quote(from.Type),
			"",
		)
	}
	*m = out
	return nil
}

// point mounts a part of a volume by a mount point of the guard's own.
func (p *placing) point(ctx context.Context, m *mount.Mount, out mount.Mount, what string, part Part) error {
	part.Mount = true
	source, err := p.world.Part(ctx, part)
	if err != nil {
		return wordPart(what, err)
	}
	out.Type, out.Source, out.VolumeOptions = mount.TypeBind, source, nil
	*m = out
	return nil
}

// wordPart returns an error about a part of a volume as the client reads it.
func wordPart(what string, err error) error {
	switch {
	case errors.Is(err, mounts.ErrLeadsOut):
		return apierror.Refuse(
			what,
			"a symbolic link on the way leads out of the volume",
			"links inside of it are followed if they are relative",
		)
	case errors.Is(err, fs.ErrNotExist):
		return apierror.BadRequest("%s: bind source path does not exist", what)
	case errors.Is(err, mounts.ErrUnavailable):
		return apierror.Refuse(what, err.Error()+" with this docker daemon", "mount the whole volume")
	}
	return apierror.New(http.StatusInternalServerError, what+" failed: "+err.Error())
}

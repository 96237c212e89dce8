package guard

import (
	"context"
	"maps"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// mountRules are for mount.Mount. What a mount's source means is judged by its type, after them.
var mountRules = []fieldRule{
	{"Type", oneOf("the guard doesn't know this type of mount", "use bind, volume or tmpfs", "bind", "volume", "tmpfs", "image")},
	{"Source", allow},
	{"Target", func(_ *checking, at string, v reflect.Value) error { return checkTarget(at, v.String()) }},
	{"ReadOnly", allow},
	{"Consistency", allow},
	{"BindOptions", sub(bindOptionRules)},
	{"VolumeOptions", sub(volumeOptionRules)},
	{"ImageOptions", sub(imageOptionRules)},
	{"TmpfsOptions", sub(tmpfsOptionRules)},
	{"ClusterOptions", deny("cluster volumes are for swarms", "")},
}

var bindOptionRules = []fieldRule{
	{"Propagation", oneOf("mounts don't propagate out of a build's containers", "", "", "private", "rprivate")},
	{"NonRecursive", allow},
	{"CreateMountpoint", allow},
	{"ReadOnlyNonRecursive", allow},
	{"ReadOnlyForceRecursive", allow},
}

var volumeOptionRules = []fieldRule{
	{"NoCopy", allow},
	{"Labels", allow}, // the owner's come over them
	{"Subpath", allow},
	{"DriverConfig", sub(volumeDriverRules)},
}

var volumeDriverRules = []fieldRule{
	{"Name", oneOf("only the local volume driver may be used", "", "", "local")},
	{"Options", deny("a volume's driver options can mount anything of the machine", "leave them out")},
}

var imageOptionRules = []fieldRule{{"Subpath", allow}} // the daemon keeps it within the image

var tmpfsOptionRules = []fieldRule{{"SizeBytes", allow}, {"Mode", allow}, {"Options", tmpfsOptions}}

// tmpfsOptions are flags of a mount of memory.
func tmpfsOptions(_ *checking, at string, v reflect.Value) error {
	list, _ := v.Interface().([][]string)
	for _, o := range list {
		if len(o) == 0 || !slices.Contains([]string{"exec", "noexec", "suid", "nosuid", "dev", "nodev", "ro", "rw", "uid", "gid", "nr_inodes", "nr_blocks"}, o[0]) {
			return apierror.Refuse(at, "the guard doesn't know one of these options", "")
		}
	}
	return nil
}

// mountsRule judges HostConfig.Mounts, and makes of the container's and its image's VOLUMEs mounts of labelled, anonymous volumes.
func mountsRule(p *checking, at string, v reflect.Value) error {
	cr := p.create
	list := cr.req.HostConfig.Mounts
	for i := range list {
		place := at + "[" + strconv.Itoa(i) + "]"
		m := &list[i]
		if err := p.enforce(place, reflect.ValueOf(m).Elem(), mountRules); err != nil {
			return err
		}
		var err error
		switch m.Type {
		case mount.TypeBind:
			create := m.BindOptions != nil && m.BindOptions.CreateMountpoint
			err = cr.bind(place, m, create)
		case mount.TypeVolume:
			err = cr.volume(m)
		case mount.TypeTmpfs:
			if m.Source != "" {
				err = apierror.BadRequest("%s: a tmpfs has no source", place)
			}
		case mount.TypeImage:
			var img imageFound
			if img, err = p.c.g.findImage(p, m.Source); err == nil {
				m.Source = img.ref
			}
		}
		if err != nil {
			return err
		}
	}
	cr.req.HostConfig.Mounts = list
	return nil
}

// binds turns HostConfig.Binds ("source:target:mode") into mounts.
func binds(p *checking, at string, v reflect.Value) error {
	cr := p.create
	h := cr.req.HostConfig
	for _, s := range h.Binds {
		m, create, err := parseBind(at, s)
		if err != nil {
			return err
		}
		if err := checkTarget(at, m.Target); err != nil {
			return err
		}
		switch m.Type {
		case mount.TypeBind:
			err = cr.bind(at, &m, create)
		default:
			err = cr.volume(&m)
		}
		if err != nil {
			return err
		}
		h.Mounts = append(h.Mounts, m)
	}
	v.SetZero()
	return cr.anonymous()
}

// parseBind reads the short notation of a mount. Its bind sources are created when they are missing, as Docker does.
func parseBind(at, s string) (m mount.Mount, create bool, err error) {
	parts := strings.Split(s, ":")
	malformed := apierror.BadRequest("%s: invalid volume specification: %s", at, apierror.Quote(s))
	mode := ""
	switch len(parts) {
	case 1:
		m.Target = parts[0]
	case 3:
		mode = parts[2]
		fallthrough
	case 2:
		m.Source, m.Target = parts[0], parts[1]
		if m.Source == "" {
			return m, false, malformed
		}
	default:
		return m, false, malformed
	}
	if m.Target == "" {
		return m, false, malformed
	}
	m.Type = mount.TypeVolume
	if strings.HasPrefix(m.Source, "/") {
		m.Type = mount.TypeBind
	}
	nocopy := false
	for flag := range strings.SplitSeq(mode, ",") {
		switch flag {
		case "", "rw", "z", "Z", "consistent", "cached", "delegated", "default", "private", "rprivate": // labels of SELinux are the daemon's
		case "ro":
			m.ReadOnly = true
		case "nocopy":
			nocopy = true
		case "shared", "rshared", "slave", "rslave":
			return m, false, apierror.Refuse(at+" "+apierror.Quote(s), "mounts don't propagate out of a build's containers", "")
		default:
			return m, false, apierror.BadRequest("%s: invalid mode: %s", at, apierror.Quote(flag))
		}
	}
	if m.Type == mount.TypeVolume {
		m.VolumeOptions = &mount.VolumeOptions{NoCopy: nocopy}
	}
	return m, m.Type == mount.TypeBind, nil
}

// volume makes sure that the volume of a mount is one of the build's, with its labels.
func (cr *creation) volume(m *mount.Mount) error {
	if m.VolumeOptions == nil {
		m.VolumeOptions = &mount.VolumeOptions{}
	}
	labels, err := cr.c.g.owned("VolumeOptions.Labels", m.VolumeOptions.Labels)
	if err != nil {
		return err
	}
	o := m.VolumeOptions
	sub := o.Subpath
	if m.Source == "" {
		o.Labels = labels // the daemon makes an anonymous volume with them
		return nil
	}
	found, err := cr.c.g.ensureVolume(cr, m.Source, labels)
	if err != nil {
		return err
	}
	m.Source, o.Labels, o.DriverConfig = found.Name, nil, nil
	if sub == "" {
		return nil
	}
	return cr.place(m, callerMount{Type: "volume", Name: found.Name, Source: found.Mountpoint, RW: true}, sub, false)
}

// ensureVolume is the build's volume of that name, made if there is none.
func (g *Guard) ensureVolume(ctx context.Context, name string, labels map[string]string) (volumeFound, error) {
	if !names.Valid(name) {
		return volumeFound{}, apierror.BadRequest("%s includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed", apierror.Quote(name))
	}
	unlock, err := g.lock.lock(ctx, "volume "+name)
	if err != nil {
		return volumeFound{}, err
	}
	defer unlock()
	found, err := g.own.findVolume(ctx, name, "")
	if !apierror.IsNotFound(err) {
		return found, err
	}
	err = g.up.Call(ctx, http.MethodPost, "/volumes/create", nil, volume.CreateOptions{Name: g.names.Scope(name), Driver: "local", Labels: labels}, &found)
	return found, err
}

// anonymous makes mounts of Config.Volumes and of the image's, unless something is mounted there already: the daemon would make volumes without labels for them.
func (cr *creation) anonymous() error {
	taken := map[string]bool{}
	maps.Copy(taken, cr.from)
	for _, m := range cr.req.HostConfig.Mounts {
		taken[path.Clean(m.Target)] = true
	}
	for target := range cr.req.HostConfig.Tmpfs {
		taken[path.Clean(target)] = true
	}
	for target := range cr.req.Volumes {
		if err := checkTarget("Volumes", target); err != nil {
			return err
		}
	}
	wanted := slices.Sorted(maps.Keys(cr.req.Volumes))
	wanted = append(wanted, slices.Sorted(maps.Keys(cr.image.volumes))...)
	for _, target := range wanted {
		clean := path.Clean(target)
		if taken[clean] || checkTarget("", target) != nil { // an image that declares /sys/fs/cgroup runs without that volume
			continue
		}
		taken[clean] = true
		cr.req.HostConfig.Mounts = append(cr.req.HostConfig.Mounts, mount.Mount{
			Type: mount.TypeVolume, Target: clean, VolumeOptions: &mount.VolumeOptions{Labels: maps.Clone(cr.c.g.labels)},
		})
	}
	cr.req.Volumes = nil
	return nil
}

// socketPaths are where a docker socket is by custom; a container that mounts one gets this build's guard.
var socketPaths = []string{"/var/run/docker.sock", "/run/docker.sock"}

// bind translates a path of the calling container into what is mounted there: the volume and the path in it. A docker socket is this build's guard. Everything else
// would be a path of the daemon's machine, which no build reaches.
func (cr *creation) bind(at string, m *mount.Mount, create bool) error {
	g := cr.c.g
	if !path.IsAbs(m.Source) || strings.ContainsRune(m.Source, 0) {
		return apierror.BadRequest("%s: invalid mount path: %s: mount path must be absolute", at, apierror.Quote(m.Source))
	}
	src := path.Clean(m.Source)
	if slices.Contains(socketPaths, src) {
		return g.bindSocket(at, m, g.opts.Socket)
	}
	if cr.caller == nil {
		who, err := g.callerOf(cr)
		if err != nil {
			return err
		}
		cr.caller = who
	}
	mounted, rel, found, err := cr.caller.find(src)
	what := at + " of " + apierror.Quote(src)
	switch {
	case err != nil:
		return apierror.Refuse(what, err.Error(), "and it can't be told which step calls; mount the volume by its name")
	case found && g.isSocket(mounted.Source) && rel == "":
		return g.bindSocket(at, m, mounted.Source)
	case found && g.opts.SocketDir != "" && mounted.Source == g.opts.SocketDir:
		if rel == "" {
			return g.bindSocket(at, m, g.opts.SocketDir)
		}
	case !found && (src == "/var/run" || src == "/run"):
		return g.bindSocket(at, m, g.opts.SocketDir)
	}
	if !found {
		return apierror.Refuse(what, "the path is in the step's own container, or on the docker daemon's machine, and neither can be mounted",
			"only what is below a volume of the step can (the workspace is one): put the files there, or use a named volume and docker cp")
	}
	return cr.place(m, mounted, rel, create)
}

func (g *Guard) isSocket(source string) bool {
	return source != "" && (source == g.opts.Socket || g.opts.SocketDir != "" && source == g.opts.SocketDir+"/docker.sock")
}

// bindSocket mounts the guard's own socket, or its folder.
func (g *Guard) bindSocket(at string, m *mount.Mount, source string) error {
	if source == "" {
		return apierror.Refuse(at+" of "+apierror.Quote(m.Source), "this build has no docker socket that could be mounted further", "")
	}
	*m = mount.Mount{Type: mount.TypeBind, Source: source, Target: m.Target, ReadOnly: m.ReadOnly}
	return nil
}

// subpathVersion of the API is the first one in which a part of a volume can be mounted. The daemon guards against symbolic links itself.
const subpathVersion = "1.45"

// place makes m a mount of what is at rel in a mount of the caller's. What is read-only there stays so.
func (cr *creation) place(m *mount.Mount, from callerMount, rel string, create bool) error {
	g := cr.c.g
	out := mount.Mount{Target: m.Target, ReadOnly: m.ReadOnly || !from.RW, Consistency: m.Consistency}
	what := "the mount of " + apierror.Quote(m.Source)
	switch from.Type {
	case "volume":
		newest, _, err := g.up.Versions(cr)
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
		if dockerd.AtLeast(newest, subpathVersion) {
			if err := g.mounts.Check(from.Source, inside, create); err != nil {
				return wordFolder(what, err)
			}
			out.VolumeOptions.Subpath = inside
			cr.version = newest
			break
		}
		if rel == "" { // an older daemon can't have made a mount with a subpath
			return apierror.Refuse(what, "the docker daemon mounts no parts of volumes", "")
		}
		return cr.folder(m, out, what, from.Source, inside, create)
	case "bind":
		out.Type, out.Source = mount.TypeBind, from.Source
		if rel != "" {
			return cr.folder(m, out, what, from.Source, rel, create)
		}
	case "tmpfs":
		return apierror.Refuse(what, "the step's "+from.Destination+" is memory of its own container, which can't be shared", "use a volume")
	default:
		return apierror.Refuse(what, "the guard doesn't know how to share a mount of the type "+apierror.Quote(from.Type), "")
	}
	*m = out
	return nil
}

// folder mounts a part of a volume by a mount point of the guard's own.
func (cr *creation) folder(m *mount.Mount, out mount.Mount, what, root, rel string, create bool) error {
	source, err := cr.c.g.mounts.Add(root, rel, create)
	if err != nil {
		return wordFolder(what, err)
	}
	out.Type, out.Source, out.VolumeOptions = mount.TypeBind, source, nil
	*m = out
	return nil
}

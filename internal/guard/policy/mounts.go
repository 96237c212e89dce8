package policy

import (
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/mount"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// mountRules are for mount.Mount.
var mountRules = []fieldRule{
	{
		"Type",
		oneOf(
			"the guard doesn't know this type of mount",
			"use bind, volume or tmpfs",
			"bind",
			"volume",
			"tmpfs",
			"image",
		),
	},
	{"Source", allow}, // what it means depends on the type: source
	{"Target", mountTarget},
	{"ReadOnly", allow},
	{"Consistency", allow},
	{"BindOptions", sub(bindOptionRules)},
	{"VolumeOptions", sub(volumeOptionRules)},
	{"ImageOptions", sub(imageOptionRules)},
	{"TmpfsOptions", sub(tmpfsOptionRules)},
	{"ClusterOptions", deny("cluster volumes are for swarms", "")},
}

const noPropagation = "mounts don't propagate out of a stage's containers"

var bindOptionRules = []fieldRule{
	{"Propagation", oneOf(noPropagation, "", "", "private", "rprivate")},
	{"NonRecursive", allow},
	{"CreateMountpoint", allow},
	{"ReadOnlyNonRecursive", allow},
	{"ReadOnlyForceRecursive", allow},
}

var volumeOptionRules = []fieldRule{
	{"NoCopy", allow},
	{"Labels", ownLabels},
	{"Subpath", allow},
	{"DriverConfig", sub(volumeDriverRules)},
}

var volumeDriverRules = []fieldRule{
	{"Name", oneOf("only the local volume driver may be used", "", "", "local")},
	{"Options", deny("a volume's driver options can mount anything of the machine", "leave them out")},
}

var imageOptionRules = []fieldRule{{"Subpath", allow}} // the daemon keeps it within the image

var tmpfsOptionRules = []fieldRule{{"SizeBytes", allow}, {"Mode", allow}, {"Options", tmpfsOptions}}

// tmpfsFlags of a mount of memory.
var tmpfsFlags = []string{
	"exec",
	"noexec",
	"suid",
	"nosuid",
	"dev",
	"nodev",
	"ro",
	"rw",
	"uid",
	"gid",
	"nr_inodes",
	"nr_blocks",
}

func tmpfsOptions(_ *judgement, at string, v reflect.Value) error {
	list, _ := v.Interface().([][]string)
	for _, o := range list {
		if len(o) == 0 || !slices.Contains(tmpfsFlags, o[0]) {
			return apierror.Refuse(at, "the guard doesn't know one of these options", "")
		}
	}
	return nil
}

// mountsRule judges HostConfig.Mounts.
func mountsRule(j *judgement, at string, v reflect.Value) error {
	list, _ := v.Interface().([]mount.Mount)
	for i := range list {
		place := at + "[" + strconv.Itoa(i) + "]"
		if err := j.judge(place, &list[i], mountRules); err != nil {
			return err
		}
		if err := source(place, list[i]); err != nil {
			return err
		}
	}
	return nil
}

// source judges the source of a mount, as far as it says something by itself.
func source(at string, m mount.Mount) error {
	switch {
	case m.Type == mount.TypeTmpfs && m.Source != "":
		return apierror.BadRequest("%s: a tmpfs has no source", at)
	case m.Type == mount.TypeBind && (!path.IsAbs(m.Source) || strings.ContainsRune(m.Source, 0)):
		return apierror.BadRequest(
			"%s: invalid mount path: %s: mount path must be absolute",
			at,
			apierror.Quote(m.Source),
		)
	case m.Type == mount.TypeVolume && m.Source != "":
		return volumeName(m.Source)
	}
	return nil
}

// volumeName judges the name of a volume.
func volumeName(name string) error {
	if !names.Valid(name) {
		return apierror.BadRequest(
			"%s includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
			apierror.Quote(name),
		)
	}
	return nil
}

// binds judges HostConfig.Binds.
func binds(_ *judgement, at string, v reflect.Value) error {
	list, _ := v.Interface().([]string)
	for _, s := range list {
		m, _, err := parseBind(at, s)
		if err != nil {
			return err
		}
		if err := checkTarget(at, m.Target); err != nil {
			return err
		}
		if err := source(at, m); err != nil {
			return err
		}
	}
	return nil
}

// parseBind reads the short notation of a mount, "source:target:mode". Its bind sources are created
// when they are missing, as Docker does.
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
		case "",
			"rw",
			"z",
			"Z",
			"consistent",
			"cached",
			"delegated",
			"default",
			"private",
			"rprivate": // labels of SELinux are the daemon's
		case "ro":
			m.ReadOnly = true
		case "nocopy":
			nocopy = true
		case "shared", "rshared", "slave", "rslave":
			return m, false, apierror.Refuse(at+" "+apierror.Quote(s), noPropagation, "")
		default:
			return m, false, apierror.BadRequest("%s: invalid mode: %s", at, apierror.Quote(flag))
		}
	}
	if m.Type == mount.TypeVolume {
		m.VolumeOptions = &mount.VolumeOptions{NoCopy: nocopy}
	}
	return m, m.Type == mount.TypeBind, nil
}

// volumesFrom names other containers by their ids.
func volumesFrom(j *judgement, at string, v reflect.Value) error {
	list, _ := v.Interface().([]string)
	for i, s := range list {
		ref, mode, moded := strings.Cut(s, ":")
		if moded && mode != "ro" && mode != "rw" {
			return apierror.Refuse(at+" "+apierror.Quote(s), "the guard knows the modes ro and rw", "")
		}
		other, err := j.facts.container(strings.TrimPrefix(ref, "/"))
		if err != nil {
			return err
		}
		list[i] = other.ID
		if moded {
			list[i] += ":" + mode
		}
	}
	return nil
}

// tmpfs memory is the container's own.
func tmpfs(_ *judgement, at string, v reflect.Value) error {
	m, _ := v.Interface().(map[string]string)
	for _, target := range slices.Sorted(maps.Keys(m)) {
		if err := checkTarget(at, target); err != nil {
			return err
		}
	}
	return nil
}

// volumeTargets judges the places of anonymous volumes.
func volumeTargets(_ *judgement, at string, v reflect.Value) error {
	m, _ := v.Interface().(map[string]struct{})
	for _, target := range slices.Sorted(maps.Keys(m)) {
		if err := checkTarget(at, target); err != nil {
			return err
		}
	}
	return nil
}

func mountTarget(_ *judgement, at string, v reflect.Value) error { return checkTarget(at, v.String()) }

// checkTarget keeps mounts off the kernel's own file systems.
func checkTarget(at, target string) error {
	clean := path.Clean(target)
	if !path.IsAbs(target) || clean == "/" {
		return apierror.BadRequest(
			"%s: invalid mount path: %s: mount path must be absolute, and not the root",
			at,
			apierror.Quote(target),
		)
	}
	for _, kernel := range []string{"/proc", "/sys", "/dev"} {
		if clean == kernel || strings.HasPrefix(clean, kernel+"/") && kernel != "/dev" {
			return apierror.Refuse(at+" at "+apierror.Quote(target), "nothing is mounted over "+kernel, "")
		}
	}
	return nil
}

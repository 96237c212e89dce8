package guard

import (
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

const unprivileged = "a build's containers are unprivileged"

// hostRules are for container.HostConfig: what a container gets of the machine. Their order is that of the work: the network mode is settled before what hangs on it.
var hostRules = []fieldRule{
	{"CapAdd", capAdd}, // before Privileged, which is part of it
	{"Privileged", privileged},
	{"CapDrop", allow},
	{"SecurityOpt", securityOpt},
	{"MaskedPaths", mustBeNull},
	{"ReadonlyPaths", mustBeNull},
	{"Annotations", deny("annotations speak to the daemon's runtime", "use labels")},
	{"Runtime", runtime},
	{"Sysctls", sysctls},
	{"StorageOpt", deny("storage options are the runner's", "")},
	{"VolumeDriver", oneOf("only the local volume driver may be used", "", "", "local")},
	{"Isolation", oneOf("isolation is for Windows", "", "", "default")},
	{"Cgroup", deny("containers have cgroups of their own", "")},

	{"PidMode", joined("the process namespace", false)},
	{"IpcMode", joined("the IPC namespace", false, "", "none", "private", "shareable")},
	{"UTSMode", oneOf("the machine's host name stays its own", "", "")},
	{"UsernsMode", usernsMode},
	{"CgroupnsMode", oneOf("the cgroup namespace of the machine isn't shared", "", "", "private")},

	{"NetworkMode", networkMode},
	{"Links", links},
	{"PortBindings", publish},
	{"PublishAllPorts", publishAll},
	{"ExtraHosts", extraHosts},
	{"DNS", allow},
	{"DNSOptions", allow},
	{"DNSSearch", allow},

	{"VolumesFrom", volumesFrom},
	{"Tmpfs", tmpfs},
	{"Mounts", mountsRule},
	{"Binds", binds}, // after Mounts, whose list it adds to
	{"GroupAdd", groups},

	{"RestartPolicy", restartPolicy},
	{"AutoRemove", allow},
	{"LogConfig", logConfig},
	{"ContainerIDFile", allow}, // the daemon only shows it
	{"ConsoleSize", allow},
	{"ReadonlyRootfs", allow},
	{"Init", allow},
	{"OomScoreAdj", oomScore},
	{"ShmSize", shmSize},
	{"Resources", sub(resourceRules)},
}

// resourceRules are for container.Resources, in creation and in update.
var resourceRules = []fieldRule{
	{"CPUShares", clamp(func(l Limits) int64 { return l.CPUShares })},
	{"Memory", clamp(func(l Limits) int64 { return l.Memory })},
	{"MemorySwap", memorySwap},
	{"MemoryReservation", allow}, // a soft limit, below Memory or refused by the daemon
	{"MemorySwappiness", allow},
	{"NanoCPUs", cpu},
	{"CPUPeriod", allow}, // with CPUQuota: see cpu
	{"CPUQuota", allow},
	{"CPURealtimePeriod", deny("real-time scheduling starves others", "")},
	{"CPURealtimeRuntime", deny("real-time scheduling starves others", "")},
	{"CpusetCpus", cpuset},
	{"CpusetMems", allow},
	{"CgroupParent", cgroupParent},
	{"BlkioWeight", allow}, // a share among the build's own siblings
	{"BlkioWeightDevice", deny("devices are the machine's", "")},
	{"BlkioDeviceReadBps", deny("devices are the machine's", "")},
	{"BlkioDeviceWriteBps", deny("devices are the machine's", "")},
	{"BlkioDeviceReadIOps", deny("devices are the machine's", "")},
	{"BlkioDeviceWriteIOps", deny("devices are the machine's", "")},
	{"Devices", deny("a build's containers get no devices", "")},
	{"DeviceCgroupRules", deny("a build's containers get no devices", "")},
	{"DeviceRequests", deny("a build's containers get no devices", "")},
	{"KernelMemory", kernelMemory},
	{"KernelMemoryTCP", kernelMemory},
	{"OomKillDisable", deny("a container that isn't killed for memory takes the machine's", "")},
	{"PidsLimit", clamp(func(l Limits) int64 { return l.Pids })},
	{"Ulimits", ulimits},
	{"CPUCount", deny("it is for Windows", "use NanoCpus")},
	{"CPUPercent", deny("it is for Windows", "use NanoCpus")},
	{"IOMaximumIOps", deny("it is for Windows", "")},
	{"IOMaximumBandwidth", deny("it is for Windows", "")},
}

// mustBeNull is for the lists of masked and read-only paths: an empty list unmasks everything.
func mustBeNull(_ *checking, at string, v reflect.Value) error {
	if !v.IsNil() {
		return apierror.Refuse(at, "the paths of /proc and /sys that are masked or read-only are the daemon's choice", "leave the field out; an empty list would unmask them")
	}
	return nil
}

// joined is for namespaces that a container may share with another one of the build's. runners tells whether that may be a step.
func joined(what string, runners bool, values ...string) action {
	return func(p *checking, at string, v reflect.Value) error {
		mode := v.String()
		if mode == "" || slices.Contains(values, mode) {
			return nil
		}
		ref, ok := strings.CutPrefix(mode, "container:")
		if !ok {
			return apierror.Refuse(at+" "+apierror.Quote(mode), what+" of the machine isn't shared", "")
		}
		other, err := p.c.g.own.container(p, ref)
		if err != nil {
			return err
		}
		if other.standing != ofClient && !runners {
			return apierror.Refuse(at+" "+apierror.Quote(mode), what+" of a step isn't shared", "")
		}
		v.SetString("container:" + other.ID)
		return nil
	}
}

// groups keeps containers out of the group that owns the daemon's socket.
func groups(p *checking, at string, v reflect.Value) error {
	forbidden := []string{"docker"}
	if info, err := os.Stat(p.c.g.opts.Daemon); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Gid != 0 {
			forbidden = append(forbidden, strconv.FormatUint(uint64(st.Gid), 10))
		}
	}
	list, _ := v.Interface().([]string)
	for _, g := range list {
		if slices.Contains(forbidden, strings.TrimSpace(g)) {
			return apierror.Refuse(at+" "+apierror.Quote(g), "it is the group of the daemon's socket", "")
		}
	}
	return nil
}

// restartPolicy ends with the build: a policy that outlives a restart of the daemon becomes on-failure.
func restartPolicy(p *checking, at string, v reflect.Value) error {
	r := v.Addr().Interface().(*container.RestartPolicy)
	switch r.Name {
	case "", container.RestartPolicyDisabled, container.RestartPolicyOnFailure:
	case container.RestartPolicyAlways, container.RestartPolicyUnlessStopped:
		p.warn(at + " is taken as on-failure: a build's containers end with the build")
		*r = container.RestartPolicy{Name: container.RestartPolicyOnFailure}
	default:
		return apierror.Refuse(at+" "+apierror.Quote(string(r.Name)), "the guard doesn't know this policy", "")
	}
	return nil
}

// logOptions of the drivers that keep logs on the daemon's disk.
var logOptions = []string{"max-size", "max-file", "compress", "mode", "max-buffer-size", "labels", "labels-regex", "env", "env-regex", "tag"}

// logConfig keeps logs local: other drivers send data from the daemon to wherever they're told.
func logConfig(_ *checking, at string, v reflect.Value) error {
	l := v.Addr().Interface().(*container.LogConfig)
	if !slices.Contains([]string{"", "json-file", "local", "none"}, l.Type) {
		return apierror.Refuse(at+".Type "+apierror.Quote(l.Type), "this driver sends data from the daemon", "use json-file, local or none")
	}
	for _, k := range slices.Sorted(maps.Keys(l.Config)) {
		if !slices.Contains(logOptions, k) {
			return apierror.Refuse(at+".Config "+apierror.Quote(k), "the guard doesn't know this option", "")
		}
	}
	return nil
}

func oomScore(_ *checking, at string, v reflect.Value) error {
	if v.Int() < 0 {
		return apierror.Refuse(at, "a container that is spared has others killed in its place", "")
	}
	return nil
}

func shmSize(p *checking, at string, v reflect.Value) error {
	if v.Int() == 0 { // 64 MB, the daemon's default; the limit only cuts
		return nil
	}
	return clamp(func(l Limits) int64 { return l.ShmSize })(p, at, v)
}

// memorySwap follows Memory: together with swap no more than the limit, and no unlimited swap where memory is limited.
func memorySwap(p *checking, at string, v reflect.Value) error {
	l := p.c.g.opts.Limits
	if l.Memory <= 0 {
		return nil
	}
	most := l.MemorySwap
	if most <= 0 {
		most = 2 * l.Memory
	}
	if have := v.Int(); have < 0 || have > most {
		p.warn(at + " is cut down to this runner's limit, " + strconv.FormatInt(most, 10))
		v.SetInt(most)
	}
	return nil
}

// cpu bounds processor time, which Docker takes in two notations.
func cpu(p *checking, at string, v reflect.Value) error {
	l := p.c.g.opts.Limits
	most := l.NanoCPUs
	if most <= 0 && l.CPUQuota > 0 {
		period := l.CPUPeriod
		if period <= 0 {
			period = 100_000
		}
		most = l.CPUQuota * 1e9 / period
	}
	if most <= 0 {
		return nil
	}
	r := resourcesOf(p, v)
	if r != nil && v.Int() == 0 && r.CPUQuota > 0 {
		period := r.CPUPeriod
		if period <= 0 {
			period = 100_000
		}
		if r.CPUQuota*1e9/period <= most {
			return nil
		}
	}
	if r != nil && (r.CPUQuota != 0 || r.CPUPeriod != 0) {
		r.CPUQuota, r.CPUPeriod = 0, 0
		p.warn(at + " is set to this runner's limit of processors in place of CpuQuota and CpuPeriod")
	}
	if have := v.Int(); have <= 0 || have > most {
		v.SetInt(most)
	}
	return nil
}

// resourcesOf is the Resources that are being judged.
func resourcesOf(p *checking, _ reflect.Value) *container.Resources {
	if p.create != nil {
		return &p.create.req.HostConfig.Resources
	}
	return p.update
}

func cpuset(p *checking, _ string, v reflect.Value) error {
	if l := p.c.g.opts.Limits.CPUSet; l != "" {
		v.SetString(l)
	}
	return nil
}

// cgroupParent is the guard's: another parent is out of the build's limits.
func cgroupParent(p *checking, at string, v reflect.Value) error {
	if v.String() != "" {
		return apierror.Refuse(at, "the cgroup of a build's containers is the runner's choice", "")
	}
	if p.create != nil {
		v.SetString(p.c.g.opts.Limits.CgroupParent)
	}
	return nil
}

// tmpfs memory is the container's own.
func tmpfs(p *checking, at string, v reflect.Value) error {
	m, _ := v.Interface().(map[string]string)
	for _, target := range slices.Sorted(maps.Keys(m)) {
		if err := checkTarget(at, target); err != nil {
			return err
		}
	}
	return nil
}

// checkTarget keeps mounts off the kernel's own file systems.
func checkTarget(at, target string) error {
	clean := path.Clean(target)
	if !path.IsAbs(target) || clean == "/" {
		return apierror.BadRequest("%s: invalid mount path: %s: mount path must be absolute, and not the root", at, apierror.Quote(target))
	}
	for _, kernel := range []string{"/proc", "/sys", "/dev"} {
		if clean == kernel || strings.HasPrefix(clean, kernel+"/") && kernel != "/dev" {
			return apierror.Refuse(at+" at "+apierror.Quote(target), "nothing is mounted over "+kernel, "")
		}
	}
	return nil
}

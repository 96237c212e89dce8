package policy

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/google/go-cmp/cmp"
)

// refusals are requests, each with one thing that isn't for a stage, and a part of the error.
var refusals = []struct{ name, body, want string }{
	{"privileged", `{"HostConfig":{"Privileged":true}}`, "HostConfig.Privileged"},
	{"capabilities", `{"HostConfig":{"CapAdd":["SYS_ADMIN"]}}`, "HostConfig.CapAdd"},
	{"a default capability and another", `{"HostConfig":{"CapAdd":["CHOWN","CAP_NET_ADMIN"]}}`, "NET_ADMIN"},
	{"to trace another container's processes", `{"HostConfig":{"CapAdd":["cap_sys_ptrace"],"PidMode":"container:db"}}`, "it would trace that one's"},
	{"a sysctl of another container's network", `{"HostConfig":{"Sysctls":{"net.core.somaxconn":"1"},"NetworkMode":"container:step"}}`, "another container"},
	{"a sysctl of forwarding", `{"HostConfig":{"Sysctls":{"net.ipv4.ip_forward":"1"}}}`, "ip_forward"},
	{"a sysctl with a path", `{"HostConfig":{"Sysctls":{"net.ipv4.tcp_/../../kernel/core_pattern":"1"}}}`, "Sysctls"},
	{"a sysctl with an odd value", `{"HostConfig":{"Sysctls":{"net.core.somaxconn":"1\n2"}}}`, "value"},
	{"to be without labels where there are some", `{"HostConfig":{"SecurityOpt":["label=disable"]}}`, "SecurityOpt"},
	{"a device", `{"HostConfig":{"Devices":[{"PathOnHost":"/dev/sda"}]}}`, "HostConfig.Devices"},
	{"devices by a rule", `{"HostConfig":{"DeviceCgroupRules":["a *:* rwm"]}}`, "DeviceCgroupRules"},
	{"devices by a driver", `{"HostConfig":{"DeviceRequests":[{"Count":-1}]}}`, "DeviceRequests"},
	{"a runtime", `{"HostConfig":{"Runtime":"other"}}`, "HostConfig.Runtime"},
	{"annotations", `{"HostConfig":{"Annotations":{"a":"b"}}}`, "Annotations"},
	{"kernel parameters", `{"HostConfig":{"Sysctls":{"kernel.shmmax":"1"}}}`, "Sysctls"},
	{"a driver of volumes", `{"HostConfig":{"VolumeDriver":"nfs"}}`, "VolumeDriver"},
	{"storage options", `{"HostConfig":{"StorageOpt":{"size":"1"}}}`, "StorageOpt"},
	{"isolation", `{"HostConfig":{"Isolation":"hyperv"}}`, "Isolation"},
	{"a cgroup", `{"HostConfig":{"Cgroup":"container:x"}}`, "HostConfig.Cgroup"},
	{"a cgroup's parent", `{"HostConfig":{"CgroupParent":"/"}}`, "CgroupParent"},
	{"to be spared", `{"HostConfig":{"OomScoreAdj":-1}}`, "OomScoreAdj"},
	{"not to be killed", `{"HostConfig":{"OomKillDisable":true}}`, "OomKillDisable"},
	{"real time", `{"HostConfig":{"CpuRealtimePeriod":1}}`, "CpuRealtimePeriod"},
	{"a device's weight", `{"HostConfig":{"BlkioWeightDevice":[{"Path":"/dev/sda","Weight":1}]}}`, "BlkioWeightDevice"},
	{"the docker group", `{"HostConfig":{"GroupAdd":["docker"]}}`, "GroupAdd"},
	{"the socket's group", `{"HostConfig":{"GroupAdd":[" 998"]}}`, "GroupAdd"},
	{"seccomp", `{"HostConfig":{"SecurityOpt":["seccomp=unconfined"]}}`, "SecurityOpt"},
	{"privileges to gain", `{"HostConfig":{"SecurityOpt":["no-new-privileges=false"]}}`, "SecurityOpt"},
	{"no masked paths", `{"HostConfig":{"MaskedPaths":[]}}`, "MaskedPaths"},
	{"no read-only paths", `{"HostConfig":{"ReadonlyPaths":[]}}`, "ReadonlyPaths"},
	{"the machine's processes", `{"HostConfig":{"PidMode":"host"}}`, "PidMode"},
	{"a step's processes", `{"HostConfig":{"PidMode":"container:step"}}`, "of a step"},
	{"another's processes", `{"HostConfig":{"PidMode":"container:theirs"}}`, "no such thing: theirs"},
	{"the machine's IPC", `{"HostConfig":{"IpcMode":"host"}}`, "IpcMode"},
	{"a step's IPC", `{"HostConfig":{"IpcMode":"container:step"}}`, "of a step"},
	{"the machine's name", `{"HostConfig":{"UTSMode":"host"}}`, "UTSMode"},
	{"the machine's users", `{"HostConfig":{"UsernsMode":"host"}}`, "UsernsMode"},
	{"the machine's cgroups", `{"HostConfig":{"CgroupnsMode":"host"}}`, "CgroupnsMode"},
	{"the machine's network", `{"HostConfig":{"NetworkMode":"host"}}`, "NetworkMode"},
	{"an endpoint's driver options", `{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"DriverOpts":{"a":"b"}}}}}`, "DriverOpts"},
	{"an endpoint without a network", `{"HostConfig":{"NetworkMode":"none"},"NetworkingConfig":{"EndpointsConfig":{"inner":{}}}}`, "conflicting options"},
	{"a network twice", `{"NetworkingConfig":{"EndpointsConfig":{"bridge":{},"default":{}}}}`, "given twice"},
	{"a link to another's", `{"HostConfig":{"Links":["theirs:db"]}}`, "could not get container for theirs: No such container: theirs"},
	{"a link without a name", `{"HostConfig":{"Links":["db:../x"]}}`, "the alias is no name"},
	{"a host without an address", `{"HostConfig":{"ExtraHosts":["a"]}}`, "add-host"},
	{"a host of nonsense", `{"HostConfig":{"ExtraHosts":["a:b"]}}`, "invalid IP address"},
	{"a malformed port", `{"ExposedPorts":{"x/tcp":{}},"HostConfig":{"PublishAllPorts":true}}`, "malformed"},
	{"volumes of another's", `{"HostConfig":{"VolumesFrom":["theirs"]}}`, "no such thing: theirs"},
	{"volumes in an unknown mode", `{"HostConfig":{"VolumesFrom":["db:z"]}}`, "ro and rw"},
	{"the root", `{"HostConfig":{"Binds":["/:/host"]}}`, "is refused"},
	{"a folder of the machine's", `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/etc","Target":"/a"}]}}`, "is refused"},
	{"a socket of the machine's", `{"HostConfig":{"Binds":["/run/containerd/containerd.sock:/s"]}}`, "is refused"},
	{"what is above a volume", `{"HostConfig":{"Binds":["/drone:/a"]}}`, "is refused"},
	{"a part that leads out", `{"HostConfig":{"Binds":["/drone/src/out:/a"]}}`, "leads out of the volume"},
	{"a part that isn't there", `{"HostConfig":{"Binds":["/drone/src/none:/a"]}}`, "does not exist"},
	{"a part that can't be mounted", `{"HostConfig":{"Binds":["/drone/src/old:/a"]}}`, "mount the whole volume"},
	{"memory of a step", `{"HostConfig":{"Binds":["/mem:/a"]}}`, "memory of its own container"},
	{"a pipe of a step", `{"HostConfig":{"Binds":["/pipe:/a"]}}`, "doesn't know how to share"},
	{"a relative path", `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"a","Target":"/a"}]}}`, "must be absolute"},
	{"a volume with a path for a name", `{"HostConfig":{"Binds":["../x:/a"]}}`, "invalid characters"},
	{"propagation", `{"HostConfig":{"Binds":["/drone/src:/a:rshared"]}}`, "propagate"},
	{"propagation of a mount", `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/drone/src","Target":"/a","BindOptions":{"Propagation":"shared"}}]}}`, "propagate"},
	{"an unknown mode", `{"HostConfig":{"Binds":["data:/a:odd"]}}`, "invalid mode"},
	{"too many parts", `{"HostConfig":{"Binds":["a:/b:ro:x"]}}`, "invalid volume specification"},
	{"a mount over /proc", `{"HostConfig":{"Binds":["data:/proc/self"]}}`, "/proc"},
	{"memory over /sys", `{"HostConfig":{"Tmpfs":{"/sys":""}}}`, "/sys"},
	{"a volume over /dev", `{"Volumes":{"/dev":{}}}`, "/dev"},
	{"a mount over the root", `{"HostConfig":{"Mounts":[{"Type":"volume","Source":"data","Target":"/"}]}}`, "not the root"},
	{"a mount's driver", `{"HostConfig":{"Mounts":[{"Type":"volume","Target":"/a","VolumeOptions":{"DriverConfig":{"Name":"nfs"}}}]}}`, "DriverConfig.Name"},
	{"a mount's driver options", `{"HostConfig":{"Mounts":[{"Type":"volume","Target":"/a","VolumeOptions":{"DriverConfig":{"Options":{"o":"bind"}}}}]}}`, "DriverConfig.Options"},
	{"a mount's labels", `{"HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/a","VolumeOptions":{"Labels":{"io.drone-runner-sysbox.persistent":"x"}}}]}}`, "the runner's own"},
	{"a mount of another kind", `{"HostConfig":{"Mounts":[{"Type":"npipe","Source":"x","Target":"/a"}]}}`, "Type"},
	{"memory with a source", `{"HostConfig":{"Mounts":[{"Type":"tmpfs","Source":"x","Target":"/a"}]}}`, "no source"},
	{"options of memory", `{"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/a","TmpfsOptions":{"Options":[["odd"]]}}]}}`, "Options"},
	{"another's image", `{"HostConfig":{"Mounts":[{"Type":"image","Source":"theirs","Target":"/a"}]}}`, "no such thing: theirs"},
	{"a log driver", `{"HostConfig":{"LogConfig":{"Type":"syslog"}}}`, "LogConfig"},
	{"a log option", `{"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"path":"/x"}}}}`, "LogConfig"},
	{"a restart policy", `{"HostConfig":{"RestartPolicy":{"Name":"forever"}}}`, "RestartPolicy"},
	{"a null limit", `{"HostConfig":{"Ulimits":[null]}}`, "is null"},
	{"a label of the runner's", `{"Labels":{"io.drone-runner-sysbox.persistent":"/x"}}`, "the runner's own"},
	{"another owner", `{"Labels":{"` + testOwner + `":"drone-xyz"}}`, "the runner's own"},
	{"another's image to run", `{"Image":"theirs"}`, "no such thing: theirs"},
}

func TestCreateRefuses(t *testing.T) {
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			w := newMemory()
			_, _, err := create(t, w, tt.body)
			refused(t, err, tt.want)
			if len(w.made)+len(w.mounted) > 0 {
				t.Errorf("for a request that is refused, %v and %v were made", w.made, w.mounted)
			}
		})
	}
}

// A volume is made for no request that is refused for another reason.
func TestNothingIsMadeForARefusal(t *testing.T) {
	w := newMemory()
	_, _, err := create(t, w, `{"HostConfig":{"Binds":["data:/a"],"Links":["theirs:x"],"LogConfig":{"Type":"syslog"}}}`)
	if err == nil || len(w.made) > 0 {
		t.Errorf("%v was made, error %v", w.made, err)
	}
}

// plans are requests, and what the daemon is asked for.
var plans = []struct {
	name, body string
	check      func(r *container.CreateRequest) (got, want any)
}{
	{"the image", `{}`, func(r *container.CreateRequest) (any, any) { return r.Image, "real/img" }},
	{"labels, those of the image's that are the runner's blank", `{"Labels":{"a":"1"}}`, func(r *container.CreateRequest) (any, any) {
		return r.Labels, map[string]string{"a": "1", testOwner: testNetwork, "io.drone-runner-sysbox.guard": ""}
	}},
	{"the stage's network in place of the default", `{}`, func(r *container.CreateRequest) (any, any) {
		return []any{r.HostConfig.NetworkMode, r.NetworkingConfig.EndpointsConfig[testNetwork].Aliases}, []any{container.NetworkMode(testNetwork), []string{"x"}}
	}},
	{"a network of the client's", `{"HostConfig":{"NetworkMode":"inner"}}`, func(r *container.CreateRequest) (any, any) {
		return []any{r.HostConfig.NetworkMode, r.NetworkingConfig.EndpointsConfig["drone-abc.inner"].Aliases}, []any{container.NetworkMode("drone-abc.inner"), []string{"x"}}
	}},
	// What isn't there, or is another's, has the name of the client's own, which may come: the
	// daemon misses it when the container is started.
	{"another's network", `{"HostConfig":{"NetworkMode":"theirs"}}`, func(r *container.CreateRequest) (any, any) {
		return []any{r.HostConfig.NetworkMode, r.NetworkingConfig.EndpointsConfig["drone-abc.theirs"].Aliases}, []any{container.NetworkMode("drone-abc.theirs"), []string{"x"}}
	}},
	{"another's network namespace", `{"HostConfig":{"NetworkMode":"container:theirs"}}`, func(r *container.CreateRequest) (any, any) {
		return r.HostConfig.NetworkMode, container.NetworkMode("container:drone-abc.theirs")
	}},
	{"an endpoint on another's network", `{"HostConfig":{"NetworkMode":"theirs"},"NetworkingConfig":{"EndpointsConfig":{"theirs":{"Aliases":["a"]}}}}`, func(r *container.CreateRequest) (any, any) {
		return r.NetworkingConfig.EndpointsConfig["drone-abc.theirs"].Aliases, []string{"a", "x"}
	}},
	{"an endpoint's link to another's", `{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"Links":["theirs:x"]}}}}`, func(r *container.CreateRequest) (any, any) {
		return r.NetworkingConfig.EndpointsConfig[testNetwork].Links, []string{"drone-abc.theirs:x"}
	}},
	{"a step's network namespace", `{"HostConfig":{"NetworkMode":"container:step"}}`, func(r *container.CreateRequest) (any, any) {
		return []any{r.HostConfig.NetworkMode, len(r.HostConfig.ExtraHosts)}, []any{container.NetworkMode("container:id-step"), 0}
	}},
	{"a sibling's processes", `{"HostConfig":{"PidMode":"container:db"}}`, func(r *container.CreateRequest) (any, any) {
		return r.HostConfig.PidMode, container.PidMode("container:id-db")
	}},
	{"links on the stage's network", `{"HostConfig":{"Links":["/db:sql"]}}`, func(r *container.CreateRequest) (any, any) {
		return []any{len(r.HostConfig.Links), r.NetworkingConfig.EndpointsConfig[testNetwork].Links}, []any{0, []string{"drone-abc.db:sql"}}
	}},
	{"ports on the gateway", `{"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"1"}],"81/tcp":[]}}}`, func(r *container.CreateRequest) (any, any) {
		b, _ := json.Marshal(r.HostConfig.PortBindings)
		return string(b), `{"80/tcp":[{"HostIp":"172.20.0.1","HostPort":"1"}],"81/tcp":[{"HostIp":"172.20.0.1","HostPort":""}]}`
	}},
	{"all ports on the gateway", `{"ExposedPorts":{"80-81/tcp":{}},"HostConfig":{"PublishAllPorts":true}}`, func(r *container.CreateRequest) (any, any) {
		var ports []string
		for p, list := range r.HostConfig.PortBindings {
			ports = append(ports, string(p)+" "+list[0].HostIP)
		}
		slices.Sort(ports)
		return []any{ports, r.HostConfig.PublishAllPorts}, []any{[]string{"5432/tcp 172.20.0.1", "80/tcp 172.20.0.1", "81/tcp 172.20.0.1"}, false}
	}},
	{"hosts", `{"HostConfig":{"ExtraHosts":["me:host-gateway","docker=1.2.3.4"]}}`, func(r *container.CreateRequest) (any, any) {
		return r.HostConfig.ExtraHosts, []string{"me:172.20.0.1", "docker:1.2.3.4", "host.docker.internal:172.20.0.1"}
	}},
	{"a new volume", `{"HostConfig":{"Binds":["new:/d:ro"]}}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/d"), "volume drone-abc.new ro" }},
	{"a part of a volume", `{"HostConfig":{"Mounts":[{"Type":"volume","Source":"new","Target":"/d","VolumeOptions":{"Subpath":"a/b"}}]}}`, func(r *container.CreateRequest) (any, any) {
		return mountAt(r, "/d"), "volume drone-abc.new nocopy sub=a/b"
	}},
	{"an anonymous volume", `{"HostConfig":{"Binds":["/d"]}}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/d"), "volume  labelled" }},
	{"VOLUME", `{"Volumes":{"/d":{}}}`, func(r *container.CreateRequest) (any, any) {
		return []any{mountAt(r, "/d"), len(r.Volumes)}, []any{"volume  labelled", 0}
	}},
	{"the image's VOLUME", `{}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/var/lib/db"), "volume  labelled" }},
	{"the image's VOLUME, taken", `{"HostConfig":{"Tmpfs":{"/var/lib/db/":""}}}`, func(r *container.CreateRequest) (any, any) { return len(r.HostConfig.Mounts), 0 }},
	{"the workspace", `{"HostConfig":{"Binds":["/drone/src:/src"]}}`, func(r *container.CreateRequest) (any, any) {
		return mountAt(r, "/src"), "volume drone-abc-workspace nocopy"
	}},
	{"a part of it", `{"HostConfig":{"Binds":["/drone/src/a/../b:/src"]}}`, func(r *container.CreateRequest) (any, any) {
		return mountAt(r, "/src"), "volume drone-abc-workspace nocopy sub=b"
	}},
	{"what is read-only stays so", `{"HostConfig":{"Binds":["/cache/npm:/c:rw"]}}`, func(r *container.CreateRequest) (any, any) {
		return mountAt(r, "/c"), "volume cache ro nocopy sub=npm"
	}},
	{"a part of a bind", `{"HostConfig":{"Binds":["/data/a:/d"]}}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/d"), "bind /points/0" }},
	{"the socket by custom", `{"HostConfig":{"Binds":["/run/../var/run/docker.sock:/s"]}}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/s"), "bind /guard.sock" }},
	{"the socket where the step has it", `{"HostConfig":{"Binds":["/docker.sock:/s"]}}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/s"), "bind /guard.sock" }},
	{"the socket's folder", `{"HostConfig":{"Binds":["/sockets:/s"]}}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/s"), "bind /guard.d" }},
	{"/var/run", `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/var/run","Target":"/s"}]}}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/s"), "bind /guard.d" }},
	{"an image", `{"HostConfig":{"Mounts":[{"Type":"image","Source":"img","Target":"/i"}]}}`, func(r *container.CreateRequest) (any, any) { return mountAt(r, "/i"), "image real/img" }},
	{"volumes from a step", `{"HostConfig":{"VolumesFrom":["step:ro"]}}`, func(r *container.CreateRequest) (any, any) { return r.HostConfig.VolumesFrom, []string{"id-step:ro"} }},
	{"what says nothing", `{"HostConfig":{"CapAdd":[],"Devices":[],"OomKillDisable":false,"SecurityOpt":["no-new-privileges"]}}`, func(r *container.CreateRequest) (any, any) {
		return []any{r.HostConfig.CapAdd == nil, r.HostConfig.Devices == nil}, []any{true, true}
	}},
	{"limits", `{"HostConfig":{"Memory":4294967296,"NanoCpus":8000000000,"PidsLimit":-1,"ShmSize":4194304,"MemorySwap":-1,"Ulimits":[{"Name":"nofile","Soft":5000,"Hard":-1}]}}`, func(r *container.CreateRequest) (any, any) {
		h := r.HostConfig
		return []any{h.Memory, h.NanoCPUs, *h.PidsLimit, h.ShmSize, h.MemorySwap, h.Ulimits[0].Hard, h.Ulimits[0].Soft, h.CgroupParent, h.CpusetCpus},
			[]any{int64(1 << 30), int64(2e9), int64(100), int64(1 << 20), int64(2 << 30), int64(1024), int64(1024), "/stage", "0-1"}
	}},
	{"a step's turn in shortage of memory", `{"HostConfig":{"OomScoreAdj":3}}`, func(r *container.CreateRequest) (any, any) { return r.HostConfig.OomScoreAdj, 500 }},
	{"to be killed before others", `{"HostConfig":{"OomScoreAdj":900}}`, func(r *container.CreateRequest) (any, any) { return r.HostConfig.OomScoreAdj, 900 }},
	{"limits below", `{"HostConfig":{"Memory":4194304,"CpuPeriod":100000,"CpuQuota":50000,"PidsLimit":5}}`, func(r *container.CreateRequest) (any, any) {
		h := r.HostConfig
		return []any{h.Memory, h.CPUQuota, *h.PidsLimit}, []any{int64(4 << 20), int64(50000), int64(5)}
	}},
	{"more processors in the other notation", `{"HostConfig":{"CpuPeriod":1000,"CpuQuota":64000}}`, func(r *container.CreateRequest) (any, any) {
		h := r.HostConfig
		return []any{h.NanoCPUs, h.CPUQuota, h.CPUPeriod}, []any{int64(2e9), int64(0), int64(0)}
	}},
	{"capabilities that it has anyway", `{"HostConfig":{"CapAdd":["chown","SYS_PTRACE"]}}`, func(r *container.CreateRequest) (any, any) {
		return []string(r.HostConfig.CapAdd), []string{"chown", "SYS_PTRACE"}
	}},
	{"sysctls of its own network", `{"HostConfig":{"Sysctls":{"net.ipv4.tcp_syncookies":"1","net.ipv6.conf.all.disable_ipv6":"0"}}}`, func(r *container.CreateRequest) (any, any) {
		return len(r.HostConfig.Sysctls), 2
	}},
	{"the runtimes that there are anyway", `{"HostConfig":{"Runtime":"crun"}}`, func(r *container.CreateRequest) (any, any) { return r.HostConfig.Runtime, "" }},
	{"Docker's own runtime", `{"HostConfig":{"Runtime":"runc"}}`, func(r *container.CreateRequest) (any, any) { return r.HostConfig.Runtime, "" }},
	{"restart", `{"HostConfig":{"RestartPolicy":{"Name":"always"}}}`, func(r *container.CreateRequest) (any, any) {
		return r.HostConfig.RestartPolicy.Name, container.RestartPolicyOnFailure
	}},
}

// limited is a World with limits.
func limited() *memory {
	w := newMemory()
	w.stage.Limits = Limits{Memory: 1 << 30, NanoCPUs: 2e9, Pids: 100, ShmSize: 1 << 20, CPUSet: "0-1", CgroupParent: "/stage", OOMScoreAdj: 500, Ulimits: map[string]int64{"nofile": 1024}}
	return w
}

func TestCreatePlans(t *testing.T) {
	for _, tt := range plans {
		t.Run(tt.name, func(t *testing.T) {
			plan, _, err := create(t, limited(), tt.body)
			if err != nil {
				t.Fatal(err)
			}
			got, want := tt.check(plan.Body)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
		})
	}
}

// mountAt describes the mount at a target.
func mountAt(r *container.CreateRequest, target string) string {
	i := slices.IndexFunc(r.HostConfig.Mounts, func(m mount.Mount) bool { return m.Target == target })
	if i < 0 {
		return "none"
	}
	m := r.HostConfig.Mounts[i]
	words := []string{string(m.Type), m.Source}
	if m.ReadOnly {
		words = append(words, "ro")
	}
	if o := m.VolumeOptions; o != nil {
		if o.NoCopy {
			words = append(words, "nocopy")
		}
		if o.Subpath != "" {
			words = append(words, "sub="+o.Subpath)
		}
		if o.Labels[testOwner] == testNetwork {
			words = append(words, "labelled")
		}
	}
	return strings.Join(words, " ")
}

// A part of a volume needs a version of the API that the client needn't speak; a daemon that has
// none gets a mount point.
func TestPartsByVersion(t *testing.T) {
	for daemon, want := range map[string]string{"1.45": "volume drone-abc-workspace nocopy sub=a", "1.44": "bind /points/0"} {
		w := newMemory()
		w.version = daemon
		plan, _, err := create(t, w, `{"HostConfig":{"Binds":["/drone/src/a:/a"]}}`)
		if err != nil {
			t.Fatal(err)
		}
		version := "1.41"
		if daemon == "1.45" {
			version = daemon
		}
		if got := mountAt(plan.Body, "/a"); got != want || plan.Version != version {
			t.Errorf("with a daemon of API %s: %s, asked for in version %s", daemon, got, plan.Version)
		}
	}
}

func TestCreateWarns(t *testing.T) {
	_, warnings, err := create(t, limited(), `{"HostConfig":{"Memory":4294967296,"CpuQuota":900000,"RestartPolicy":{"Name":"always"},"Ulimits":[{"Name":"nofile","Hard":-1}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(warnings, "\n")
	for _, want := range []string{"HostConfig.Memory is cut down", "HostConfig.NanoCpus is set", "HostConfig.RestartPolicy is taken as on-failure", "Ulimits nofile is cut down"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning says %q:\n%s", want, all)
		}
	}
	if _, warnings, err := create(t, newMemory(), `{"HostConfig":{"Memory":4294967296}}`); err != nil || len(warnings) > 0 {
		t.Errorf("without limits there is a warning: %v %v", warnings, err)
	}
}

// A privileged container runs without privilege where the stage says so, and is told what it
// doesn't get.
func TestUnprivileged(t *testing.T) {
	w := newMemory()
	w.stage.Unprivileged = true
	plan, warnings, err := create(t, w, `{"HostConfig":{"Privileged":true,"CapAdd":["NET_ADMIN","CHOWN"]}}`)
	if err != nil {
		t.Fatal(err)
	}
	if h := plan.Body.HostConfig; h.Privileged || !slices.Equal(h.CapAdd, []string{"CHOWN"}) {
		t.Errorf("it becomes %v with %v", h.Privileged, h.CapAdd)
	}
	if all := strings.Join(warnings, "\n"); !strings.Contains(all, "Privileged is not granted") || !strings.Contains(all, "NET_ADMIN is not granted") {
		t.Errorf("warns %s", all)
	}
	_, _, err = create(t, w, `{"HostConfig":{"CapAdd":["NET_ADMIN"]}}`)
	refused(t, err, "NET_ADMIN")
}

// What the daemon gives its containers anyway decides what a request means.
func TestDaemonDecides(t *testing.T) {
	w := newMemory()
	w.daemon = Daemon{HardLimits: map[string]int64{"memlock": 100}}
	plan, warnings, err := create(t, w, `{"HostConfig":{"UsernsMode":"host","SecurityOpt":["label=disable"],"KernelMemory":1,"Ulimits":[{"Name":"memlock","Hard":-1,"Soft":-1}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	h := plan.Body.HostConfig
	if h.UsernsMode != "" || len(h.SecurityOpt) > 0 || h.KernelMemory != 0 || h.Ulimits[0].Hard != 100 || h.Ulimits[0].Soft != 100 {
		t.Errorf("it becomes %+v", h)
	}
	if all := strings.Join(warnings, "\n"); !strings.Contains(all, "KernelMemory has no effect") || !strings.Contains(all, "the docker daemon's own limit, 100") {
		t.Errorf("warns %s", all)
	}
}

// The order of a table says nothing: each rule judges its own field, by what was found before. What
// hangs together is filled in afterwards, in the order of fill. Rules that are shuffled come to the
// same result, and to the same error.
func TestOrderOfRulesDoesNotMatter(t *testing.T) {
	outcome := func(body string) string {
		plan, warnings, err := create(t, limited(), body)
		if err != nil {
			return err.Error()
		}
		b, err := json.Marshal(plan.Body)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(warnings)
		return string(b) + strings.Join(warnings, "\n")
	}
	bodies := map[string]string{}
	for _, tt := range refusals {
		bodies[tt.body] = outcome(tt.body)
	}
	for _, tt := range plans {
		bodies[tt.body] = outcome(tt.body)
	}
	everything := `{"ExposedPorts":{"80/tcp":{}},"Volumes":{"/d":{}},"NetworkingConfig":{"EndpointsConfig":{"inner":{"Links":["db:a"]}}},"HostConfig":{"NetworkMode":"inner","Links":["db:b"],
		"PublishAllPorts":true,"PortBindings":{"81/tcp":[]},"ExtraHosts":["a:host-gateway"],"VolumesFrom":["step"],"Mounts":[{"Type":"volume","Source":"v","Target":"/v"}],"Binds":["/drone/src/a:/a","w:/w"],
		"Tmpfs":{"/var/lib/db":""},"Memory":4294967296,"MemorySwap":-1,"CpuPeriod":1000,"CpuQuota":64000,"PidMode":"container:db"}}`
	bodies[everything] = outcome(everything)

	for _, rules := range ruled {
		before := slices.Clone(rules)
		t.Cleanup(func() { copy(rules, before) })
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		for _, rules := range ruled {
			random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		}
		for body, want := range bodies {
			if diff := cmp.Diff(want, outcome(body)); diff != "" {
				t.Fatalf("with rules in another order, %s comes to something else:\n%s", body, diff)
			}
		}
	}
}

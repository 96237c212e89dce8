//go:build !unit

package guard_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// createRow is a row that asks for a container. config and host are fields of Config and
// HostConfig, as JSON without the outer braces.
func createRow(name, config, host, says string) attack {
	var fields []string
	for _, f := range []string{`"Image":"{image}"`, config} {
		if f != "" {
			fields = append(fields, f)
		}
	}
	if host != "" {
		fields = append(fields, `"HostConfig":{`+host+`}`)
	}
	return attack{name: name, method: "POST", path: "/containers/create", body: "{" + strings.Join(fields, ",") + "}", says: says}
}

// closed is a row of which newer daemons say that.
func closed(row attack, text string) attack {
	row.closed = text
	return row
}

// accepted is the proof of a row that the daemon knows and declines on this machine alone: it has
// got past the checks of the API.
func accepted(text string) func(*guardtest.Answer) bool {
	return func(a *guardtest.Answer) bool {
		return a.Status == http.StatusCreated || a.Status >= 400 && strings.Contains(a.Body, text)
	}
}

func attackCreate(t *testing.T, a *arena) {
	rows := []attack{
		createRow("privileged", ``, `"Privileged":true`, "HostConfig.Privileged"),
		createRow("privileged, in lower case", ``, `"privileged":true`, "Privileged"),
		createRow("privileged, after false", ``, `"Privileged":false,"Privileged":true`, "comes twice"),
		createRow("privileged, in a second spelling", ``, `"Privileged":false,"privileged":true`, "comes twice"),
		createRow("privileged, with a long s", ``, "\"Privileged\":false,\"privileged\":true,\"ReadonlyRootf\u017f\":true", "comes twice"),
		createRow("privileged, with escapes in the name", ``, `"\u0050rivileged":true`, "HostConfig.Privileged"),
		createRow("privileged, in a second HostConfig", `"HostConfig":{}`, `"Privileged":true`, "comes twice"),
		createRow("privileged, in a second hostconfig", `"HostConfig":{"Privileged":false},"hostconfig":{"Privileged":true}`, ``, "comes twice"),
		createRow("privileged, in a HoſtConfig", "\"Ho\u017ftConfig\":{\"Privileged\":true}", ``, "Privileged"),
		createRow("privileged, with an unknown field", ``, `"Superpower":true,"Privileged":true`, ""),
		// dropped: what the guard writes anew has no place for it
		granted(createRow("an unknown field of Config", `"Superpower":true`, ``, "")),
		// dropped: what the guard writes anew has no place for it
		granted(createRow("an unknown field of HostConfig", ``, `"Superpower":true`, "")),
		// dropped: what the guard writes anew has no place for it
		granted(createRow("an unknown field of a mount", ``, `"Mounts":[{"Type":"tmpfs","Target":"/x","Superpower":true}]`, "")),
		// dropped: what the guard writes anew has no place for it
		granted(createRow("an unknown field of an endpoint", `"NetworkingConfig":{"EndpointsConfig":{"bridge":{"Superpower":true}}}`, ``, "")),
		createRow("all capabilities", ``, `"CapAdd":["ALL"]`, "HostConfig.CapAdd"),
		createRow("a capability", ``, `"CapAdd":["SYS_ADMIN"]`, "HostConfig.CapAdd"),
		// until Docker 28
		closed(createRow("a capability as a string", ``, `"CapAdd":"NET_ADMIN"`, "HostConfig.CapAdd"), "cannot unmarshal string"),
		// so it is no more than it has
		granted(createRow("a capability that Docker gives anyway", ``, `"CapAdd":["NET_RAW"]`, "")),
		granted(createRow("a capability to trace its own processes", ``, `"CapAdd":["SYS_PTRACE"]`, "")),
		createRow("a capability to trace a container's processes", ``, `"CapAdd":["SYS_PTRACE"],"PidMode":"container:{own.container}"`, "HostConfig.CapAdd"),
		createRow("seccomp unconfined", ``, `"SecurityOpt":["seccomp=unconfined"]`, "HostConfig.SecurityOpt"),
		createRow("seccomp unconfined, with a colon", ``, `"SecurityOpt":["seccomp:unconfined"]`, "HostConfig.SecurityOpt"),
		createRow("a seccomp profile", ``, `"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]`, "HostConfig.SecurityOpt"),
		createRow("apparmor unconfined", ``, `"SecurityOpt":["apparmor=unconfined"]`, "HostConfig.SecurityOpt"),
		createRow("apparmor unconfined, with a colon", ``, `"SecurityOpt":["apparmor:unconfined"]`, "HostConfig.SecurityOpt"),
		// there are no labels to disable
		granted(createRow("label disable", ``, `"SecurityOpt":["label=disable"]`, "")),
		createRow("label type", ``, `"SecurityOpt":["label=type:spc_t"]`, "HostConfig.SecurityOpt"),
		createRow("no-new-privileges false", ``, `"SecurityOpt":["no-new-privileges=false"]`, "HostConfig.SecurityOpt"),
		createRow("no-new-privileges before another", ``, `"SecurityOpt":["no-new-privileges","apparmor=unconfined"]`, "HostConfig.SecurityOpt"),
		with(createRow("systempaths unconfined", ``, `"SecurityOpt":["systempaths=unconfined"]`, "HostConfig.SecurityOpt"), accepted("invalid --security-opt")),
		with(createRow("writable cgroups", ``, `"SecurityOpt":["writable-cgroups=true"]`, "HostConfig.SecurityOpt"), accepted("invalid --security-opt")),
		with(createRow("disable", ``, `"SecurityOpt":["disable"]`, "HostConfig.SecurityOpt"), accepted("invalid --security-opt")),
		createRow("no masked paths", ``, `"MaskedPaths":[]`, "HostConfig.MaskedPaths"),
		createRow("other masked paths", ``, `"MaskedPaths":["/nothing"]`, "HostConfig.MaskedPaths"),
		createRow("no read-only paths", ``, `"ReadonlyPaths":[]`, "HostConfig.ReadonlyPaths"),
		createRow("a device", ``, `"Devices":[{"PathOnHost":"/dev/kmsg","PathInContainer":"/dev/kmsg","CgroupPermissions":"rwm"}]`, "Devices"),
		createRow("a device cgroup rule", ``, `"DeviceCgroupRules":["a *:* rwm"]`, "DeviceCgroupRules"),
		with(createRow("a device request", ``, `"DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"]]}]`, "DeviceRequests"), accepted("device driver")),
		with(createRow("a runtime", ``, `"Runtime":"io.containerd.runtime.v1.linux"`, "HostConfig.Runtime"), reached),
		createRow("annotations", ``, `"Annotations":{"run.oci.keep_original_groups":"1"}`, "HostConfig.Annotations"),
		createRow("a kernel parameter", ``, `"Sysctls":{"net.ipv4.ip_forward":"1"}`, "HostConfig.Sysctls"),
		createRow("a kernel parameter of an endpoint", `"NetworkingConfig":{"EndpointsConfig":{"bridge":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.route_localnet=1"}}}}`, ``, "DriverOpts"),
		with(createRow("storage options", ``, `"StorageOpt":{"size":"10G"}`, "HostConfig.StorageOpt"), accepted("storage-opt")),
		createRow("a volume driver", ``, `"VolumeDriver":"nfs"`, "HostConfig.VolumeDriver"),
		createRow("a negative OOM score", ``, `"OomScoreAdj":-1000`, "HostConfig.OomScoreAdj"),
		createRow("no OOM killer", ``, `"OomKillDisable":true`, "OomKillDisable"),
		with(createRow("a real-time period", ``, `"CpuRealtimePeriod":1000000`, "CpuRealtimePeriod"), accepted("realtime")),
		with(createRow("a real-time runtime", ``, `"CpuRealtimeRuntime":950000`, "CpuRealtimeRuntime"), accepted("realtime")),
		createRow("a block weight of a device", ``, `"BlkioWeightDevice":[{"Path":"/dev/vda","Weight":1000}]`, "BlkioWeightDevice"),
		createRow("a block rate of a device, reading", ``, `"BlkioDeviceReadBps":[{"Path":"/dev/vda","Rate":1}]`, "BlkioDeviceReadBps"),
		createRow("a block rate of a device, writing", ``, `"BlkioDeviceWriteBps":[{"Path":"/dev/vda","Rate":1}]`, "BlkioDeviceWriteBps"),
		createRow("a block count of a device, reading", ``, `"BlkioDeviceReadIOps":[{"Path":"/dev/vda","Rate":1}]`, "BlkioDeviceReadIOps"),
		createRow("a block count of a device, writing", ``, `"BlkioDeviceWriteIOps":[{"Path":"/dev/vda","Rate":1}]`, "BlkioDeviceWriteIOps"),
		createRow("the group docker", ``, `"GroupAdd":["docker"]`, "HostConfig.GroupAdd"),
		createRow("the group of the socket", ``, `"GroupAdd":["root","docker"]`, "HostConfig.GroupAdd"),
		granted(createRow("kernel memory", ``, `"KernelMemory":16777216`, "")), // no daemon keeps it
		createRow("a cgroup parent", ``, `"CgroupParent":"/escape"`, "CgroupParent"),
		createRow("a cgroup parent that climbs", ``, `"CgroupParent":"../../.."`, "CgroupParent"),
		createRow("the machine's processes", ``, `"PidMode":"host"`, "HostConfig.PidMode"),
		createRow("the victim's processes", ``, `"PidMode":"container:{container}"`, "No such container"),
		createRow("the processes of a step", ``, `"PidMode":"container:{own.step}"`, "step"),
		createRow("the processes of a step, by name", ``, `"PidMode":"container:{own.stepname}"`, "step"),
		createRow("the machine's IPC", ``, `"IpcMode":"host"`, "HostConfig.IpcMode"),
		createRow("the victim's IPC", ``, `"IpcMode":"container:{container}"`, "No such container"),
		createRow("the IPC of a step", ``, `"IpcMode":"container:{own.step}"`, "step"),
		createRow("the machine's host name", ``, `"UTSMode":"host"`, "HostConfig.UTSMode"),
		granted(createRow("the machine's users", ``, `"UsernsMode":"host"`, "")), // the daemon maps none
		createRow("the machine's cgroups", ``, `"CgroupnsMode":"host"`, "HostConfig.CgroupnsMode"),
		createRow("another container's cgroups", ``, `"Cgroup":"container:{container}"`, "HostConfig.Cgroup"),
		createRow("the machine's network", ``, `"NetworkMode":"host"`, "HostConfig.NetworkMode"),
		createRow("the machine's network, as an endpoint", `"NetworkingConfig":{"EndpointsConfig":{"host":{}}}`, `"NetworkMode":"bridge"`, ""),
		// As with the daemon, what isn't there is missed when the container is started.
		unreachable(createRow("the victim's network stack", ``, `"NetworkMode":"container:{container}"`, "")),
		unreachable(createRow("the victim's network stack, by name", ``, `"NetworkMode":"container:{name}"`, "")),
		unreachable(createRow("the victim's network stack, by a short id", ``, `"NetworkMode":"container:{short}"`, "")),
		unreachable(createRow("the network stack of the victim's step", ``, `"NetworkMode":"container:{step}"`, "")),
		unreachable(createRow("the victim's network", ``, `"NetworkMode":"{netname}"`, "")),
		unreachable(createRow("the victim's network, by id", ``, `"NetworkMode":"{network}"`, "")),
		unreachable(createRow("the victim's build network", ``, `"NetworkMode":"{buildnet}"`, "")),
		unreachable(createRow("the victim's network, as an endpoint", `"NetworkingConfig":{"EndpointsConfig":{"{netname}":{}}}`, `"NetworkMode":"{netname}"`, "")),
		// Daemons before API 1.44 connect one network at creation; they look up both.
		with(createRow("the victim's network, as a second endpoint", `"NetworkingConfig":{"EndpointsConfig":{"{own.netname}":{},"{netname}":{}}}`, `"NetworkMode":"{own.netname}"`, ""), accepted("cannot be connected to network endpoints")),
		createRow("a link to the victim", ``, `"Links":["{container}:x"]`, "No such container"),
		createRow("a link to the victim's step", ``, `"Links":["{stepname}:x"]`, "No such container"),
		createRow("the victim's volumes", ``, `"VolumesFrom":["{container}"]`, "No such container"),
		createRow("the volumes of the victim's step", ``, `"VolumesFrom":["{step}:ro"]`, "No such container"),
		createRow("a bind of the root", ``, `"Binds":["/:/host"]`, "HostConfig.Binds"),
		createRow("a bind of /etc", ``, `"Binds":["/etc:/host:ro"]`, "HostConfig.Binds"),
		createRow("a bind of the daemon's folder", ``, `"Binds":["/var/lib/docker:/host"]`, "HostConfig.Binds"),
		createRow("a bind of /proc", ``, `"Binds":["/proc:/host"]`, "HostConfig.Binds"),
		createRow("a bind with dots", ``, `"Binds":["/drone/src/../../etc:/host"]`, "HostConfig.Binds"),
		createRow("a bind of a folder of the daemon's sockets", ``, `"Binds":["/run/containerd:/host"]`, "HostConfig.Binds"),
		createRow("a bind that propagates", ``, `"Binds":["/:/host:rshared"]`, "HostConfig.Binds"),
		createRow("a bind of a volume's folder", ``, `"Binds":["/var/lib/docker/volumes/{volume}/_data:/host"]`, "HostConfig.Binds"),
		createRow("a mount of the root", ``, `"Mounts":[{"Type":"bind","Source":"/","Target":"/host"}]`, "HostConfig.Mounts[0]"),
		createRow("a mount of the root, behind a harmless one", ``, `"Mounts":[{"Type":"tmpfs","Target":"/x"},{"Type":"bind","Source":"/","Target":"/host"}]`, "HostConfig.Mounts[1]"),
		createRow("a mount that propagates", ``, `"Mounts":[{"Type":"bind","Source":"/run","Target":"/host","BindOptions":{"Propagation":"rslave"}}]`, "Propagation"),
		createRow("a volume that mounts the machine", ``, `"Mounts":[{"Type":"volume","Target":"/host","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"none","o":"bind","device":"/"}}}}]`, "DriverConfig.Options"),
		createRow("a named volume that mounts the machine", ``, `"Mounts":[{"Type":"volume","Source":"attack","Target":"/host","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"none","o":"bind","device":"/"}}}}]`, "DriverConfig.Options"),
		with(createRow("a named pipe", ``, `"Mounts":[{"Type":"npipe","Source":"/x","Target":"/host"}]`, "Mounts[0].Type"), accepted("npipe")),
		with(createRow("a cluster volume", ``, `"Mounts":[{"Type":"cluster","Source":"x","Target":"/host"}]`, "Mounts[0].Type"), accepted("mount type unknown")),
		createRow("a mount over /proc", ``, `"Tmpfs":{"/proc/sys":""}`, "/proc"),
		createRow("a mount over /sys, with dots", ``, `"Mounts":[{"Type":"tmpfs","Target":"/x/../sys"}]`, "/sys"),
		with(createRow("a log driver that sends", ``, `"LogConfig":{"Type":"syslog","Config":{"syslog-address":"udp://127.0.0.1:514"}}`, "HostConfig.LogConfig"), nil),
		createRow("a log driver that sends to a server", ``, `"LogConfig":{"Type":"fluentd","Config":{"fluentd-address":"127.0.0.1:1","fluentd-async":"true"}}`, "HostConfig.LogConfig"),
		createRow("a log driver that writes to the journal", ``, `"LogConfig":{"Type":"journald"}`, "HostConfig.LogConfig"),
		createRow("a label of another owner", `"Labels":{"`+guardtest.OwnerLabel+`":"{id}"}`, ``, guardtest.OwnerLabel),
		createRow("a label of another guard", `"Labels":{"`+guard.LabelGuard+`":"{id}"}`, ``, guard.LabelGuard),
		createRow("a label that keeps", `"Labels":{"io.drone-runner-sysbox.persistent":"/cache"}`, ``, "io.drone-runner-sysbox."),
		createRow("a label of an owner, emptied", `"Labels":{"`+guardtest.OwnerLabel+`":""}`, ``, guardtest.OwnerLabel),
	}
	driver := createRow("a volume of another driver", ``, `"Mounts":[{"Type":"volume","Target":"/host","VolumeOptions":{"DriverConfig":{"Name":"nfs"}}}]`, "DriverConfig.Name")
	driver.slow = true
	rows = append(rows, driver)
	volume := createRow("the victim's volume", ``, `"Binds":["{volume}:/v"]`, "")
	volume.tamed = ownVolume
	rows = append(rows, volume)
	volume = createRow("the victim's volume, as a mount", ``, `"Mounts":[{"Type":"volume","Source":"{volume}","Target":"/v"}]`, "")
	volume.tamed = ownVolume
	rows = append(rows, volume)
	workspace := createRow("the victim's workspace", ``, `"Binds":["{workspace}:/v"]`, "")
	workspace.tamed = ownVolume
	a.fight(t, append(rows, workspace))
}

// with sets a row's proof.
func with(row attack, bare func(*guardtest.Answer) bool) attack {
	row.bare = bare
	return row
}

// granted is a row for what does no harm any more, or never did: the container is made, and is as
// unprivileged as all.
func granted(row attack) attack {
	row.tamed = func(t *testing.T, a *arena, got *guardtest.Answer) {
		var c struct {
			HostConfig struct {
				Privileged                                         bool
				CapAdd, SecurityOpt                                []string
				UsernsMode, PidMode, IpcMode, NetworkMode, Runtime string
				KernelMemory                                       int64
			}
		}
		madeBy(t, a, got, &c)
		h := c.HostConfig
		allowed := func(c string) bool {
			return c == "NET_RAW" || c == "CAP_NET_RAW" || c == "SYS_PTRACE" || c == "CAP_SYS_PTRACE"
		}
		if h.Privileged || slices.ContainsFunc(h.CapAdd, func(c string) bool { return !allowed(c) }) || len(h.SecurityOpt) > 0 || h.UsernsMode != "" || h.PidMode != "" || h.IpcMode == "host" ||
			h.NetworkMode != a.attacker.Network || h.Runtime != "runc" || h.KernelMemory != 0 {
			t.Errorf("it became %+v", h)
		}
	}
	return row
}

// unreachable is a row for what isn't there for the attacker: the container is made, and can't be
// started.
func unreachable(row attack) attack {
	row.tamed = func(t *testing.T, a *arena, got *guardtest.Answer) {
		var c struct {
			ID         string `json:"Id"`
			HostConfig struct{ NetworkMode string }
		}
		madeBy(t, a, got, &c)
		started := a.attacker.Request("POST", "/containers/"+c.ID+"/start", nil)
		if started.Status != http.StatusNotFound || !strings.Contains(c.HostConfig.NetworkMode, a.attacker.ID+".") {
			t.Errorf("with the network %s it starts with %d %s", c.HostConfig.NetworkMode, started.Status, started.Body)
		}
	}
	return row
}

// madeBy looks at what a create call that the guard let through has made, from outside.
func madeBy(t *testing.T, a *arena, got *guardtest.Answer, into any) {
	t.Helper()
	var made struct {
		ID string `json:"Id"`
	}
	if err := json.Unmarshal([]byte(got.Body), &made); err != nil || got.Status != http.StatusCreated {
		t.Fatalf("the guard answers %d %s, want a container", got.Status, got.Body)
	}
	seen, err := guardtest.Send(a.daemon, "GET", "/containers/"+made.ID+"/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(seen.Body), into); err != nil {
		t.Fatal(err)
	}
}

// ownVolume wants that a name of another's volume is only a name of one's own.
func ownVolume(t *testing.T, a *arena, got *guardtest.Answer) {
	t.Helper()
	if got.Status == http.StatusNotFound {
		return
	}
	var c struct{ Mounts []struct{ Name string } }
	madeBy(t, a, got, &c)
	for _, m := range c.Mounts {
		if !strings.HasPrefix(m.Name, a.attacker.ID+".") {
			t.Errorf("the volume %s is mounted", m.Name)
		}
		t.Cleanup(func() { a.attacker.Host("volume", "rm", "-f", m.Name) })
	}
}

// TestAttackTamed is about what clients ask for in good faith: the guard grants it, without what
// makes it dangerous.
func TestAttackTamed(t *testing.T) {
	t.Parallel()
	a := newArena(t, func(o *guard.Options) {
		o.Limits = guard.Limits{Memory: 64 << 20, NanoCPUs: 5e8, Pids: 100, ShmSize: 32 << 20, Ulimits: map[string]int64{"nofile": 1024}, CgroupParent: ""}
		o.Unprivileged = true
	})
	type seen struct {
		Config     struct{ Labels map[string]string }
		HostConfig struct {
			PortBindings                            map[string][]struct{ HostIP string }
			PublishAllPorts                         bool
			RestartPolicy                           struct{ Name string }
			Memory, MemorySwap, NanoCpus, PidsLimit int64
			CpuQuota, ShmSize                       int64 //nolint:revive // the API's name
			Ulimits                                 []struct{ Hard, Soft int64 }
			NetworkMode                             string
			ExtraHosts, CapAdd                      []string
			Privileged                              bool
		}
		Mounts []struct{ Type, Source, Destination string }
	}
	gateway := strings.TrimSpace(a.attacker.Host("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", a.attacker.Network))
	row := func(name, config, host, want string, look func(seen) any) attack {
		r := createRow(name, config, host, "")
		r.tamed = func(t *testing.T, a *arena, got *guardtest.Answer) {
			var s seen
			madeBy(t, a, got, &s)
			text, err := json.Marshal(look(s))
			if err != nil || string(text) != want {
				t.Errorf("it became %s, want %s: %v", text, want, err)
			}
		}
		return r
	}
	a.fight(t, []attack{
		row("a port on all addresses", ``, `"PortBindings":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"18080"}]}`, `"`+gateway+`"`, func(s seen) any { return s.HostConfig.PortBindings["80/tcp"][0].HostIP }),
		row("a port on the machine's loopback", ``, `"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"18080"}]}`, `"`+gateway+`"`, func(s seen) any { return s.HostConfig.PortBindings["80/tcp"][0].HostIP }),
		row("a port on no address", ``, `"PortBindings":{"80/tcp":[{}]}`, `"`+gateway+`"`, func(s seen) any { return s.HostConfig.PortBindings["80/tcp"][0].HostIP }),
		row("a port on none", ``, `"PortBindings":{"80/tcp":[]}`, `"`+gateway+`"`, func(s seen) any { return s.HostConfig.PortBindings["80/tcp"][0].HostIP }),
		row("all ports", `"ExposedPorts":{"80/tcp":{}}`, `"PublishAllPorts":true`, `[false,"`+gateway+`"]`, func(s seen) any {
			return []any{s.HostConfig.PublishAllPorts, s.HostConfig.PortBindings["80/tcp"][0].HostIP}
		}),
		row("restart always", ``, `"RestartPolicy":{"Name":"always"}`, `"on-failure"`, func(s seen) any { return s.HostConfig.RestartPolicy.Name }),
		row("restart unless-stopped", ``, `"RestartPolicy":{"Name":"unless-stopped"}`, `"on-failure"`, func(s seen) any { return s.HostConfig.RestartPolicy.Name }),
		row("no limit of memory", ``, `"Memory":0,"MemorySwap":-1`, `[67108864,134217728]`, func(s seen) any { return []int64{s.HostConfig.Memory, s.HostConfig.MemorySwap} }),
		row("more memory", ``, `"Memory":1073741824`, `67108864`, func(s seen) any { return s.HostConfig.Memory }),
		row("no limit of processors", ``, `"NanoCpus":0`, `500000000`, func(s seen) any { return s.HostConfig.NanoCpus }),
		row("more of the processors by quota", ``, `"CpuQuota":200000,"CpuPeriod":100000`, `[500000000,0]`, func(s seen) any { return []int64{s.HostConfig.NanoCpus, s.HostConfig.CpuQuota} }),
		row("no limit of processes", ``, `"PidsLimit":-1`, `100`, func(s seen) any { return s.HostConfig.PidsLimit }),
		row("more shared memory", ``, `"ShmSize":1073741824`, `33554432`, func(s seen) any { return s.HostConfig.ShmSize }),
		row("more open files", ``, `"Ulimits":[{"Name":"nofile","Soft":999999,"Hard":999999}]`, `{"Hard":1024,"Soft":1024}`, func(s seen) any { return s.HostConfig.Ulimits[0] }),
		row("more open files, in capitals", ``, `"Ulimits":[{"Name":"NOFILE","Soft":999999,"Hard":999999}]`, `{"Hard":1024,"Soft":1024}`, func(s seen) any { return s.HostConfig.Ulimits[0] }),
		row("the default network", ``, `"NetworkMode":"default"`, `"`+a.attacker.Network+`"`, func(s seen) any { return s.HostConfig.NetworkMode }),
		row("the machine's docker0", ``, `"NetworkMode":"bridge"`, `"`+a.attacker.Network+`"`, func(s seen) any { return s.HostConfig.NetworkMode }),
		row("the machine's docker.sock", ``, `"Binds":["/var/run/docker.sock:/s"]`, `"`+a.attacker.Socket+`"`, func(s seen) any { return s.Mounts[0].Source }),
		row("the machine's docker.sock, spelled oddly", ``, `"Binds":["//run/../run//docker.sock:/s"]`, `"`+a.attacker.Socket+`"`, func(s seen) any { return s.Mounts[0].Source }),
		row("privilege", ``, `"Privileged":true,"CapAdd":["ALL"]`, `[false,null]`, func(s seen) any { return []any{s.HostConfig.Privileged, s.HostConfig.CapAdd} }),
		row("privilege, in another case", ``, `"privileged":true`, `false`, func(s seen) any { return s.HostConfig.Privileged }),
		row("the owner's labels", ``, ``, `["`+a.attacker.ID+`","`+a.attacker.ID+`"]`, func(s seen) any {
			return []string{s.Config.Labels[guardtest.OwnerLabel], s.Config.Labels[guard.LabelGuard]}
		}),
	})
}

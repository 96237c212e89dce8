package guard

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"
)

// created is what the daemon was asked to create.
func (b *fakeBuild) created(t *testing.T) *container.CreateRequest {
	t.Helper()
	s := b.daemon.last()
	if s == nil || !strings.HasSuffix(s.Path, "/containers/create") {
		t.Fatalf("the daemon was asked for %+v, not for a container", s)
	}
	var r container.CreateRequest
	if err := json.Unmarshal([]byte(s.Body), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestCreateRefuses(t *testing.T) {
	b := newFake(t, "1.41")
	for _, tt := range []struct{ name, body, want string }{
		{"privileged", `{"HostConfig":{"Privileged":true}}`, "HostConfig.Privileged"},
		{"privileged in another case", `{"HostConfig":{"privileged":true}}`, "HostConfig.Privileged"},
		{"twice", `{"HostConfig":{"Privileged":false,"Privileged":true}}`, "comes twice"},
		{"twice in two cases", `{"HostConfig":{"Privileged":false,"privileged":true}}`, "comes twice"},
		{"two host configs", `{"HostConfig":{},"hostconfig":{"Privileged":true}}`, "comes twice"},
		{"the Kelvin sign", `{"HostConfig":{"NetworkMode":"none","Networ\u212aMode":"host"}}`, "comes twice"},
		{"trailing value", `{} {"HostConfig":{"Privileged":true}}`, "there is more"},
		{"CapAdd", `{"HostConfig":{"CapAdd":["SYS_ADMIN"]}}`, "HostConfig.CapAdd"},
		{"CapAdd as a string", `{"HostConfig":{"CapAdd":"ALL"}}`, "HostConfig.CapAdd"},
		{"Devices", `{"HostConfig":{"Devices":[{"PathOnHost":"/dev/sda"}]}}`, "HostConfig.Devices"},
		{"DeviceCgroupRules", `{"HostConfig":{"DeviceCgroupRules":["a *:* rwm"]}}`, "DeviceCgroupRules"},
		{"DeviceRequests", `{"HostConfig":{"DeviceRequests":[{"Count":-1}]}}`, "DeviceRequests"},
		{"Runtime", `{"HostConfig":{"Runtime":"other"}}`, "HostConfig.Runtime"},
		{"SYS_PTRACE in another container's processes", `{"HostConfig":{"CapAdd":["SYS_PTRACE"],"PidMode":"container:` + idOwn + `"}}`, "HostConfig.CapAdd"},
		{"a default capability and another", `{"HostConfig":{"CapAdd":["CHOWN","NET_ADMIN"]}}`, "NET_ADMIN"},
		{"a sysctl in another container's network", `{"HostConfig":{"Sysctls":{"net.core.somaxconn":"1"},"NetworkMode":"container:` + idStep + `"}}`, "another container"},
		{"a sysctl of forwarding", `{"HostConfig":{"Sysctls":{"net.ipv4.ip_forward":"1"}}}`, "ip_forward"},
		{"a sysctl with a path", `{"HostConfig":{"Sysctls":{"net.ipv4.tcp_/../../kernel/core_pattern":"1"}}}`, "Sysctls"},
		{"a sysctl with slashes", `{"HostConfig":{"Sysctls":{"net/core/somaxconn":"1"}}}`, "Sysctls"},
		{"a sysctl with an odd value", `{"HostConfig":{"Sysctls":{"net.core.somaxconn":"1\n2"}}}`, "value"},
		{"Annotations", `{"HostConfig":{"Annotations":{"a":"b"}}}`, "Annotations"},
		{"Sysctls", `{"HostConfig":{"Sysctls":{"kernel.shmmax":"1"}}}`, "Sysctls"},
		{"VolumeDriver", `{"HostConfig":{"VolumeDriver":"nfs"}}`, "VolumeDriver"},
		{"OomScoreAdj", `{"HostConfig":{"OomScoreAdj":-1}}`, "OomScoreAdj"},
		{"OomKillDisable", `{"HostConfig":{"OomKillDisable":true}}`, "OomKillDisable"},
		{"CpuRealtimePeriod", `{"HostConfig":{"CpuRealtimePeriod":1}}`, "CpuRealtimePeriod"},
		{"BlkioDeviceReadBps", `{"HostConfig":{"BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":1}]}}`, "BlkioDeviceReadBps"},
		{"the docker group", `{"HostConfig":{"GroupAdd":["docker"]}}`, "GroupAdd"},
		{"seccomp", `{"HostConfig":{"SecurityOpt":["seccomp=unconfined"]}}`, "SecurityOpt"},
		{"apparmor", `{"HostConfig":{"SecurityOpt":["apparmor:unconfined"]}}`, "SecurityOpt"},
		{"label", `{"HostConfig":{"SecurityOpt":["label=type:spc_t"]}}`, "SecurityOpt"},
		{"systempaths", `{"HostConfig":{"SecurityOpt":["systempaths=unconfined"]}}`, "SecurityOpt"},
		{"writable-cgroups", `{"HostConfig":{"SecurityOpt":["writable-cgroups=true"]}}`, "SecurityOpt"},
		{"no-new-privileges=false", `{"HostConfig":{"SecurityOpt":["no-new-privileges=false"]}}`, "SecurityOpt"},
		{"MaskedPaths empty", `{"HostConfig":{"MaskedPaths":[]}}`, "MaskedPaths"},
		{"ReadonlyPaths empty", `{"HostConfig":{"ReadonlyPaths":[]}}`, "ReadonlyPaths"},
		{"pid host", `{"HostConfig":{"PidMode":"host"}}`, "PidMode"},
		{"pid of a foreign container", `{"HostConfig":{"PidMode":"container:` + idForeign + `"}}`, "No such container"},
		{"pid of a step", `{"HostConfig":{"PidMode":"container:` + idStep + `"}}`, "of a step"},
		{"ipc host", `{"HostConfig":{"IpcMode":"host"}}`, "IpcMode"},
		{"ipc of a foreign container", `{"HostConfig":{"IpcMode":"container:drone-xyz.db"}}`, "No such container"},
		{"uts host", `{"HostConfig":{"UTSMode":"host"}}`, "UTSMode"},
		{"userns of another kind", `{"HostConfig":{"UsernsMode":"hosts"}}`, "UsernsMode"},
		{"cgroupns host", `{"HostConfig":{"CgroupnsMode":"host"}}`, "CgroupnsMode"},
		{"network host", `{"HostConfig":{"NetworkMode":"host"}}`, "NetworkMode"},
		{"a container with forged labels", `{"HostConfig":{"IpcMode":"container:` + idForged + `"}}`, "No such container"},
		{"the host as an endpoint", `{"NetworkingConfig":{"EndpointsConfig":{"host":{}}}}`, "not found"},
		{"driver options of an endpoint", `{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"x"}}}}}`, "DriverOpts"},
		{"links to a foreign container", `{"HostConfig":{"Links":["drone-xyz.db:db"]}}`, "No such container"},
		{"volumes from a foreign container", `{"HostConfig":{"VolumesFrom":["` + idForeign + `:ro"]}}`, "No such container"},
		{"CgroupParent", `{"HostConfig":{"CgroupParent":"/"}}`, "CgroupParent"},
		{"Cgroup", `{"HostConfig":{"Cgroup":"container:x"}}`, "HostConfig.Cgroup"},
		{"bind of the root", `{"HostConfig":{"Binds":["/:/host"]}}`, "is refused"},
		{"bind of /proc", `{"HostConfig":{"Binds":["/proc:/host:ro"]}}`, "is refused"},
		{"bind of a name with dots", `{"HostConfig":{"Binds":["../x:/host"]}}`, "invalid characters"},
		{"bind of a socket of others", `{"HostConfig":{"Binds":["/run/containerd/containerd.sock:/s"]}}`, "is refused"},
		{"bind above a volume", `{"HostConfig":{"Binds":["/drone:/host"]}}`, "is refused"},
		{"bind of a part, without a way to mount it", `{"HostConfig":{"Binds":["/drone/src/a:/a"]}}`, "mount the whole volume"},
		{"bind of memory", `{"HostConfig":{"Binds":["/mem:/a"]}}`, "memory of its own"},
		{"bind, shared", `{"HostConfig":{"Binds":["/drone/src:/a:rshared"]}}`, "propagate"},
		{"bind over /proc", `{"HostConfig":{"Binds":["/drone/src:/proc/self"]}}`, "/proc"},
		{"mount of the root", `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/","Target":"/host"}]}}`, "is refused"},
		{"mount, shared", `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/drone/src","Target":"/a","BindOptions":{"Propagation":"shared"}}]}}`, "propagate"},
		{"mount with driver options", `{"HostConfig":{"Mounts":[{"Type":"volume","Target":"/a","VolumeOptions":{"DriverConfig":{"Options":{"device":"/"}}}}]}}`, "DriverConfig.Options"},
		{"mount with a driver", `{"HostConfig":{"Mounts":[{"Type":"volume","Target":"/a","VolumeOptions":{"DriverConfig":{"Name":"nfs"}}}]}}`, "DriverConfig.Name"},
		{"mount of a pipe", `{"HostConfig":{"Mounts":[{"Type":"npipe","Source":"x","Target":"/a"}]}}`, "Type"},
		{"mount of a cluster volume", `{"HostConfig":{"Mounts":[{"Type":"cluster","Source":"x","Target":"/a"}]}}`, "Type"},
		{"tmpfs over /sys", `{"HostConfig":{"Tmpfs":{"/sys":""}}}`, "/sys"},
		{"log driver", `{"HostConfig":{"LogConfig":{"Type":"syslog","Config":{"syslog-address":"udp://1.2.3.4"}}}}`, "LogConfig"},
		{"log option", `{"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"path":"/etc/x"}}}}`, "LogConfig"},
		{"storage options", `{"HostConfig":{"StorageOpt":{"size":"1"}}}`, "StorageOpt"},
		{"a label of the runner's", `{"Labels":{"io.drone-runner-sysbox.persistent":"/x"}}`, "the runner's own"},
		{"the owner's label of another", `{"Labels":{"io.drone-runner-sysbox.spec":"drone-xyz"}}`, "the runner's own"},
		{"a restart policy unknown", `{"HostConfig":{"RestartPolicy":{"Name":"forever"}}}`, "RestartPolicy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.daemon.forget()
			body := tt.body
			if strings.HasPrefix(body, "{") {
				sep := ","
				if strings.HasPrefix(body, "{}") {
					sep = ""
				}
				body = `{"Image":"img"` + sep + body[1:]
			}
			status, message := b.do(t, "POST", "/v1.41/containers/create?name=x", body)
			if status < 400 || status > 404 || !strings.Contains(message, tt.want) {
				t.Errorf("answers %d %q, want a refusal with %q", status, message, tt.want)
			}
			if s := b.daemon.last(); s != nil && strings.HasSuffix(s.Path, "/containers/create") {
				t.Fatalf("the daemon was asked for a container: %s", s.Body)
			}
		})
	}
}

func TestCreateSends(t *testing.T) {
	b := newFake(t, "1.45", func(o *Options) {
		o.Limits = Limits{Memory: 1 << 30, NanoCPUs: 2e9, Pids: 100, ShmSize: 1 << 20, CgroupParent: "/build", Ulimits: map[string]int64{"nofile": 1024}}
	})
	for _, tt := range []struct {
		name, body string
		check      func(r *container.CreateRequest) (got, want any)
	}{
		{"labels", `{"Labels":{"a":"1"}}`, func(r *container.CreateRequest) (any, any) {
			return r.Labels, map[string]string{"a": "1", fakeOwner: fakeID, LabelGuard: fakeID}
		}},
		{"the build's network in place of the default", `{}`, func(r *container.CreateRequest) (any, any) {
			return []any{r.HostConfig.NetworkMode, r.NetworkingConfig.EndpointsConfig["drone-abc"].Aliases}, []any{container.NetworkMode("drone-abc"), []string{"x"}}
		}},
		{"the default's endpoint", `{"HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["y"]}}}}`, func(r *container.CreateRequest) (any, any) {
			return r.NetworkingConfig.EndpointsConfig["drone-abc"].Aliases, []string{"y", "x"}
		}},
		{"a network of the client's", `{"HostConfig":{"NetworkMode":"inner"}}`, func(r *container.CreateRequest) (any, any) {
			return []any{r.HostConfig.NetworkMode, slices.Collect(maps.Keys(r.NetworkingConfig.EndpointsConfig))}, []any{container.NetworkMode("drone-abc.inner"), []string{"drone-abc.inner"}}
		}},
		// What isn't there, or is another's, is named as the client's own would be: the daemon
		// doesn't find it when the container is started.
		{"the network of a foreign container", `{"HostConfig":{"NetworkMode":"container:` + idForeign + `"}}`, func(r *container.CreateRequest) (any, any) {
			return r.HostConfig.NetworkMode, container.NetworkMode("container:drone-abc." + idForeign)
		}},
		{"the network of a container with forged labels", `{"HostConfig":{"NetworkMode":"container:` + idForged + `"}}`, func(r *container.CreateRequest) (any, any) {
			return r.HostConfig.NetworkMode, container.NetworkMode("container:drone-abc." + idForged)
		}},
		{"a foreign network", `{"HostConfig":{"NetworkMode":"drone-xyz"}}`, func(r *container.CreateRequest) (any, any) {
			return []any{r.HostConfig.NetworkMode, slices.Collect(maps.Keys(r.NetworkingConfig.EndpointsConfig))}, []any{container.NetworkMode("drone-abc.drone-xyz"), []string{"drone-abc.drone-xyz"}}
		}},
		{"a foreign network, with an endpoint", `{"HostConfig":{"NetworkMode":"drone-xyz"},"NetworkingConfig":{"EndpointsConfig":{"drone-xyz":{}}}}`, func(r *container.CreateRequest) (any, any) {
			return slices.Collect(maps.Keys(r.NetworkingConfig.EndpointsConfig)), []string{"drone-abc.drone-xyz"}
		}},
		{"no network", `{"HostConfig":{"NetworkMode":"none"}}`, func(r *container.CreateRequest) (any, any) {
			return []any{r.HostConfig.NetworkMode, len(r.HostConfig.ExtraHosts)}, []any{container.NetworkMode("none"), 0}
		}},
		{"the network of a step", `{"HostConfig":{"NetworkMode":"container:222222222222"}}`, func(r *container.CreateRequest) (any, any) {
			return r.HostConfig.NetworkMode, container.NetworkMode("container:" + idStep)
		}},
		{"processes of a sibling", `{"HostConfig":{"PidMode":"container:db"}}`, func(r *container.CreateRequest) (any, any) {
			return r.HostConfig.PidMode, container.PidMode("container:" + idOwn)
		}},
		{"ports on the gateway", `{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8080"},{"HostIp":"0.0.0.0","HostPort":"1"}],"81/tcp":[]}}}`, func(r *container.CreateRequest) (any, any) {
			b, _ := json.Marshal(r.HostConfig.PortBindings)
			return string(b), `{"80/tcp":[{"HostIp":"172.20.0.1","HostPort":"8080"},{"HostIp":"172.20.0.1","HostPort":"1"}],"81/tcp":[{"HostIp":"172.20.0.1","HostPort":""}]}`
		}},
		{"all ports on the gateway", `{"ExposedPorts":{"80/tcp":{}},"HostConfig":{"PublishAllPorts":true}}`, func(r *container.CreateRequest) (any, any) {
			b, _ := json.Marshal(r.HostConfig.PortBindings)
			return []any{string(b), r.HostConfig.PublishAllPorts}, []any{`{"5432/tcp":[{"HostIp":"172.20.0.1","HostPort":""}],"80/tcp":[{"HostIp":"172.20.0.1","HostPort":""}]}`, false}
		}},
		{"extra hosts", `{"HostConfig":{"ExtraHosts":["me:host-gateway","a:1.2.3.4","six:::1"]}}`, func(r *container.CreateRequest) (any, any) {
			return r.HostConfig.ExtraHosts, []string{"me:172.20.0.1", "a:1.2.3.4", "six:::1", "host.docker.internal:172.20.0.1"}
		}},
		{"limits", `{"HostConfig":{"Memory":4294967296,"NanoCpus":8000000000,"PidsLimit":-1,"ShmSize":4194304,"MemorySwap":-1,"Ulimits":[{"Name":"nofile","Soft":5000,"Hard":-1}]}}`, func(r *container.CreateRequest) (any, any) {
			h := r.HostConfig
			return []any{h.Memory, h.NanoCPUs, *h.PidsLimit, h.ShmSize, h.MemorySwap, h.Ulimits[0].Hard, h.Ulimits[0].Soft, h.CgroupParent}, []any{int64(1 << 30), int64(2e9), int64(100), int64(1 << 20), int64(2 << 30), int64(1024), int64(1024), "/build"}
		}},
		{"limits below the limits", `{"HostConfig":{"Memory":4194304,"CpuPeriod":100000,"CpuQuota":50000,"PidsLimit":5}}`, func(r *container.CreateRequest) (any, any) {
			h := r.HostConfig
			return []any{h.Memory, h.CPUQuota, *h.PidsLimit}, []any{int64(4 << 20), int64(50000), int64(5)}
		}},
		{"more by the other notation", `{"HostConfig":{"CpuPeriod":1000,"CpuQuota":64000}}`, func(r *container.CreateRequest) (any, any) {
			h := r.HostConfig
			return []any{h.NanoCPUs, h.CPUQuota, h.CPUPeriod}, []any{int64(2e9), int64(0), int64(0)}
		}},
		{"a volume of the client's", `{"HostConfig":{"Binds":["data:/d:ro"]}}`, func(r *container.CreateRequest) (any, any) { return mountOf(r, "/d"), "volume drone-abc.data ro" }},
		{"a new volume", `{"HostConfig":{"Binds":["new:/d"]}}`, func(r *container.CreateRequest) (any, any) { return mountOf(r, "/d"), "volume drone-abc.new" }},
		{"a foreign volume's name", `{"HostConfig":{"Binds":["foreign:/d"]}}`, func(r *container.CreateRequest) (any, any) { return mountOf(r, "/d"), "volume drone-abc.foreign" }},
		{"a cache that isn't mounted", `{"HostConfig":{"Binds":["cache:/d"]}}`, func(r *container.CreateRequest) (any, any) { return mountOf(r, "/d"), "volume drone-abc.cache" }},
		{"an anonymous volume", `{"HostConfig":{"Binds":["/d"]}}`, func(r *container.CreateRequest) (any, any) { return mountOf(r, "/d"), "volume  labelled" }},
		{"VOLUME", `{"Volumes":{"/d":{}}}`, func(r *container.CreateRequest) (any, any) {
			return []any{mountOf(r, "/d"), len(r.Volumes)}, []any{"volume  labelled", 0}
		}},
		{"the image's VOLUME", `{}`, func(r *container.CreateRequest) (any, any) { return mountOf(r, "/var/lib/db"), "volume  labelled" }},
		{"the image's VOLUME, given", `{"HostConfig":{"Binds":["data:/var/lib/db/"]}}`, func(r *container.CreateRequest) (any, any) {
			return []any{mountOf(r, "/var/lib/db/"), len(r.HostConfig.Mounts)}, []any{"volume drone-abc.data", 1}
		}},
		{"the workspace", `{"HostConfig":{"Binds":["/drone/src:/src"]}}`, func(r *container.CreateRequest) (any, any) {
			return mountOf(r, "/src"), "volume drone-abc-workspace nocopy"
		}},
		{"a part of it", `{"HostConfig":{"Binds":["/drone/src/a/../b:/src"]}}`, func(r *container.CreateRequest) (any, any) {
			return mountOf(r, "/src"), "volume drone-abc-workspace nocopy sub=b"
		}},
		{"what is read-only stays so", `{"HostConfig":{"Binds":["/cache/npm:/c:rw"]}}`, func(r *container.CreateRequest) (any, any) {
			return mountOf(r, "/c"), "volume cache ro nocopy sub=npm"
		}},
		{"the socket", `{"HostConfig":{"Binds":["/run/../var/run/docker.sock:/s"]}}`, func(r *container.CreateRequest) (any, any) { return mountOf(r, "/s"), "bind /guard.sock" }},
		{"the socket's folder", `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/var/run","Target":"/s"}]}}`, func(r *container.CreateRequest) (any, any) {
			return mountOf(r, "/s"), "bind /guard.d"
		}},
		{"restart", `{"HostConfig":{"RestartPolicy":{"Name":"always"}}}`, func(r *container.CreateRequest) (any, any) {
			return r.HostConfig.RestartPolicy.Name, container.RestartPolicyOnFailure
		}},
		{"security", `{"HostConfig":{"SecurityOpt":["no-new-privileges:true"],"CapDrop":["ALL"],"Devices":[],"CapAdd":[],"OomKillDisable":false}}`, func(r *container.CreateRequest) (any, any) {
			return []any{[]string(r.HostConfig.CapDrop), r.HostConfig.SecurityOpt, r.HostConfig.Devices == nil}, []any{[]string{"ALL"}, []string{"no-new-privileges:true"}, true}
		}},
		{"unknown but null", `{"HostConfig":{"Later":null,"DiskQuota":0},"Future": null}`, func(r *container.CreateRequest) (any, any) { return r.Image, "img" }},
		{"links", `{"HostConfig":{"Links":["/db:sql"]}}`, func(r *container.CreateRequest) (any, any) {
			return []any{r.HostConfig.Links, r.NetworkingConfig.EndpointsConfig["drone-abc"].Links}, []any{[]string(nil), []string{"drone-abc.db:sql"}}
		}},
		{"volumes from a step", `{"HostConfig":{"VolumesFrom":["222222222222:ro"]}}`, func(r *container.CreateRequest) (any, any) {
			return r.HostConfig.VolumesFrom, []string{idStep + ":ro"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := `{"Image":"img"`
			if tt.body != "{}" {
				body += ","
			}
			status, message := b.do(t, "POST", "/v1.41/containers/create?name=x", body+tt.body[1:])
			if status != 201 {
				t.Fatalf("answers %d %q", status, message)
			}
			if s := b.daemon.last(); !strings.Contains(s.Query, "name=drone-abc.x") {
				t.Errorf("the name is %s", s.Query)
			}
			got, want := tt.check(b.created(t))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
		})
	}
}

// mountOf describes the mount at a target.
func mountOf(r *container.CreateRequest, target string) string {
	for _, m := range r.HostConfig.Mounts {
		if m.Target != target {
			continue
		}
		s := string(m.Type) + " " + m.Source
		if m.ReadOnly {
			s += " ro"
		}
		if o := m.VolumeOptions; o != nil {
			if o.NoCopy {
				s += " nocopy"
			}
			if o.Subpath != "" {
				s += " sub=" + o.Subpath
			}
			if o.Labels[LabelGuard] == fakeID {
				s += " labelled"
			}
		}
		return s
	}
	return "none"
}

func TestCreateNames(t *testing.T) {
	b := newFake(t, "1.41")
	for _, tt := range []struct {
		name, query, want string
		status            int
	}{
		{"none", "", "name=drone-abc.", 201},
		{"plain", "?name=db", "name=drone-abc.db", 201},
		{"with a slash", "?name=/db", "name=drone-abc.db", 201},
		{"scoped already", "?name=drone-abc.db", "name=drone-abc.db", 201},
		{"another's", "?name=drone-xyz.db", "name=drone-abc.drone-xyz.db", 201},
		{"path", "?name=../db", "", 400},
		{"two", "?name=a&name=b", "", 400},
		{"unknown parameter", "?nome=a", "name=drone-abc.", 201},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, message := b.do(t, "POST", "/containers/create"+tt.query, `{"Image":"img"}`)
			if status != tt.status {
				t.Fatalf("answers %d %q", status, message)
			}
			if s := b.daemon.last(); status == 201 && !strings.HasPrefix(s.Query, tt.want) {
				t.Errorf("asks the daemon for %s, want %s", s.Query, tt.want)
			}
		})
	}
}

func TestBodyLimit(t *testing.T) {
	b := newFake(t, "1.41")
	status, message := b.do(t, "POST", "/containers/create", `{"Image":"img","Env":["`+strings.Repeat("x", bodyLimit)+`"]}`)
	if status != 413 {
		t.Errorf("a body that is too large is answered %d %s", status, message)
	}
	if s := b.daemon.last(); s != nil {
		t.Errorf("the daemon was asked for %s", s.Path)
	}
}

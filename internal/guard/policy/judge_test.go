package policy

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/volume"
)

// read decodes a body.
func read[T any](t *testing.T, body string) *T {
	t.Helper()
	v := new(T)
	if err := json.Unmarshal([]byte(body), v); err != nil {
		t.Fatal(err)
	}
	return v
}

// judged fails unless err is what is wanted: "" for none, or a part of it.
func judged(t *testing.T, what string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

func TestUpdate(t *testing.T) {
	for _, tt := range []struct{ name, body, want, warning, result string }{
		{"nothing", `{}`, "", "", `"Memory":0`},
		{"more memory", `{"Memory":4294967296}`, "", "Memory is cut down", `"Memory":1073741824`},
		{"less memory", `{"Memory":4194304}`, "", "", `"Memory":4194304`},
		{"no limit of processes", `{"PidsLimit":0}`, "", "", `"PidsLimit":100`},
		{"more processors", `{"NanoCpus":9000000000}`, "", "", `"NanoCpus":2000000000`},
		{"more processors in the other notation", `{"CpuQuota":900000}`, "", "NanoCpus is set", `"CpuQuota":0`},
		{"processors that aren't mentioned", `{"CpuShares":5}`, "", "", `"NanoCpus":0`},
		{"a cgroup that isn't mentioned", `{"CpuShares":5}`, "", "", `"CgroupParent":""`},
		{"devices", `{"Devices":[{"PathOnHost":"/dev/sda"}]}`, "Devices", "", ""},
		{"a cgroup", `{"CgroupParent":"/x"}`, "CgroupParent", "", ""},
		{"a restart policy", `{"RestartPolicy":{"Name":"always"}}`, "RestartPolicy", "", ""},
		{"the restart policy no", `{"RestartPolicy":{"Name":"no"}}`, "", "", `"Name":"no"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := read[container.UpdateConfig](t, tt.body)
			warnings, err := Update(t.Context(), limited(), u)
			judged(t, "update", err, tt.want)
			if all := strings.Join(warnings, "\n"); (all == "") != (tt.warning == "") || !strings.Contains(all, tt.warning) {
				t.Errorf("warns %q, want %q", all, tt.warning)
			}
			if b, err := json.Marshal(u); err != nil || !strings.Contains(string(b), tt.result) {
				t.Errorf("becomes %s, want %s (%v)", b, tt.result, err)
			}
		})
	}
}

func TestSmallRequests(t *testing.T) {
	for body, want := range map[string]string{
		`{"Cmd":["id"],"User":"root","Tty":true}`: "", `{"Privileged":true}`: "Privileged",
	} {
		judged(t, "exec "+body, Exec(read[container.ExecOptions](t, body)), want)
	}
	for body, want := range map[string]string{
		`{"Name":"v","Driver":"local","Labels":{"a":"b"}}`: "", `{}`: "", `{"Driver":"nfs"}`: "Driver", `{"DriverOpts":{"o":"bind"}}`: "DriverOpts", `{"Name":"../v"}`: "invalid characters",
		`{"Labels":{"io.drone-runner-sysbox.persistent":"x"}}`: "the runner's own", `{"ClusterVolumeSpec":{"Group":"g"}}`: "ClusterVolumeSpec",
	} {
		o := read[volume.CreateOptions](t, body)
		err := VolumeCreate(newMemory(), o)
		judged(t, "volume "+body, err, want)
		if err == nil && o.Labels[testOwner] != testNetwork {
			t.Errorf("volume %s has the labels %v", body, o.Labels)
		}
	}
	for body, want := range map[string]string{
		`{"CheckpointID":"a","Exit":true}`: "", `{"CheckpointID":"../a"}`: "Invalid checkpoint", `{"CheckpointID":"a","CheckpointDir":"/etc"}`: "CheckpointDir",
	} {
		judged(t, "checkpoint "+body, Checkpoint(*read[checkpoint.CreateOptions](t, body)), want)
	}
	judged(t, "a folder of checkpoints", CheckpointDir("dir", "/etc"), "dir is refused")
	judged(t, "no folder of checkpoints", CheckpointDir("dir", ""), "")
	judged(t, "ps", Top("-o pid,args -e"), "")
	judged(t, "ps of more", Top("-o $(id)"), "ps_args")
	judged(t, "an image's configuration", Commit(&container.Config{Labels: map[string]string{"a": "b"}, Volumes: map[string]struct{}{"/proc": {}}}), "")
	judged(t, "an image's label of the runner's", Commit(&container.Config{Labels: map[string]string{testOwner: "x"}}), "the runner's own")
	judged(t, "changes", Changes([]string{"CMD x"}), "")
	judged(t, "changes of the runner's labels", Changes([]string{"LABEL IO.drone-runner-sysbox.spec=x"}), "the runner's own")
	judged(t, "a long change", Changes([]string{strings.Repeat("x", 1<<17)}), "too long")
	judged(t, "an import", ImportSource("-"), "")
	judged(t, "an import from elsewhere", ImportSource("http://169.254.169.254/"), "fromSrc")
	judged(t, "credentials", Auth(&registry.AuthConfig{Username: "a", Password: "b"}), "")
}

func TestNetworkCreate(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"a bridge", `{"Name":"n","Driver":"bridge","Options":{"com.docker.network.driver.mtu":"1400","com.docker.network.bridge.host_binding_ipv4":"0.0.0.0"}}`, ""},
		{"a subnet of the pools", `{"Name":"n","IPAM":{"Config":[{"Subnet":"10.1.2.0/24"}]}}`, ""},
		{"two subnets", `{"Name":"n","IPAM":{"Config":[{"Subnet":"10.1.2.0/24"},{"Subnet":"8.8.8.0/24"}]}}`, "IPAM.Config[1].Subnet"},
		{"a subnet outside", `{"Name":"n","IPAM":{"Config":[{"Subnet":"8.8.8.0/24"}]}}`, "isn't within the runner's pools"},
		{"a subnet above", `{"Name":"n","IPAM":{"Config":[{"Subnet":"0.0.0.0/0"}]}}`, "isn't within the runner's pools"},
		{"a subnet of the machine's", `{"Name":"n","IPAM":{"Config":[{"Subnet":"10.7.0.0/16"}]}}`, "is in use"},
		{"the server's subnet", `{"Name":"n","IPAM":{"Config":[{"Subnet":"10.9.0.0/16"}]}}`, "would hide the Drone server"},
		{"no subnet", `{"Name":"n","IPAM":{"Config":[{"Subnet":"x"}]}}`, "invalid subnet"},
		{"a name of Docker's", `{"Name":"host"}`, "predefined host"},
		{"a name with a blank", `{"Name":"a b"}`, ""},
		{"no name", `{"Name":" "}`, "invalid network name"},
		{"a path", `{"Name":"../b"}`, "invalid network name"},
		{"macvlan", `{"Name":"n","Driver":"macvlan"}`, "Driver"},
		{"a swarm's", `{"Name":"n","Scope":"swarm"}`, "Scope"},
		{"ingress", `{"Name":"n","Ingress":true}`, "Ingress"},
		{"a configuration", `{"Name":"n","ConfigOnly":true}`, "ConfigOnly"},
		{"another's configuration", `{"Name":"n","ConfigFrom":{"Network":"x"}}`, "ConfigFrom"},
		{"no other's configuration", `{"Name":"n","ConfigFrom":{"Network":""}}`, ""},
		{"the interface's name", `{"Name":"n","Options":{"com.docker.network.bridge.name":"docker0"}}`, "bridge.name"},
		{"an address driver", `{"Name":"n","IPAM":{"Driver":"x"}}`, "IPAM.Driver"},
		{"an address driver's options", `{"Name":"n","IPAM":{"Options":{"a":"b"}}}`, "IPAM.Options"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newMemory()
			w.subnets = Subnets{
				Pools:    []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				Taken:    []netip.Prefix{netip.MustParsePrefix("10.7.1.0/24")},
				Reserved: []Reservation{{netip.MustParsePrefix("10.9.0.7/32"), "the Drone server"}},
			}
			r := read[network.CreateRequest](t, tt.body)
			err := NetworkCreate(t.Context(), w, r, "dr0")
			judged(t, tt.name, err, tt.want)
			if err == nil && (r.Options[hostBinding] != testGateway || r.Options[bridgeName] != "dr0" || r.Labels[testOwner] != testNetwork) {
				t.Errorf("becomes %+v", r)
			}
		})
	}
}

func TestConnect(t *testing.T) {
	for _, tt := range []struct{ name, body, want, aliases string }{
		{"a container", `{"Container":"/db"}`, "", "db"},
		{"a container with a name", `{"Container":"db","EndpointConfig":{"Aliases":["sql"]}}`, "", "sql db"},
		{"a step", `{"Container":"step"}`, "", ""},
		{"another's", `{"Container":"theirs"}`, "no such thing", ""},
		{"driver options", `{"Container":"db","EndpointConfig":{"DriverOpts":{"a":"b"}}}`, "DriverOpts", ""},
		// which the daemon doesn't know by that name
		{"a link to another's", `{"Container":"db","EndpointConfig":{"Links":["theirs"]}}`, "", "db"},
	} {
		r := read[network.ConnectOptions](t, tt.body)
		err := Connect(t.Context(), newMemory(), r)
		judged(t, tt.name, err, tt.want)
		if err == nil && (!strings.HasPrefix(r.Container, "id-") || strings.Join(r.EndpointConfig.Aliases, " ") != tt.aliases) {
			t.Errorf("%s becomes %+v", tt.name, r)
		}
	}
	own, other := Network{ID: "n", Own: true}, Network{ID: "m"}
	for _, tt := range []struct {
		who  string
		n    Network
		want string
	}{{"db", own, ""}, {"step", other, ""}, {"step", own, "disconnecting a step"}, {"theirs", other, "no such thing"}} {
		judged(t, "disconnect "+tt.who, Disconnect(t.Context(), newMemory(), tt.n, &network.DisconnectOptions{Container: tt.who}), tt.want)
	}
}

func TestBuild(t *testing.T) {
	for _, tt := range []struct{ name, query, want, warning, result string }{
		{"nothing", "", "", "", "cgroupparent=%2Fstage"},
		{"more memory", "memory=4294967296", "", "Memory is cut down", "memory=1073741824"},
		{"no memory", "memory=x", "memory", "", ""},
		{"processors", "", "", "", "cpuquota=200000"},
		{"more shared memory", "shmsize=4194304", "", "shmsize is cut down", "shmsize=1048576"},
		{"limits", "ulimits=" + url.QueryEscape(`[{"Name":"nofile","Soft":1,"Hard":-1}]`), "", "Ulimits nofile", url.QueryEscape(`"Hard":1024`)},
		{"malformed limits", "ulimits=x", "ulimits", "", ""},
		{"arguments", "buildargs=" + url.QueryEscape(`{"A":"b","C":null}`), "", "", url.QueryEscape(`{"A":"b","C":null}`)},
		{"malformed arguments", "buildargs=x", "buildargs", "", ""},
		{"labels", "labels=" + url.QueryEscape(`{"a":"b"}`), "", "", "labels="},
		{"labels of the runner's", "labels=" + url.QueryEscape(`{"`+testOwner+`":"b"}`), "the runner's own", "", ""},
		{"hosts", "extrahosts=a:host-gateway,b:1.2.3.4", "", "", "extrahosts=a%3A172.20.0.1&extrahosts=b%3A1.2.3.4"},
		{"malformed hosts", "extrahosts=a", "add-host", "", ""},
		{"what is passed", "nocache=1&target=x", "", "", "target=x"},
		{"squash", "squash=1", "squash", "", ""},
		{"outputs", "outputs=" + url.QueryEscape(`[{"Type":"local"}]`), "outputs", "", ""},
		{"no outputs", "outputs=null", "", "", ""},
		{"profiles", "securityopt=seccomp=unconfined", "securityopt", "", ""},
		{"isolation", "isolation=hyperv", "isolation", "", ""},
		{"a cgroup", "cgroupparent=/", "CgroupParent", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			plan, warnings, err := Build(t.Context(), limited(), q)
			judged(t, tt.name, err, tt.want)
			if all := strings.Join(warnings, "\n"); (all == "") != (tt.warning == "") || !strings.Contains(all, tt.warning) {
				t.Errorf("warns %q, want %q", all, tt.warning)
			}
			if got := plan.Query.Encode(); err == nil && !strings.Contains(got, tt.result) {
				t.Errorf("becomes %s, want %s", got, tt.result)
			}
		})
	}
}

func TestBuildNetworks(t *testing.T) {
	for _, tt := range []struct {
		mode, real string
		own        bool
		want       string
	}{
		{"", "", false, ""}, {"default", "", false, ""}, {"bridge", "", false, ""}, {"none", "none", false, ""}, {"inner", "drone-abc.inner", true, ""}, {"container:db", "container:id-db", true, ""},
		{"host", "host", true, "networkmode"}, {"theirs", "", false, "no such thing"}, {"container:theirs", "", false, "no such thing"},
	} {
		real, own, err := BuildNetwork(t.Context(), newMemory(), tt.mode)
		judged(t, tt.mode, err, tt.want)
		if err == nil && (real != tt.real || own != tt.own) {
			t.Errorf("%q becomes %q, %v", tt.mode, real, own)
		}
	}
	for mode, want := range map[string]string{"": "", "bridge": "", "none": "", "host": "networkmode", "inner": "networkmode"} {
		_, err := BuildKitNetwork(mode)
		judged(t, "BuildKit on "+mode, err, want)
	}
	judged(t, "a context", BuildRemote(""), "")
	judged(t, "a context elsewhere", BuildRemote("http://169.254.169.254/"), "remote")
}

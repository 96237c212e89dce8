package guard

import (
	"net/url"
	"strings"
	"testing"
)

// TestFamilies shows, endpoint by endpoint, what a client gets and what the daemon is asked for.
func TestFamilies(t *testing.T) {
	b := newFake(t, "1.41", func(o *Options) { o.Limits.Memory = 1 << 30; o.Limits.Pids = 50 })
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		message                  string // part of what the client reads
		asks                     string // "METHOD path?query body" for the daemon, or "" for nothing; a part is enough
	}{
		{"start by name", "POST", "/containers/db/start", "", 200, "", "POST /v1.41/containers/" + idOwn + "/start?"},
		{"start by the scoped name", "POST", "/v1.30/containers/drone-abc.db/start", "", 200, "", "POST /v1.30/containers/" + idOwn + "/start?"},
		{"start by the beginning of an id", "POST", "/containers/1111/start", "", 200, "", "POST /v1.41/containers/" + idOwn + "/start?"},
		{"start with a body", "POST", "/containers/db/start", `{"Privileged":true}`, 200, "", "POST /v1.41/containers/" + idOwn + "/start? "},
		{"start from a checkpoint elsewhere", "POST", "/containers/db/start?checkpoint=a&checkpoint-dir=/etc", "", 403, "checkpoint-dir", ""},
		{"start another's", "POST", "/containers/" + idForeign + "/start", "", 404, "No such container", ""},
		{"start another's by the beginning of its id", "POST", "/containers/333333333333/start", "", 404, "No such container", ""},
		{"start one with forged labels", "POST", "/containers/nifty_bohr/start", "", 404, "No such container", ""},
		{"stop a step", "POST", "/containers/" + idStep + "/stop", "", 403, "step of the pipeline", ""},
		{"kill", "POST", "/containers/db/kill?signal=HUP", "", 200, "", "POST /v1.41/containers/" + idOwn + "/kill?signal=HUP"},
		{"remove takes the anonymous volumes", "DELETE", "/containers/db?force=1", "", 200, "", "DELETE /v1.41/containers/" + idOwn + "?force=1&v=1"},
		{"remove a link", "DELETE", "/containers/db?link=1", "", 403, "link", ""},
		{"top with other characters", "GET", "/containers/db/top?ps_args=" + url.QueryEscape("-o $(id)"), "", 403, "ps_args", ""},
		{"logs", "GET", "/containers/db/logs?stdout=1&tail=5", "", 200, "", "GET /v1.41/containers/" + idOwn + "/logs?stdout=1&tail=5"},
		{"rename", "POST", "/containers/db/rename?name=/sql", "", 200, "", ""},
		{"update", "POST", "/containers/db/update", `{"Memory":4294967296}`, 200, "", `"Memory":1073741824`},
		{"update keeps what isn't mentioned", "POST", "/containers/db/update", `{"CpuShares":5}`, 200, "", `"Memory":0`},
		{"update without a limit of processes", "POST", "/containers/db/update", `{"PidsLimit":-1}`, 200, "", `"PidsLimit":50`},
		{"update with zero for no limit", "POST", "/containers/db/update", `{"PidsLimit":0}`, 200, "", `"PidsLimit":50`},
		{"update of devices", "POST", "/containers/db/update", `{"Devices":[{"PathOnHost":"/dev/sda"}]}`, 403, "Devices", ""},
		{"update of the restart policy", "POST", "/containers/db/update", `{"RestartPolicy":{"Name":"always"}}`, 403, "RestartPolicy", ""},
		{"update of the cgroup", "POST", "/containers/db/update", `{"CgroupParent":"/x"}`, 403, "CgroupParent", ""},
		{"checkpoint elsewhere", "POST", "/containers/db/checkpoints", `{"CheckpointID":"a","CheckpointDir":"/etc"}`, 403, "CheckpointDir", ""},
		{"checkpoints elsewhere", "GET", "/containers/db/checkpoints?dir=/etc", "", 403, "dir", ""},
		{"checkpoint with a path for a name", "POST", "/containers/db/checkpoints", `{"CheckpointID":"../a"}`, 400, "", ""},
		{"copy of old", "POST", "/containers/db/copy", `{"Resource":"/etc"}`, 403, "archive", ""},

		{"exec", "POST", "/containers/db/exec", `{"Cmd":["id"]}`, 200, "", "POST /v1.41/containers/" + idOwn + "/exec?"},
		{"exec, privileged", "POST", "/containers/db/exec", `{"Cmd":["id"],"Privileged":true}`, 403, "Privileged", ""},
		{"exec, privileged in another case", "POST", "/containers/db/exec", `{"Cmd":["id"],"pRIVILEGED":true}`, 403, "Privileged", ""},
		{"exec in a step", "POST", "/containers/" + idStep + "/exec", `{"Cmd":["id"]}`, 403, "step of the pipeline", ""},
		{"exec in another's", "POST", "/containers/" + idForeign + "/exec", `{"Cmd":["id"]}`, 404, "No such container", ""},
		{"an exec", "POST", "/exec/aaaa/resize?h=1&w=2", "", 200, "", "POST /v1.41/exec/aaaa/resize?h=1&w=2"},
		{"another's exec", "POST", "/exec/bbbb/start", `{}`, 404, "No such exec", ""},
		{"a step's exec", "POST", "/exec/cccc/start", `{}`, 404, "No such exec", ""},

		{"network", "POST", "/networks/create", `{"Name":"n","Driver":"bridge"}`, 200, "", `"com.docker.network.bridge.host_binding_ipv4":"172.20.0.1"`},
		{"network that exists", "POST", "/networks/create", `{"Name":"inner"}`, 409, "already exists", ""},
		{"network called host", "POST", "/networks/create", `{"Name":"host"}`, 403, "predefined", ""},
		{"macvlan", "POST", "/networks/create", `{"Name":"n","Driver":"macvlan"}`, 403, "Driver", ""},
		{"host driver", "POST", "/networks/create", `{"Name":"n","Driver":"host"}`, 403, "Driver", ""},
		{"swarm scope", "POST", "/networks/create", `{"Name":"n","Scope":"swarm"}`, 403, "Scope", ""},
		{"ingress", "POST", "/networks/create", `{"Name":"n","Ingress":true}`, 403, "Ingress", ""},
		{"config only", "POST", "/networks/create", `{"Name":"n","ConfigOnly":true}`, 403, "ConfigOnly", ""},
		{"config from", "POST", "/networks/create", `{"Name":"n","ConfigFrom":{"Network":"x"}}`, 403, "ConfigFrom", ""},
		{"the bridge's name", "POST", "/networks/create", `{"Name":"n","Options":{"com.docker.network.bridge.name":"docker0"}}`, 403, "bridge.name", ""},
		{"an address driver", "POST", "/networks/create", `{"Name":"n","IPAM":{"Driver":"x"}}`, 403, "IPAM.Driver", ""},
		{"a subnet outside", "POST", "/networks/create", `{"Name":"n","IPAM":{"Config":[{"Subnet":"8.8.8.0/24"}]}}`, 403, "pools", ""},
		{"a subnet that is all", "POST", "/networks/create", `{"Name":"n","IPAM":{"Config":[{"Subnet":"0.0.0.0/0"}]}}`, 403, "pools", ""},
		{"no subnet", "POST", "/networks/create", `{"Name":"n","IPAM":{"Config":[{"Subnet":"x"}]}}`, 400, "invalid subnet", ""},
		{"connect", "POST", "/networks/inner/connect", `{"Container":"db"}`, 200, "", `{"Container":"` + idOwn + `","EndpointConfig":{"IPAMConfig":null,"Links":null,"Aliases":["db"]`},
		{"connect a step", "POST", "/networks/inner/connect", `{"Container":"` + idStep + `"}`, 200, "", `"Container":"` + idStep},
		{"connect another's", "POST", "/networks/inner/connect", `{"Container":"` + idForeign + `"}`, 404, "No such container", ""},
		{"connect to another's", "POST", "/networks/drone-xyz/connect", `{"Container":"db"}`, 404, "not found", ""},
		{"connect with driver options", "POST", "/networks/inner/connect", `{"Container":"db","EndpointConfig":{"DriverOpts":{"a":"b"}}}`, 403, "DriverOpts", ""},
		{"disconnect a step from the build's network", "POST", "/networks/bridge/disconnect", `{"Container":"` + idStep + `"}`, 403, "step", ""},
		{"remove the build's network", "DELETE", "/networks/drone-abc", "", 403, "cannot be removed", ""},
		{"remove a network", "DELETE", "/networks/inner", "", 200, "", "DELETE /v1.41/networks/" + strings.Repeat("b", 64) + "?"},
		{"remove a network by the beginning of its id", "DELETE", "/networks/bbbbbbbbbbbb", "", 200, "", "DELETE /v1.41/networks/" + strings.Repeat("b", 64) + "?"},

		{"volume", "POST", "/volumes/create", `{"Name":"v"}`, 200, `"Name":"v"`, `"Name":"drone-abc.v"`},
		{"volume with options", "POST", "/volumes/create", `{"Name":"v","DriverOpts":{"type":"none","o":"bind","device":"/"}}`, 403, "DriverOpts", ""},
		{"volume with a driver", "POST", "/volumes/create", `{"Name":"v","Driver":"nfs"}`, 403, "Driver", ""},
		{"volume with a path for a name", "POST", "/volumes/create", `{"Name":"../v"}`, 400, "invalid characters", ""},
		{"cluster volume", "POST", "/volumes/create", `{"Name":"v","ClusterVolumeSpec":{"Group":"g"}}`, 403, "ClusterVolumeSpec", ""},
		{"cluster volume update", "PUT", "/volumes/v?version=1", `{}`, 403, "swarm", ""},
		{"another's volume", "GET", "/volumes/foreign", "", 404, "no such volume", ""},
		{"a volume of nobody's", "DELETE", "/volumes/cache", "", 404, "no such volume", ""},
		{"the workspace", "DELETE", "/volumes/drone-abc-workspace", "", 403, "goes with the stage", ""},
		{"a volume's removal", "DELETE", "/volumes/data", "", 200, "", "DELETE /v1.41/volumes/drone-abc.data?"},

		{"prune of networks", "POST", "/networks/prune", "", 200, "", `POST /v1.41/networks/prune?filters={"label":{"io.drone-runner-sysbox.guard=drone-abc":true}}`},
		{"prune of volumes by a label", "POST", "/volumes/prune?filters=" + url.QueryEscape(`{"label":["a"]}`), "", 200, "", `POST /v1.41/volumes/prune?filters={"label":{"a":true,"io.drone-runner-sysbox.guard=drone-abc":true}}`},
		{"prune by something else", "POST", "/volumes/prune?filters=" + url.QueryEscape(`{"x":["a"]}`), "", 400, "invalid filter", ""},
		{"prune of containers", "POST", "/containers/prune", "", 200, idOwn, "DELETE /v1.41/containers/" + idOwn + "?v=1"},
		{"prune of the build cache", "POST", "/build/prune?all=1", "", 200, "SpaceReclaimed", ""},

		{"plugins", "GET", "/plugins", "", 200, "[]", ""},
		{"no plugin", "GET", "/plugins/a/json", "", 404, `plugin "a" not found`, ""},
		{"a plugin's rights", "GET", "/plugins/privileges?remote=x", "", 403, "plugins", ""},
		{"plugin", "POST", "/plugins/a/b:c/enable", "", 404, `plugin "a/b:c" not found`, ""},
		{"swarm", "POST", "/swarm/init", `{}`, 403, "swarm", ""},
		{"services", "POST", "/services/create", `{}`, 503, "not a swarm manager", ""},
		{"leaving a swarm", "POST", "/swarm/leave", `{}`, 503, "not part of a swarm", ""},
		{"secrets", "GET", "/secrets", "", 503, "not a swarm manager", ""},
		{"debug", "GET", "/debug/pprof/cmdline", "", 403, "daemon", ""},
		{"unknown", "GET", "/nope", "", 404, "page not found", ""},
		{"unknown method", "PATCH", "/containers/db/json", "", 404, "page not found", ""},
		{"options", "OPTIONS", "/containers/json", "", 404, "page not found", ""},
		{"too old", "GET", "/v1.23/containers/json", "", 400, "too old", ""},
		{"too new", "GET", "/v1.42/containers/json", "", 400, "too new", ""},
		{"form", "POST", "/containers/db/kill", "signal=9", 200, "", "/kill? "},
		{"auth with more", "POST", "/auth", `{"username":"a","password":"b","serveraddress":"r"}`, 200, "", `"username":"a"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.daemon.forget()
			status, message := b.do(t, tt.method, tt.path, tt.body)
			if status != tt.status || !strings.Contains(message, tt.message) {
				t.Errorf("answers %d %s, want %d with %q", status, message, tt.status, tt.message)
			}
			asked := ""
			if s := b.daemon.last(); s != nil {
				q, err := url.QueryUnescape(s.Query)
				if err != nil {
					t.Fatal(err)
				}
				asked = s.Method + " " + s.Path + "?" + q + " " + s.Body
				for _, h := range []string{"Upgrade", "Cookie", "X-Test"} {
					if s.Header.Get(h) != "" {
						t.Errorf("the header %s reaches the daemon", h)
					}
				}
			}
			if tt.asks != "" && !strings.Contains(asked, tt.asks) || tt.asks == "" && tt.status >= 400 && asked != "" {
				t.Errorf("asks the daemon for %q, want %q", asked, tt.asks)
			}
		})
	}
}

// TestAnswers shows that answers hold the stage's own, under the client's names.
func TestAnswers(t *testing.T) {
	b := newFake(t, "1.41")
	for _, tt := range []struct {
		name, path string
		has, not   []string
	}{
		{"list", "/containers/json?all=1", []string{idOwn, `"/db"`}, []string{idStep, idForged, "drone-abc."}},
		{"list by name", "/containers/json?all=1&filters=" + url.QueryEscape(`{"name":["^/?d.$"]}`), []string{idOwn}, nil},
		{"list by another name", "/containers/json?all=1&filters=" + url.QueryEscape(`{"name":["x"]}`), []string{"[]"}, []string{idOwn}},
		{"inspection", "/containers/db/json", []string{`"/db"`, `"NetworkMode":"bridge"`, `"bridge":{`, "secret"}, []string{"drone-abc."}},
		{"inspection of a step", "/containers/" + idStep + "/json", []string{`"/drone-abc-1"`}, []string{"secret"}},
		{"networks", "/networks", []string{`"Name":"bridge"`, `"Name":"inner"`}, []string{"drone-abc."}},
		{"networks by the real name", "/networks?filters=" + url.QueryEscape(`{"name":["drone-abc"]}`), []string{`"Name":"drone-abc"`}, []string{"inner"}},
		{"volume", "/volumes/data", []string{`"Name":"data"`}, []string{"drone-abc."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := b.do(t, "GET", tt.path, "")
			if status != 200 {
				t.Fatalf("answers %d %s", status, text)
			}
			for _, s := range tt.has {
				if !strings.Contains(text, s) {
					t.Errorf("has no %s: %s", s, text)
				}
			}
			for _, s := range tt.not {
				if strings.Contains(text, s) {
					t.Errorf("has %s: %s", s, text)
				}
			}
		})
	}
}

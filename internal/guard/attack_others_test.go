//go:build !unit

package guard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// answered is the proof of a row that shows nothing but that the daemon does it.
func answered(a *guardtest.Answer) bool { return a.Status > 0 && a.Status < 400 }

// spent makes, for the run against the daemon, a container that the row may use up. It isn't
// started.
func spent(t *testing.T, a *arena, bare bool) words {
	t.Helper()
	if !bare {
		return nil
	}
	made, err := guardtest.Send(a.daemon, "POST", "/containers/create", `{"Image":"`+guardtest.Image+`","Cmd":["sleep","1000"]}`)
	var o struct{ ID string }
	if err != nil || json.Unmarshal([]byte(made.Body), &o) != nil || o.ID == "" {
		t.Fatalf("create a container: %v %d %s", err, made.Status, made.Body)
	}
	t.Cleanup(func() {
		if _, err := guardtest.Send(a.daemon, "DELETE", "/containers/"+o.ID+"?force=1", nil); err != nil {
			t.Error(err)
		}
	})
	return words{"container": o.ID}
}

// spentExec makes, for the run against the daemon, an exec that hasn't run.
func spentExec(t *testing.T, a *arena, bare bool) words {
	t.Helper()
	if !bare {
		return nil
	}
	return words{"exec": newExec(t, a.daemon, a.spare["container"], "cat", "/secret")}
}

// newExec makes an exec, around all guards.
func newExec(t *testing.T, daemon, container string, cmd ...string) string {
	t.Helper()
	made, err := guardtest.Send(daemon, "POST", "/containers/"+container+"/exec", map[string]any{"Cmd": cmd, "AttachStdout": true})
	var o struct{ ID string }
	if err != nil || json.Unmarshal([]byte(made.Body), &o) != nil || o.ID == "" {
		t.Fatalf("create an exec: %v %d %s", err, made.Status, made.Body)
	}
	return o.ID
}

// spentNetwork and spentVolume are spent of a network and a volume.
func spentNetwork(t *testing.T, a *arena, bare bool) words {
	t.Helper()
	if !bare {
		return nil
	}
	made, err := guardtest.Send(a.daemon, "POST", "/networks/create", `{"Name":"guardtest-spent"}`)
	var o struct{ ID string }
	if err != nil || json.Unmarshal([]byte(made.Body), &o) != nil || o.ID == "" {
		t.Fatalf("create a network: %v %d %s", err, made.Status, made.Body)
	}
	return words{"network": o.ID}
}

func spentVolume(t *testing.T, a *arena, bare bool) words {
	t.Helper()
	if !bare {
		return nil
	}
	if made, err := guardtest.Send(a.daemon, "POST", "/volumes/create", `{"Name":"guardtest-spent"}`); err != nil || made.Status != http.StatusCreated {
		t.Fatalf("create a volume: %v %+v", err, made)
	}
	return words{"volume2": "guardtest-spent"}
}

// hidden wants an answer without anything of another's; the arena looks for the victim's secret in
// every answer.
func hidden(t *testing.T, a *arena, got *guardtest.Answer) {
	t.Helper()
	if got.Status != http.StatusOK {
		t.Errorf("the guard answers %d %s", got.Status, got.Body)
	}
	for _, k := range []string{"container", "network", "volume2", "exec", "step", "own.step"} {
		if strings.Contains(got.Body, a.target[k]) {
			t.Errorf("the answer tells of the %s %s: %.2000s", k, a.target[k], got.Body)
		}
	}
}

// publishesOnItsOwn wants that a network, if one was made, publishes ports on the address of the
// stage's network alone.
func publishesOnItsOwn(t *testing.T, a *arena, got *guardtest.Answer) {
	t.Helper()
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(got.Body), &made); err != nil || made.ID == "" {
		return // refused
	}
	gateway := a.attacker.Host("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", a.attacker.Network)
	if binding := a.attacker.Host("network", "inspect", "-f", `{{index .Options "com.docker.network.bridge.host_binding_ipv4"}}`, made.ID); binding != gateway {
		t.Errorf("the network publishes on %s, want %s", binding, gateway)
	}
}

// attackOthers is about what belongs to another stage, and to the runner.
func attackOthers(t *testing.T, a *arena) {
	const absent, step = "No such container", "step of the pipeline"
	rows := []attack{
		{name: "inspect", method: "GET", path: "/containers/{container}/json", says: absent},
		{name: "inspect by name", method: "GET", path: "/containers/{name}/json", says: absent},
		{name: "inspect by a short id", method: "GET", path: "/containers/{short}/json", says: absent},
		{name: "inspect a step of the victim", method: "GET", path: "/containers/{step}/json", bare: answered, says: absent},
		{name: "inspect a step of the victim by name", method: "GET", path: "/containers/{stepname}/json", bare: answered, says: absent},
		{name: "logs", method: "GET", path: "/containers/{container}/logs?stdout=1", says: absent},
		{name: "logs by name", method: "GET", path: "/containers/{name}/logs?stdout=1", says: absent},
		{name: "top", method: "GET", path: "/containers/{container}/top", bare: answered, says: absent},
		{name: "changes", method: "GET", path: "/containers/{container}/changes", bare: answered, says: absent},
		{name: "export", method: "GET", path: "/containers/{container}/export", bare: answered, says: absent},
		{name: "stats", method: "GET", path: "/containers/{container}/stats?stream=0&one-shot=1", bare: answered, says: absent},
		{name: "archive of a file", method: "GET", path: "/containers/{container}/archive?path=/secret", says: absent},
		{name: "archive of a volume", method: "GET", path: "/containers/{container}/archive?path=/v", says: absent},
		{name: "stat of a file", method: "HEAD", path: "/containers/{container}/archive?path=/secret", bare: answered},
		{name: "unpack into it", method: "PUT", path: "/containers/{container}/archive?path=/", body: "", header: []string{"Content-Type: application/x-tar"}, says: absent},
		{name: "resize", method: "POST", path: "/containers/{container}/resize?h=1&w=1", says: absent},
		{name: "pause", method: "POST", path: "/containers/{container}/pause", says: absent},
		{name: "unpause", method: "POST", path: "/containers/{container}/unpause", says: absent},
		{name: "kill", method: "POST", path: "/containers/{container}/kill?signal=CONT", says: absent},
		{name: "start", method: "POST", path: "/containers/{container}/start", prepare: spent, says: absent},
		{name: "stop", method: "POST", path: "/containers/{container}/stop?t=0", prepare: spent, says: absent},
		{name: "restart", method: "POST", path: "/containers/{container}/restart?t=0", prepare: spent, says: absent},
		{name: "wait", method: "POST", path: "/containers/{container}/wait", prepare: func(t *testing.T, a *arena, bare bool) words {
			w := spent(t, a, bare)
			if bare { // one that has ended
				a.attacker.Host("start", w["container"])
				a.attacker.Host("kill", w["container"])
			}
			return w
		}, says: absent},
		{name: "rename", method: "POST", path: "/containers/{container}/rename?name=guardtest-renamed", prepare: spent, says: absent},
		{name: "update", method: "POST", path: "/containers/{container}/update", body: `{"Memory":8388608,"MemorySwap":8388608}`, prepare: spent, says: absent},
		{name: "remove", method: "DELETE", path: "/containers/{container}?force=1", prepare: spent, says: absent},
		{name: "remove by name", method: "DELETE", path: "/containers/{name}?force=1", prepare: func(t *testing.T, a *arena, bare bool) words {
			w := spent(t, a, bare)
			if bare {
				w["name"] = w["container"]
			}
			return w
		}, says: absent},
		{name: "list checkpoints", method: "GET", path: "/containers/{container}/checkpoints", bare: reached, says: absent},
		{name: "checkpoint", method: "POST", path: "/containers/{container}/checkpoints", body: `{"CheckpointID":"c","Exit":true}`, bare: reached, says: absent},
		{name: "commit", method: "POST", path: "/commit?container={container}&repo=guardtest-stolen", bare: answered, prepare: func(t *testing.T, a *arena, bare bool) words {
			t.Cleanup(func() { _, _ = guardtest.Send(a.daemon, "DELETE", "/images/guardtest-stolen", nil) })
			return spent(t, a, bare)
		}},
		{name: "attach", raw: "POST /containers/{container}/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", says: absent},
		{name: "attach, as old clients do", raw: "POST /containers/{container}/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", says: absent},
		{name: "attach by websocket", raw: "GET /containers/{container}/attach/ws?logs=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Origin: http://docker\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", bare: switched, says: absent},

		{name: "exec", method: "POST", path: "/containers/{container}/exec", body: `{"Cmd":["id"]}`, says: absent},
		{name: "exec by name", method: "POST", path: "/containers/{name}/exec", body: `{"Cmd":["id"]}`, says: absent},
		{name: "exec, privileged, in one's own", method: "POST", path: "/containers/{own.container}/exec", body: `{"Cmd":["id"],"Privileged":true}`, says: "Privileged"},
		{name: "exec, privileged, in another case", method: "POST", path: "/containers/{own.container}/exec", body: `{"Cmd":["id"],"privileged":true}`, says: "Privileged"},
		{name: "exec, privileged, a second time", method: "POST", path: "/containers/{own.container}/exec", body: `{"Cmd":["id"],"Privileged":false,"privileged":true}`, says: "twice"},
		{name: "exec, privileged, with a Content-Type of its own", method: "POST", path: "/containers/{own.container}/exec", body: `{"Cmd":["id"],"Privileged":true}`,
			header: []string{"Content-Type: application/json; charset=utf-8"}, says: "Privileged"},
		// what the guard writes anew has no place for it
		{name: "exec with an unknown field", method: "POST", path: "/containers/{own.container}/exec", body: `{"Cmd":["id"],"Superpower":true}`, tamed: dropped},
		{name: "exec, inspected", method: "GET", path: "/exec/{exec}/json", bare: answered, says: "No such exec"},
		{name: "exec, started", method: "POST", path: "/exec/{exec}/start", body: `{"Detach":true}`, prepare: spentExec, says: "No such exec"},
		{name: "exec, started by upgrade", raw: "POST /exec/{exec}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", prepare: spentExec, says: "No such exec"},
		{name: "exec, resized", method: "POST", path: "/exec/{exec}/resize?h=1&w=1", slow: true, says: "No such exec"},

		{name: "network, inspected", method: "GET", path: "/networks/{network}", says: "not found"},
		{name: "network, inspected by name", method: "GET", path: "/networks/{netname}", says: "not found"},
		{name: "network of the victim's steps", method: "GET", path: "/networks/{buildnet}", bare: answered, says: "not found"},
		{name: "network of the machine", method: "GET", path: "/networks/host", bare: answered, says: "not found"},
		{name: "network, joined", method: "POST", path: "/networks/{network}/connect", body: `{"Container":"{own.container}"}`, prepare: func(t *testing.T, a *arena, bare bool) words {
			if bare {
				t.Cleanup(func() { a.attacker.Host("network", "disconnect", "-f", a.spare["network"], a.spare["own.container"]) })
			}
			return nil
		}, says: "not found"},
		{name: "network of the victim's steps, joined by a step", method: "POST", path: "/networks/{buildnet}/connect", body: `{"Container":"{own.step}"}`, prepare: func(t *testing.T, a *arena, bare bool) words {
			if bare {
				t.Cleanup(func() { a.attacker.Host("network", "disconnect", "-f", a.spare["buildnet"], a.spare["own.step"]) })
			}
			return nil
		}, says: "not found"},
		{name: "another's container, pulled into one's network", method: "POST", path: "/networks/{own.network}/connect", body: `{"Container":"{container}"}`, prepare: func(t *testing.T, a *arena, bare bool) words {
			if bare {
				t.Cleanup(func() { a.attacker.Host("network", "disconnect", "-f", a.spare["own.network"], a.spare["container"]) })
			}
			return nil
		}, says: absent},
		{name: "another's container, cut off", method: "POST", path: "/networks/{buildnet}/disconnect", body: `{"Container":"{container}","Force":true}`, prepare: func(t *testing.T, a *arena, bare bool) words {
			if bare {
				t.Cleanup(func() { a.attacker.Host("network", "connect", a.spare["buildnet"], a.spare["container"]) })
			}
			return nil
		}, says: "not found"},
		{name: "one's own step, cut off", method: "POST", path: "/networks/{own.buildnet}/disconnect", body: `{"Container":"{own.step}","Force":true}`, prepare: func(t *testing.T, a *arena, bare bool) words {
			if bare {
				t.Cleanup(func() { a.attacker.Host("network", "connect", a.spare["own.buildnet"], a.spare["own.step"]) })
			}
			return nil
		}, says: "step"},
		{name: "network, removed", method: "DELETE", path: "/networks/{network}", prepare: spentNetwork, says: "not found"},
		{name: "network of one's own build, removed", method: "DELETE", path: "/networks/{own.buildnet}", bare: accepted("has active endpoints")},
		{name: "network with a driver of the machine's", method: "POST", path: "/networks/create", body: `{"Name":"attack","Driver":"macvlan"}`, bare: accepted("not supported"), says: "Driver"},
		{name: "network ipvlan", method: "POST", path: "/networks/create", body: `{"Name":"attack","Driver":"ipvlan"}`, bare: accepted("not supported"), says: "Driver"},
		{name: "network host", method: "POST", path: "/networks/create", body: `{"Name":"attack","Driver":"host"}`, bare: accepted("only one instance"), says: "Driver"},
		{name: "network overlay", method: "POST", path: "/networks/create", body: `{"Name":"attack","Driver":"overlay"}`, bare: accepted("swarm"), says: "Driver"},
		{name: "network of a configuration", method: "POST", path: "/networks/create", body: `{"Name":"attack","ConfigOnly":true}`, says: "ConfigOnly"},
		{name: "network from a configuration", method: "POST", path: "/networks/create", body: `{"Name":"attack","ConfigFrom":{"Network":"other"}}`, bare: accepted("other"), says: "ConfigFrom"},
		{name: "network ingress", method: "POST", path: "/networks/create", body: `{"Name":"attack","Ingress":true}`, bare: accepted("global scope"), says: "Ingress"},
		{name: "network over public addresses", method: "POST", path: "/networks/create", body: `{"Name":"attack","IPAM":{"Config":[{"Subnet":"203.0.113.0/24"}]}}`, says: "Subnet"},
		{name: "network of another address driver", method: "POST", path: "/networks/create", body: `{"Name":"attack","IPAM":{"Driver":"dhcp"}}`, slow: true, says: "IPAM.Driver"},
		{name: "network with another's label", method: "POST", path: "/networks/create", body: `{"Name":"attack","Labels":{"` + guardtest.OwnerLabel + `":"{id}"}}`, says: guardtest.OwnerLabel},
		{name: "network that is routed", method: "POST", path: "/networks/create", body: `{"Name":"attack","Options":{"com.docker.network.bridge.gateway_mode_ipv4":"routed"}}`, bare: reached, says: "gateway_mode_ipv4"},
		{name: "network with a way in for an interface of the machine", method: "POST", path: "/networks/create", body: `{"Name":"attack","Options":{"com.docker.network.bridge.trusted_host_interfaces":"eth0"}}`, bare: reached, says: "trusted_host_interfaces"},
		{name: "network that publishes on all addresses", method: "POST", path: "/networks/create", body: `{"Name":"attack","Options":{"com.docker.network.bridge.host_binding_ipv4":"0.0.0.0"}}`, tamed: publishesOnItsOwn},
		{name: "network, joined with parameters of the kernel", method: "POST", path: "/networks/{own.network}/connect", body: `{"Container":"{own.idle}","EndpointConfig":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.route_localnet=1"}}}`, bare: reached, says: "DriverOpts"},
		{name: "network, joined with a link to another's", method: "POST", path: "/networks/{own.network}/connect", body: `{"Container":"{own.idle}","EndpointConfig":{"Links":["{container}:x"]}}`, bare: reached, says: absent, tamed: linksToItsOwn},
		{name: "network twice", method: "POST", path: "/networks/create", body: `{"Name":"attack","Driver":"bridge","driver":"macvlan"}`, bare: accepted("not supported"), says: "twice"},
		// what the guard writes anew has no place for it
		{name: "network with an unknown field", method: "POST", path: "/networks/create", body: `{"Name":"attack","Superpower":true}`, tamed: dropped},

		{name: "volume, inspected", method: "GET", path: "/volumes/{volume2}", says: "no such volume"},
		{name: "volume of the victim's steps", method: "GET", path: "/volumes/{workspace}", bare: answered, says: "no such volume"},
		{name: "volume, removed", method: "DELETE", path: "/volumes/{volume2}", prepare: spentVolume, says: "no such volume"},
		{name: "one's own workspace, removed", method: "DELETE", path: "/volumes/{own.workspace}", bare: accepted("in use"), says: "pipeline"},
		{name: "volume that mounts the machine", method: "POST", path: "/volumes/create", body: `{"Name":"attack","DriverOpts":{"type":"none","o":"bind","device":"/"}}`, says: "DriverOpts"},
		{name: "volume of memory without bounds", method: "POST", path: "/volumes/create", body: `{"Name":"attack","DriverOpts":{"type":"tmpfs","device":"tmpfs"}}`, says: "DriverOpts"},
		{name: "volume of a server", method: "POST", path: "/volumes/create", body: `{"Name":"attack","DriverOpts":{"type":"nfs","o":"addr=127.0.0.1","device":":/x"}}`, says: "DriverOpts"},
		{name: "volume with options in another case", method: "POST", path: "/volumes/create", body: `{"Name":"attack","driveropts":{"type":"none","o":"bind","device":"/etc"}}`, says: "DriverOpts"},
		{name: "volume of another driver", method: "POST", path: "/volumes/create", body: `{"Name":"attack-slow","Driver":"other"}`, slow: true, says: "Driver"},
		{name: "volume with another's label", method: "POST", path: "/volumes/create", body: `{"Name":"attack2","Labels":{"` + guard.LabelGuard + `":"{id}"}}`, says: guard.LabelGuard},
		{name: "volume of a cluster", method: "POST", path: "/volumes/create", body: `{"Name":"attack","ClusterVolumeSpec":{"Group":"x"}}`, bare: accepted("swarm"), says: "ClusterVolumeSpec"},

		{name: "list of containers", method: "GET", path: "/containers/json?all=1", tamed: hidden},
		{name: "list of containers by another's label", method: "GET", path: "/containers/json?all=1&filters=%7B%22label%22%3A%5B%22" + guardtest.OwnerLabel + "%3D{id}%22%5D%7D", tamed: hidden},
		{name: "list of containers by an old filter", method: "GET", path: "/containers/json?all=1&filters=%7B%22label%22%3A%7B%22" + guardtest.OwnerLabel + "%3D{id}%22%3Atrue%7D%7D", tamed: hidden},
		{name: "list of containers by name", method: "GET", path: "/containers/json?all=1&filters=%7B%22name%22%3A%5B%22{name}%22%5D%7D", tamed: hidden},
		{name: "list of containers by id", method: "GET", path: "/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{container}%22%5D%7D", tamed: hidden},
		{name: "list of containers by volume", method: "GET", path: "/containers/json?all=1&filters=%7B%22volume%22%3A%5B%22{volume}%22%5D%7D", tamed: hidden},
		{name: "list of containers by network", method: "GET", path: "/containers/json?all=1&filters=%7B%22network%22%3A%5B%22{buildnet}%22%5D%7D", tamed: hidden},
		{name: "list of containers before another's", method: "GET", path: "/containers/json?all=1&limit=100&filters=%7B%22before%22%3A%5B%22{container}%22%5D%7D", bare: answered, status: http.StatusNotFound, says: absent},
		{name: "list of containers since another's", method: "GET", path: "/containers/json?all=1&filters=%7B%22since%22%3A%5B%22{name}%22%5D%7D", bare: answered, status: http.StatusNotFound, says: absent},
		// until Docker 28
		{name: "list of containers since another's, as old clients ask", method: "GET", path: "/v1.24/containers/json?all=1&since={container}", bare: answered, closed: "Minimum supported API version",
			status: http.StatusNotFound, says: absent},
		{name: "list of networks", method: "GET", path: "/networks", tamed: hidden},
		{name: "list of networks by id", method: "GET", path: "/networks?filters=%7B%22id%22%3A%5B%22{network}%22%5D%7D", tamed: hidden},
		{name: "list of volumes", method: "GET", path: "/volumes", tamed: hidden},
		{name: "list of volumes by name", method: "GET", path: "/volumes?filters=%7B%22name%22%3A%5B%22{volume2}%22%5D%7D", tamed: hidden},
		{name: "disk usage", method: "GET", path: "/system/df", tamed: hidden},
		{name: "events of the past", method: "GET", path: "/events?since=1&until={now}", tamed: hidden, prepare: until},
		{name: "events of the past of another's container", method: "GET", path: "/events?since=1&until={now}&filters=%7B%22container%22%3A%5B%22{container}%22%5D%7D", tamed: hidden, prepare: until},
		{name: "events of the past by another's label", method: "GET", path: "/events?since=1&until={now}&filters=%7B%22label%22%3A%5B%22secret%3D{secret}%22%5D%7D", tamed: hidden, prepare: until},
		{name: "number of containers", method: "GET", path: "/info", bare: answered, tamed: func(t *testing.T, a *arena, got *guardtest.Answer) {
			hidden(t, a, got)
			var i struct{ Containers int }
			if json.Unmarshal([]byte(got.Body), &i) != nil || i.Containers != 2 {
				t.Errorf("info counts %d containers", i.Containers)
			}
		}},

		{name: "step, logs", method: "GET", path: "/containers/{own.step}/logs?stdout=1", bare: answered, says: step},
		{name: "step, exec", method: "POST", path: "/containers/{own.step}/exec", body: `{"Cmd":["env"]}`, says: step},
		{name: "step, archive", method: "GET", path: "/containers/{own.step}/archive?path=/proc/1/environ", bare: reached, says: step},
		{name: "step, unpack", method: "PUT", path: "/containers/{own.step}/archive?path=/", body: "", header: []string{"Content-Type: application/x-tar"}, says: step},
		{name: "step, export", method: "GET", path: "/containers/{own.step}/export", bare: answered, says: step},
		{name: "step, attach", raw: "POST /containers/{own.step}/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", bare: switched, says: step},
		{name: "step, kill", method: "POST", path: "/containers/{own.step}/kill?signal=CONT", says: step},
		{name: "step, update", method: "POST", path: "/containers/{own.step}/update", body: `{"CpuShares":1024}`, says: step},
		{name: "step, top", method: "GET", path: "/containers/{own.step}/top?ps_args=e", bare: answered, says: step},
		{name: "step, renamed", method: "POST", path: "/containers/{own.step}/rename?name={own.stepname}", bare: reached, says: step},
		{name: "step, environment", method: "GET", path: "/containers/{own.step}/json", bare: secretOfStep, tamed: func(t *testing.T, _ *arena, got *guardtest.Answer) {
			if got.Status != http.StatusOK || secretOfStep(got) {
				t.Errorf("the guard tells %d %s", got.Status, got.Body)
			}
		}},
		{name: "step, commit", method: "POST", path: "/commit?container={own.step}&repo=guardtest-stolen&pause=0", bare: answered, prepare: func(t *testing.T, a *arena, _ bool) words {
			t.Cleanup(func() { _, _ = guardtest.Send(a.daemon, "DELETE", "/images/guardtest-stolen", nil) })
			return nil
		}},

		{name: "update without limits of the kernel", method: "POST", path: "/containers/{own.container}/update", body: `{"OomKillDisable":true}`, says: "OomKillDisable"},
		{name: "update of the restart policy", method: "POST", path: "/containers/{own.container}/update", body: `{"RestartPolicy":{"Name":"always"}}`, prepare: func(t *testing.T, a *arena, bare bool) words {
			if bare {
				return words{"own.container": spent(t, a, true)["container"]}
			}
			return nil
		}, says: "RestartPolicy"},
		{name: "update of devices", method: "POST", path: "/containers/{own.container}/update", body: `{"Devices":[{"PathOnHost":"/dev/kmsg"}]}`, says: "Devices"},
		{name: "update of the cgroup parent", method: "POST", path: "/containers/{own.container}/update", body: `{"CgroupParent":"/x"}`, says: "CgroupParent"},
		{name: "update of a block rate", method: "POST", path: "/containers/{own.container}/update", body: `{"BlkioDeviceReadBps":[{"Path":"/dev/vda","Rate":1}]}`, says: "BlkioDeviceReadBps"},
		{name: "update of device rules", method: "POST", path: "/containers/{own.container}/update", body: `{"DeviceCgroupRules":["a *:* rwm"]}`, says: "DeviceCgroupRules"},
		{name: "update of device requests", method: "POST", path: "/containers/{own.container}/update", body: `{"DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"]]}]}`, says: "DeviceRequests"},
		{name: "update of a real-time period", method: "POST", path: "/containers/{own.container}/update", body: `{"CpuRealtimePeriod":1000000}`, bare: reached, says: "CpuRealtimePeriod"},
		// no daemon keeps it
		{name: "update of kernel memory", method: "POST", path: "/containers/{own.container}/update", body: `{"KernelMemory":16777216}`, bare: reached, tamed: dropped},
		{name: "update of a block weight of a device", method: "POST", path: "/containers/{own.container}/update", body: `{"BlkioWeightDevice":[{"Path":"/dev/vda","Weight":1000}]}`, says: "BlkioWeightDevice"},
		// what the guard writes anew has no place for it
		{name: "update to privileged", method: "POST", path: "/containers/{own.container}/update", body: `{"Privileged":true}`, tamed: dropped},
		// what the guard writes anew has no place for it
		{name: "update with a HostConfig", method: "POST", path: "/containers/{own.container}/update", body: `{"HostConfig":{"Privileged":true}}`, tamed: dropped},
		{name: "update twice", method: "POST", path: "/containers/{own.container}/update", body: `{"CpuShares":1024,"cpushares":2}`, says: "twice"},
		// what the guard writes anew has no place for it
		{name: "update with an unknown field", method: "POST", path: "/containers/{own.container}/update", body: `{"Superpower":true}`, tamed: dropped},
		{name: "start from a folder of the machine", method: "POST", path: "/containers/{own.container}/start?checkpoint=c&checkpoint-dir=/etc", bare: reached, says: "checkpoint-dir"},
		{name: "checkpoint into a folder of the machine", method: "POST", path: "/containers/{own.container}/checkpoints", body: `{"CheckpointID":"c","CheckpointDir":"/etc"}`, bare: reached, says: "CheckpointDir"},
		{name: "checkpoints of a folder of the machine", method: "GET", path: "/containers/{own.container}/checkpoints?dir=/etc", bare: reached, says: "dir"},
		{name: "top with a file of the machine", method: "GET", path: "/containers/{own.container}/top?ps_args=--file%20/etc/passwd", bare: reached, says: "ps_args"},

		{name: "plugins, listed", method: "GET", path: "/plugins", bare: answered, tamed: nonePlugged},
		{name: "plugins, installed", method: "POST", path: "/plugins/pull?remote=127.0.0.1:1/x", body: "[]", bare: reached, says: "plugins"},
		{name: "plugins, created", method: "POST", path: "/plugins/create?name=x", body: "", bare: reached, says: "plugins"},
		{name: "plugins, enabled", method: "POST", path: "/plugins/x/enable", bare: reached, says: "not found"},
		{name: "swarm, begun", method: "POST", path: "/swarm/init", body: `{"ListenAddr":"no"}`, bare: reached, says: "swarm"},
		{name: "swarm, joined", method: "POST", path: "/swarm/join", body: `{"ListenAddr":"no"}`, bare: reached, says: "swarm"},
		{name: "services", method: "POST", path: "/services/create", body: `{}`, bare: reached, says: "not a swarm manager", status: http.StatusServiceUnavailable},
		{name: "secrets of a swarm", method: "GET", path: "/secrets", bare: reached, says: "not a swarm manager", status: http.StatusServiceUnavailable},
		{name: "configs of a swarm", method: "POST", path: "/configs/create", body: `{}`, bare: reached, says: "not a swarm manager", status: http.StatusServiceUnavailable},
		{name: "nodes", method: "GET", path: "/nodes", bare: reached, says: "not a swarm manager", status: http.StatusServiceUnavailable},
		{name: "inside of the daemon", method: "GET", path: "/debug/pprof/cmdline", bare: reached},
		// What is unused for a thousand hours, or made before 1970: these prove the row and remove
		// nothing of the machine's.
		{name: "build cache, pruned", method: "POST", path: "/build/prune?all=1&filters=%7B%22until%22%3A%5B%22999999h%22%5D%7D", tamed: prunedNothing},
		{name: "images, pruned", method: "POST", path: "/images/prune?filters=%7B%22until%22%3A%5B%221970-01-02%22%5D%7D", tamed: prunedNothing},
	}
	a.fight(t, rows)
}

// attackLast is the last family: its proofs take from the daemon what others need. The first of
// them takes its default network.
func attackLast(t *testing.T, a *arena) {
	a.fight(t, []attack{
		{name: "network on the machine's bridge", method: "POST", path: "/networks/create", body: `{"Name":"attack","Options":{"com.docker.network.bridge.name":"docker0"}}`, bare: accepted("docker0"), says: "bridge.name"},
		{name: "containers, pruned by another's label", method: "POST", path: "/containers/prune?filters=%7B%22label%22%3A%5B%22secret%3D{secret}%22%5D%7D", bare: pruned, tamed: prunedNothing},
		{name: "networks, pruned by another's label", method: "POST", path: "/networks/prune?filters=%7B%22label%22%3A%5B%22secret%3D{secret}%22%5D%7D", bare: pruned, tamed: prunedNothing},
		// From API 1.42 on, only anonymous ones.
		{name: "volumes, pruned by another's label", method: "POST", path: "/v1.41/volumes/prune?filters=%7B%22label%22%3A%5B%22secret%3D{secret}%22%5D%7D", bare: pruned, tamed: prunedNothing},
	})
}

// nonePlugged wants a list of no plugins.
func nonePlugged(t *testing.T, _ *arena, got *guardtest.Answer) {
	t.Helper()
	if strings.TrimSpace(got.Body) != "[]" {
		t.Errorf("the guard lists %s", got.Body)
	}
}

// linksToItsOwn wants that a link names a container of the attacker's, which may come, and none of
// another's.
func linksToItsOwn(t *testing.T, a *arena, _ *guardtest.Answer) {
	t.Helper()
	seen, err := guardtest.Send(a.daemon, "GET", "/containers/"+a.target["own.idle"]+"/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		NetworkSettings struct {
			Networks map[string]struct{ Links []string }
		}
	}
	if err := json.Unmarshal([]byte(seen.Body), &c); err != nil {
		t.Fatal(err)
	}
	for name, n := range c.NetworkSettings.Networks {
		for _, link := range n.Links {
			if !strings.HasPrefix(link, a.attacker.ID+".") {
				t.Errorf("on %s it is linked to %s", name, link)
			}
		}
	}
}

// dropped wants that a field that isn't known has had no effect on the attacker's container.
func dropped(t *testing.T, a *arena, got *guardtest.Answer) {
	t.Helper()
	seen, err := guardtest.Send(a.daemon, "GET", "/containers/"+a.target["own.container"]+"/json", nil)
	if err != nil || got.Status >= 400 || !strings.Contains(seen.Body, `"Privileged":false`) || strings.Contains(seen.Body, "Superpower") {
		t.Errorf("the guard answers %d %s, and the container is %s (%v)", got.Status, got.Body, seen.Body, err)
	}
}

// reached is the proof of a row that the daemon has a way for, though it declines here and now.
func reached(a *guardtest.Answer) bool {
	return a.Status > 0 && !strings.Contains(a.Body, "page not found")
}

// switched is the proof that the connection has become a stream.
func switched(a *guardtest.Answer) bool {
	return strings.HasPrefix(a.Body, "HTTP/1.1 101") || strings.HasPrefix(a.Body, "HTTP/1.1 200")
}

// secretOfStep is the proof that a step's environment is told.
func secretOfStep(a *guardtest.Answer) bool { return strings.Contains(a.Body, "of-the-step") }

// until makes an event of the victim and of the spare, and tells the time after them.
func until(_ *testing.T, a *arena, _ bool) words {
	a.victim.Host("kill", "-s", "CONT", a.target["container"], a.spare["container"])
	now := time.Now()
	return words{"now": fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond())}
}

// deleted is what a prune says that it has removed.
func deleted(a *guardtest.Answer) (n int) {
	var report map[string]json.RawMessage
	if a.Status != http.StatusOK || json.Unmarshal([]byte(a.Body), &report) != nil {
		return -1
	}
	for k, raw := range report {
		var list []any
		if k != "SpaceReclaimed" && json.Unmarshal(raw, &list) == nil {
			n += len(list)
		}
	}
	return n
}

func pruned(a *guardtest.Answer) bool { return deleted(a) >= 1 }

func prunedNothing(t *testing.T, _ *arena, got *guardtest.Answer) {
	t.Helper()
	if deleted(got) != 0 {
		t.Errorf("the guard answers %d %s", got.Status, got.Body)
	}
}

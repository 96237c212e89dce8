//go:build !unit

package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

func TestDaemonHealth(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	address := regexp.MustCompile(`http="?([0-9.]+:[0-9]+)`).FindStringSubmatch(r.stderr.String())
	if address == nil {
		t.Fatalf("the log doesn't say where /healthz is: %s", r.stderr)
	}
	response, err := http.Get("http://" + address[1] + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("/healthz answers %s", response.Status)
	}
	response, err = http.Get("http://" + address[1] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), `"sandbox":"none"`) {
		t.Errorf("/readyz answers %s: %s (%v)", response.Status, body, err)
	}
	call{args: []string{"healthcheck"}, env: []string{"DRONE_HTTP_BIND=" + address[1]}}.run(t).expect(t, 0)
	r.drain(t)
	call{args: []string{"healthcheck"}, env: []string{"DRONE_HTTP_BIND=" + address[1]}}.run(t).expect(t, 1, address[1])
}

// /readyz gives the server's word, not just that the runner is still starting.
func TestDaemonSaysThatTheSecretIsWrong(t *testing.T) {
	t.Parallel()
	server := rpctest.NewServer(t)
	p := runnerCall(t, server, "DRONE_RPC_SECRET=not-the-secret").start(t)
	p.stderr.await(t, "DRONE_RPC_SECRET is wrong")
	address := regexp.MustCompile(`http="?([0-9.]+:[0-9]+)`).FindStringSubmatch(p.stderr.String())[1]
	response, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "DRONE_RPC_SECRET is wrong") {
		t.Errorf("/readyz answers %s: %s (%v)", response.Status, body, err)
	}
	if strings.Contains(string(body), "not-the-secret") {
		t.Errorf("/readyz shows the secret: %s", body)
	}
	p.signal(t, syscall.SIGTERM)
	p.wait(t).expect(t, 0)
}

func TestDaemonConfiguration(t *testing.T) {
	t.Parallel()
	t.Run("the form of 2019", func(t *testing.T) {
		t.Parallel()
		server := rpctest.NewServer(t)
		p := call{args: []string{}, env: []string{"DRONE_SERVER_HOST=" + server.Host(), "DRONE_RPC_SECRET=" + server.Secret(),
			"DRONE_HTTP_BIND=127.0.0.1:0", "DRONE_RUNNER_STATE=" + t.TempDir(), "DRONE_MACHINE=old-name", "DRONE_RUNNER_SANDBOX=none"}}.start(t)
		p.stderr.await(t, "polling for builds")
		p.signal(t, syscall.SIGINT)
		p.wait(t).expect(t, 0, "DRONE_SERVER_HOST", "name=old-name")
	})
	t.Run("a file, and the environment wins", func(t *testing.T) {
		t.Parallel()
		server := rpctest.NewServer(t)
		dir := folder(t, map[string]string{"runner.env": "DRONE_RPC_HOST=" + server.Host() + "\nDRONE_RPC_SECRET=" + server.Secret() + "\nDRONE_RUNNER_NAME=from-file\nDRONE_HTTP_BIND=127.0.0.1:0\nDRONE_RUNNER_STATE=" + t.TempDir() + "\nDRONE_RUNNER_SANDBOX=none\n"})
		for _, args := range [][]string{{"daemon", "runner.env"}, {"runner.env"}} {
			p := call{dir: dir, args: args, env: []string{"DRONE_RUNNER_NAME=from-environment"}}.start(t)
			p.stderr.await(t, "polling for builds")
			p.signal(t, syscall.SIGTERM)
			p.wait(t).expect(t, 0, "name=from-environment")
		}
	})
	t.Run("a dump without the secret", func(t *testing.T) {
		t.Parallel()
		r := newRunner(t, "DRONE_RPC_DUMP_HTTP=true", "DRONE_RPC_DUMP_HTTP_BODY=true", "DRONE_TRACE=true")
		result := r.build(t, rpctest.Build{Secrets: map[string]string{"token": "hunter22"}, YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, environment: {T: {from_secret: token}}, commands: [echo on]}]"})
		expectStates(t, result, "default: success 0", "  a: success 0")
		r.drain(t)
		r.result().expect(t, 0, "/rpc/v2/stage", "!"+r.server.Secret(), "!hunter22")
	})
	wrong := func(name string, code int, env []string, want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := rpctest.NewServer(t)
			runnerCall(t, server, env...).run(t).expect(t, code, append(want, "!polling")...)
		})
	}
	wrong("nothing is set", 2, []string{"DRONE_RPC_HOST=", "DRONE_RPC_SECRET="}, "DRONE_RPC_HOST is required", "DRONE_RPC_SECRET is required")
	wrong("a typing error", 2, []string{"DRONE_RUNNER_CAPACTY=2", "DRONE_RUNNER_MAX_PROCS=many"}, "DRONE_RUNNER_CAPACITY", "DRONE_RUNNER_MAX_PROCS")
	wrong("devices", 2, []string{"DRONE_RUNNER_DEVICES=/dev/kvm:/dev/kvm"}, "DRONE_RUNNER_DEVICES")
	wrong("no Docker", 1, []string{"DOCKER_HOST=unix:///no/such/docker.sock"}, "unix:///no/such/docker.sock")
	wrong("a machine that is no system container", 1, []string{"DRONE_RUNNER_SANDBOX="}, syscont.SignalUserns, syscont.SignalSysboxfs, "sysbox-runc", "DRONE_RUNNER_SANDBOX=none")
	wrong("nor a user namespace", 1, []string{"DRONE_RUNNER_SANDBOX=userns"}, syscont.SignalUserns, "!"+syscont.SignalSysboxfs)
	wrong("a folder that can't be", 1, []string{"DRONE_RUNNER_STATE=/proc/nothing"}, "DRONE_RUNNER_STATE")
	t.Run("an address that is taken", func(t *testing.T) {
		t.Parallel()
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		runnerCall(t, rpctest.NewServer(t), "DRONE_HTTP_BIND="+taken.Addr().String()).run(t).expect(t, 1, "DRONE_HTTP_BIND", "!polling")
	})
}

func TestDaemonServerThatIsAway(t *testing.T) {
	t.Parallel()
	t.Run("it comes later", func(t *testing.T) {
		t.Parallel()
		server := rpctest.NewServer(t)
		server.Down()
		p := runnerCall(t, server).start(t)
		p.stderr.await(t, "the drone server can't be reached")
		server.Up()
		p.stderr.await(t, "polling for builds")
		p.signal(t, syscall.SIGTERM)
		p.wait(t).expect(t, 0)
	})
	t.Run("it never comes", func(t *testing.T) {
		t.Parallel()
		server := rpctest.NewServer(t)
		server.Down()
		p := runnerCall(t, server).start(t)
		p.stderr.await(t, "the drone server can't be reached")
		p.signal(t, syscall.SIGTERM)
		p.wait(t).expect(t, 0)
	})
	t.Run("the secret is wrong", func(t *testing.T) {
		t.Parallel()
		server := rpctest.NewServer(t)
		p := runnerCall(t, server, "DRONE_RPC_SECRET=not-it").start(t)
		p.stderr.await(t, "DRONE_RPC_SECRET is wrong")
		time.Sleep(2 * time.Second)
		if n := len(server.Requests()); n > 2 {
			t.Errorf("%d requests with a wrong secret within two seconds", n)
		}
		p.signal(t, syscall.SIGTERM)
		p.wait(t).expect(t, 0, "!not-it")
		// The server holds it against the runner that its secret was wrong, which is what this test
		// is about.
		server.Violations()
	})
}

func TestDaemonProviders(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ plugin, want, yaml string }{
		{"ENV", "environment plugin", "commands: [echo on]"},
		{"SECRET", "secret plugin", "environment: {T: {from_secret: token}}\n  commands: [echo on]"},
		{"REGISTRY", "registry plugin", "commands: [echo on]"},
	} {
		t.Run(row.plugin, func(t *testing.T) {
			t.Parallel()
			plugin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "out of order", http.StatusInternalServerError)
			}))
			defer plugin.Close()
			r := newRunner(t, "DRONE_"+row.plugin+"_PLUGIN_ENDPOINT="+plugin.URL, "DRONE_"+row.plugin+"_PLUGIN_TOKEN=t0ken-of-plugin")
			result := r.build(t, rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps:\n- name: a\n  image: IMAGE\n  " + row.yaml + "\n---\nkind: secret\nname: token\nget: {path: a/b, name: c}\n"})
			stage := result.Stages[0]
			if stage.Status != drone.StatusError || !strings.Contains(stage.Error, row.want) || !strings.Contains(stage.Error, plugin.URL) {
				t.Errorf("stage: %s %q, want an error that names the %s", stage.Status, stage.Error, row.want)
			}
			r.drain(t)
			if strings.Contains(r.stderr.String(), "t0ken-of-plugin") {
				t.Errorf("the plugin's token is in the log: %s", r.stderr)
			}
		})
	}
}

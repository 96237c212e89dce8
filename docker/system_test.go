//go:build !unit

package docker_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

const passing = `
kind: pipeline
name: default
clone: {disable: true}
services:
- name: web
  image: standin/busybox:1
  pull: never
  commands:
  - while true; do echo hello-from-web | nc -l -p 8000; done
steps:
- name: ask
  image: standin/busybox:1
  pull: never
  commands:
  - until nc web 8000 </dev/null | grep hello; do sleep 0.5; done
`

const sleeping = `
kind: pipeline
name: default
clone: {disable: true}
steps:
- name: sleep
  image: standin/busybox:1
  pull: never
  commands:
  - echo asleep
  - sleep SECONDS
  - echo awake
`

func TestBootBuildAndDoctor(t *testing.T) {
	server := droneServer(t)
	s := start(t, server)
	first := s.polling(t, server, s.began)
	t.Logf("from docker create to the first poll, with an empty volume: %s", first.Sub(s.began).Round(10*time.Millisecond))
	s.load(t)

	result := build(t, server, passing)
	if got := result.Stages[0].Status; got != "success" || !strings.Contains(result.Step("ask").Text(), "hello-from-web") {
		t.Errorf("the build is %s (%s):\n%s", got, result.Stages[0].Error, result.Step("ask").Text())
	}
	s.empty(t)
	s.exec(t, "drone-runner-sysbox", "healthcheck")

	out, err := s.try(t, "drone-runner-sysbox", "doctor", "--json")
	found := checks(t, out, err)
	for _, name := range []string{
		syscont.SignalUserns, syscont.SignalMount, syscont.SignalPeer, syscont.SignalNamespaces, syscont.SignalExe, syscont.SignalHostname, syscont.SignalUserxattr,
		"docker daemon", "storage driver", "disk", "cgroups", "dns inside", "reach inside", "dns in docker build", "mtu", "server", "secret", "clock",
	} {
		if c := found[name]; c.Status != syscont.Pass {
			t.Errorf("doctor: %s: %s", name, c)
		}
	}
	if c := found[syscont.SignalSysboxfs]; c.Status != syscont.Warn {
		t.Errorf("there is no sysbox here, yet doctor says: %s", c)
	}
	if err != nil {
		t.Errorf("nothing failed, yet doctor: %v", err)
	}
	if left := s.exec(t, "docker", "ps", "-aq") + s.exec(t, "docker", "image", "ls", "-q", "--filter", "label=io.drone-runner-sysbox.doctor"); left != "" {
		t.Errorf("doctor left %s", left)
	}

	t.Run("pid 1 reaps", func(t *testing.T) {
		// A process whose parent is gone becomes a child of pid 1, which has to take its end.
		s.exec(t, "sh", "-c", "(sleep 0.1 &) ; sleep 0.5")
		// Whatever ends at this moment is one as well, until its parent has seen it.
		zombies := func() string {
			return s.exec(t, "sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null || true")
		}
		for ctx := within(t, patience); zombies() != ""; time.Sleep(100 * time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("zombies: %s", zombies())
			}
		}
	})
	t.Run("what is deployed is what is documented", func(t *testing.T) {
		config := outer(t, "image", "inspect", "-f", "{{json .Config}}", "drone-runner-sysbox:testbench")
		for _, want := range []string{`"Entrypoint":["docker-init","--","drone-runner-sysbox"]`, `"Cmd":["daemon"]`, `"/var/lib/docker":{}`, `"/var/lib/drone-runner":{}`, `"healthcheck"`, `"org.opencontainers.image.version":`} {
			if !strings.Contains(config, want) {
				t.Errorf("the image's configuration lacks %s: %s", want, config)
			}
		}
	})
	t.Run("entitlements are off", func(t *testing.T) {
		config := s.exec(t, "cat", "/run/drone-runner-sysbox/cells/shared/daemon.json")
		for _, want := range []string{`"network-host": false`, `"security-insecure": false`, `"device": false`, `"containerd-snapshotter": false`} {
			if !strings.Contains(config, want) {
				t.Errorf("daemon.json lacks %s:\n%s", want, config)
			}
		}
	})
	// Docker's own pools hold 31.
	t.Run("many networks fit", func(t *testing.T) {
		s.exec(t, "sh", "-ec", "for i in $(seq 36); do docker network create many-$i >/dev/null; done; docker network rm $(docker network ls -q --filter name=many-) >/dev/null")
	})
}

// The rows of the table in syscont's TestProve that a machine without Sysbox can show for real.
func TestProofInRealPlaces(t *testing.T) {
	server := droneServer(t)
	s := start(t, server)
	s.polling(t, server, s.began)
	s.load(t)
	env := []string{"-e", "DRONE_RPC_HOST=" + server.Host(), "-e", "DRONE_RPC_SECRET=" + server.Secret(), "-e", "DRONE_RUNNER_SANDBOX=userns"}
	const program = "/usr/local/bin/drone-runner-sysbox"
	inner := append([]string{"docker", "run", "--rm", "--network", "none", "-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", program + ":" + program}, env...)

	expect := func(t *testing.T, found map[string]syscont.Check, failed ...string) {
		t.Helper()
		for _, name := range failed {
			if c := found[name]; c.Status != syscont.Fail {
				t.Errorf("%s is not seen to fail: %s", name, c)
			}
		}
	}
	// refused holds that the daemon command ends with a status that isn't 0, and says why.
	refused := func(t *testing.T, err error, why string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "this is not proven to be a safe place for builds") || !strings.Contains(err.Error(), why) {
			t.Errorf("the daemon command isn't refused for %q: %v", why, err)
		}
	}
	t.Run("a container inside with the socket", func(t *testing.T) {
		out, err := s.try(t, append(inner, "standin/busybox:1", program, "doctor", "--json")...)
		expect(t, checks(t, out, err), syscont.SignalMount, syscont.SignalPeer)
		_, err = s.try(t, append(inner, "standin/busybox:1", program, "daemon")...)
		refused(t, err, syscont.SignalMount)
	})
	t.Run("a container inside with the socket and the pids", func(t *testing.T) {
		out, err := s.try(t, append(inner, "--pid=host", "standin/busybox:1", program, "doctor", "--json")...)
		expect(t, checks(t, out, err), syscont.SignalMount, syscont.SignalNamespaces)
	})
	t.Run("the outer daemon's socket mounted in", func(t *testing.T) {
		host := outer(t, "info", "-f", "{{.DockerRootDir}}") // …/data/100000.100000, beside the socket
		socket := host[:strings.Index(host, "/data/")] + "/docker.sock"
		out, err := command(t.Context(), "../scripts/testbench", append(append([]string{"docker", "run", "--rm", "--entrypoint", program, "-v", socket + ":/var/run/docker.sock"}, env...),
			"drone-runner-sysbox:testbench", "doctor", "--json")...)
		expect(t, checks(t, out, err), syscont.SignalMount, syscont.SignalPeer)
		_, err = command(t.Context(), "../scripts/testbench", append(append([]string{"docker", "run", "--rm", "-v", socket + ":/var/run/docker.sock"}, env...), "drone-runner-sysbox:testbench")...)
		refused(t, err, syscont.SignalMount)
	})
	t.Run("this machine, its own daemon", func(t *testing.T) {
		out, err := command(t.Context(), "env", "DRONE_RPC_HOST="+server.Host(), "DRONE_RPC_SECRET="+server.Secret(), "../dist/linux-"+arch()+"/drone-runner-sysbox", "doctor", "--json")
		found := checks(t, out, err)
		expect(t, found, syscont.SignalUserns, syscont.SignalSysboxfs)
	})
}

func TestRefusesAPlaceWithoutSysbox(t *testing.T) {
	server := droneServer(t)
	s := start(t, server, "-e", "DRONE_RUNNER_SANDBOX=sysbox")
	code, log := s.ended(t)
	if code != "1" {
		t.Errorf("exit code %s, want 1", code)
	}
	for _, want := range []string{syscont.SignalSysboxfs, "sysbox-runc", "DRONE_RUNNER_SANDBOX"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log doesn't say %q:\n%s", want, log)
		}
	}
	if polls := server.Requests(rpctest.CallRequest); len(polls) > 0 {
		t.Errorf("it polled: %v", polls)
	}
}

func TestDaemonKilledInABuild(t *testing.T) {
	server := droneServer(t)
	s := start(t, server)
	s.polling(t, server, s.began)
	s.load(t)
	id := server.Enqueue(rpctest.Build{YAML: strings.Replace(sleeping, "SECONDS", "600", 1)})
	if err := server.Until(within(t, patience), id, func(r rpctest.Result) bool {
		step := r.Step("sleep")
		return step != nil && strings.Contains(step.Text(), "asleep")
	}); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	s.exec(t, "sh", "-c", `for p in /proc/[0-9]*; do [ "$(cat $p/comm)" != dockerd ] || kill -9 "${p#/proc/}"; done`)

	result := wait(t, server, id)
	t.Logf("from the kill to the end of the build: %s", time.Since(killed).Round(10*time.Millisecond))
	step := result.Step("sleep")
	if result.Stages[0].Status != "error" || !strings.Contains(step.Error, "the Docker daemon stopped") || !strings.Contains(step.Error, "killed") {
		t.Errorf("the build is %s, its step %s: %q", result.Stages[0].Status, step.Status, step.Error)
	}
	next := build(t, server, passing)
	t.Logf("from the kill to the end of the next build: %s", time.Since(killed).Round(10*time.Millisecond))
	if next.Stages[0].Status != "success" {
		t.Errorf("the next build is %s: %s", next.Stages[0].Status, next.Stages[0].Error)
	}
	s.empty(t)
}

// TestDaemonThatHangs stops dockerd, which doesn't end it: the runner says that it isn't ready, takes no
// stage, kills the daemon and starts another.
func TestDaemonThatHangs(t *testing.T) {
	server := droneServer(t)
	s := start(t, server)
	s.polling(t, server, s.began)
	s.load(t)
	s.exec(t, "sh", "-c", `for p in /proc/[0-9]*; do [ "$(cat $p/comm)" != dockerd ] || kill -STOP "${p#/proc/}"; done`)
	stopped := time.Now()
	for ctx := within(t, patience); ; time.Sleep(200 * time.Millisecond) {
		out, err := s.try(t, "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/3000; printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3; cat <&3`)
		if err == nil && strings.Contains(out, " 503 ") && strings.Contains(out, "the Docker daemon doesn't work") {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("it is ready still: %s, %v", out, err)
		}
	}
	t.Logf("from the stop to a runner that isn't ready: %s", time.Since(stopped).Round(time.Second))
	id := server.Enqueue(rpctest.Build{YAML: passing, Trusted: true})
	if got := wait(t, server, id).Stages[0]; got.Status != "success" {
		t.Errorf("the build that came meanwhile is %s: %s", got.Status, got.Error)
	}
	t.Logf("from the stop to the end of the next build: %s", time.Since(stopped).Round(time.Second))
	s.empty(t)
}

func TestRestartKeepsTheCache(t *testing.T) {
	server := droneServer(t)
	s := start(t, server)
	s.polling(t, server, s.began)
	s.load(t)
	// Not a stop: what a power cut leaves, a pid file for one, is there at the next start.
	outer(t, "kill", s.name)
	again := time.Now()
	if _, err := command(t.Context(), "../scripts/testbench", "start", s.name); err != nil {
		t.Fatal(err)
	}
	t.Logf("from docker start to the first poll, with a warm volume: %s", s.polling(t, server, again).Sub(again).Round(10*time.Millisecond))
	if result := build(t, server, passing); result.Stages[0].Status != "success" {
		t.Errorf("after a restart the build is %s: %s", result.Stages[0].Status, result.Stages[0].Error)
	}

	t.Run("of a new container too", func(t *testing.T) {
		outer(t, "rm", "-f", s.name)
		again := time.Now()
		s.create(t, server, "-v", s.name+":/var/lib/docker")
		s.polling(t, server, again)
		if result := build(t, server, passing); result.Stages[0].Status != "success" {
			t.Errorf("in a new container on the old volume the build is %s: %s", result.Stages[0].Status, result.Stages[0].Error)
		}
	})
	t.Run("and a second container on the volume says whose it is", func(t *testing.T) {
		other := system{name: s.name + "-other"}
		t.Cleanup(func() { other.remove(t) })
		other.create(t, server, "-v", s.name+":/var/lib/docker")
		code, log := other.ended(t)
		if code != "1" || !strings.Contains(log, s.name) || !strings.Contains(log, "/var/lib/docker is in use") {
			t.Errorf("exit code %s:\n%s", code, log)
		}
	})
}

// The pipeline of the README, as it is written there but for the images, and with its own files: a
// repository without a clone step.
const recipe = `
kind: pipeline
type: docker
name: default
clone: {disable: true}
steps:
- name: image
  image: standin/docker:1
  pull: never
  volumes:
  - name: docker
    path: /var/run/docker.sock
  commands:
  - printf 'FROM standin/busybox:1\nRUN echo built >/built\nCMD cat /built\n' >Dockerfile
  - docker build -t example .
  - docker run --rm example
  - docker run --rm -v "$PWD:/src" standin/busybox:1 ls /src
  - docker run -d --name db standin/busybox:1 sleep 300
  - docker run --privileged standin/busybox:1 true || echo "no privilege"
volumes:
- name: docker
  host:
    path: /var/run/docker.sock
`

func TestDockerInAnUnprivilegedStep(t *testing.T) {
	server := droneServer(t)
	s := start(t, server, "-e", "DRONE_RUNNER_CAPACITY=2")
	s.polling(t, server, s.began)
	s.load(t, "busybox", "docker")
	// Two at once, with the same names.
	first, second := server.Enqueue(rpctest.Build{YAML: recipe, Trusted: true}), server.Enqueue(rpctest.Build{YAML: recipe, Trusted: true})
	for _, id := range []int64{first, second} {
		result := wait(t, server, id)
		log := result.Step("image").Text()
		if result.Stages[0].Status != "success" {
			t.Errorf("build %d is %s:\n%s", id, result.Stages[0].Status, log)
		}
		for _, want := range []string{"\nbuilt\n", "\nDockerfile\n", "Privileged", "no privilege"} {
			if !strings.Contains(log, want) {
				t.Errorf("build %d doesn't say %q:\n%s", id, want, log)
			}
		}
	}
	s.empty(t)
	s.vanishes(t, "docker ps -aq; docker volume ls -q; ls /run/drone-runner-sysbox/builds/*")

	t.Run("but not for a repository that isn't trusted", func(t *testing.T) {
		result := wait(t, server, server.Enqueue(rpctest.Build{YAML: recipe}))
		if result.Stages[0].Status != "error" || !strings.Contains(result.Stages[0].Error, "trusted") {
			t.Errorf("the build is %s: %s", result.Stages[0].Status, result.Stages[0].Error)
		}
	})
}

// A port that a build publishes is its own in a system container as well, whose root may set up
// nftables though it is nobody outside.
func TestPublishedPortsAreTheBuildsOwn(t *testing.T) {
	server := droneServer(t)
	s := start(t, server, "-e", "DRONE_RUNNER_CAPACITY=2")
	s.polling(t, server, s.began)
	s.load(t, "busybox", "docker")
	step := func(commands ...string) rpctest.Build {
		return rpctest.Build{Trusted: true, YAML: "kind: pipeline\nclone: {disable: true}\nsteps:\n- name: ports\n  image: standin/docker:1\n  pull: never\n  volumes: [{name: docker, path: /var/run/docker.sock}]\n  commands:\n  - " +
			strings.Join(commands, "\n  - ") + "\nvolumes: [{name: docker, host: {path: /var/run/docker.sock}}]\n"}
	}
	const look = "timeout 5 wget -qO- http://ADDRESS:8080/"
	publisher := server.Enqueue(step(
		`docker run -d -p 8080:80 standin/busybox:1 sh -c 'echo hi >/tmp/index.html; exec httpd -f -p 80 -h /tmp'`,
		"until "+strings.Replace(look, "ADDRESS", "host.docker.internal", 1)+"; do sleep 0.2; done",
		"grep host.docker.internal /etc/hosts",
		"sleep 1000"))
	address := ""
	if err := server.Until(within(t, patience), publisher, func(r rpctest.Result) bool {
		if step := r.Step("ports"); step != nil {
			if found := regexp.MustCompile(`(?m)^([0-9.]+)\s+host\.docker\.internal`).FindStringSubmatch(step.Text()); found != nil {
				address = found[1]
			}
		}
		return address != ""
	}); err != nil {
		t.Fatal(err)
	}
	result := wait(t, server, server.Enqueue(step(strings.Replace(look, "ADDRESS", address, 1)+" || echo nobody answers")))
	if log := result.Step("ports").Text(); result.Stages[0].Status != "success" || !strings.Contains(log, "\nnobody answers\n") || strings.Contains(log, "\nhi\n") {
		t.Errorf("another build finds at %s:\n%s", address, log)
	}
	server.Cancel(publisher)
	if log := wait(t, server, publisher).Step("ports").Text(); !strings.Contains(log, "\nhi\n") {
		t.Errorf("the build itself finds:\n%s", log)
	}
	// To the server a build that is cancelled is over at once.
	for ctx := within(t, patience); s.exec(t, "docker", "network", "ls", "-q", "--filter", "label=io.drone") != ""; time.Sleep(100 * time.Millisecond) {
		if ctx.Err() != nil {
			break
		}
	}
	s.empty(t)
}

func TestSIGTERMDrains(t *testing.T) {
	server := droneServer(t)
	s := start(t, server)
	s.polling(t, server, s.began)
	s.load(t)
	id := server.Enqueue(rpctest.Build{YAML: strings.Replace(sleeping, "SECONDS", "4", 1)})
	if err := server.Until(within(t, patience), id, func(r rpctest.Result) bool {
		step := r.Step("sleep")
		return step != nil && strings.Contains(step.Text(), "asleep")
	}); err != nil {
		t.Fatal(err)
	}
	outer(t, "kill", "--signal", "TERM", s.name)
	result := wait(t, server, id)
	if result.Stages[0].Status != "success" || !strings.Contains(result.Step("sleep").Text(), "awake") {
		t.Errorf("the build that ran is %s", result.Stages[0].Status)
	}
	if code, log := s.ended(t); code != "0" {
		t.Errorf("exit code %s:\n%s", code, log)
	}
}

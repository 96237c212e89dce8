//go:build !unit

package docker_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

// images serves the stand-in images from a registry that the system containers reach, and returns its address there.
func images(t testing.TB, names ...string) string {
	t.Helper()
	if _, err := command(t.Context(), "../scripts/standins", names...); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = server.Close(); serving.Wait() })
	var addresses []string
	for _, host := range []string{"127.0.0.1", gateway} {
		l, err := net.Listen("tcp4", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() { _ = server.Serve(l) })
		addresses = append(addresses, l.Addr().String())
	}
	for _, name := range names {
		tag := addresses[0] + "/standin/" + name + ":1"
		for _, args := range [][]string{{"tag", "standin/" + name + ":1", tag}, {"push", tag}, {"rmi", tag}} {
			if _, err := command(t.Context(), "docker", args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	return addresses[1]
}

// withDocker is a pipeline whose step gets Docker from the operator, and runs commands there.
func withDocker(registry string, commands ...string) string {
	return "kind: pipeline\nname: default\nclone: {disable: true}\nsteps:\n- name: docker\n  image: " + registry + "/standin/docker:1\n  commands:\n  - " +
		strings.Join(commands, "\n  - ") + "\n"
}

// names of the cells that run, by the folders of their sockets.
func (s system) cells(t testing.TB) []string {
	t.Helper()
	return strings.Fields(s.exec(t, "sh", "-c", "cd /run/drone-runner-sysbox/cells && ls"))
}

func TestTrustDomains(t *testing.T) {
	server := droneServer(t)
	from := images(t, "docker", "busybox")
	s := start(t, server, "-e", "DRONE_RUNNER_CAPACITY=4", "-e", "DRONE_RUNNER_INSECURE_REGISTRIES="+from,
		"-e", "DRONE_RUNNER_VOLUMES=/var/run/docker.sock:/var/run/docker.sock", "-e", "DRONE_RUNNER_CELLS_IDLE=4s", "-v", "/var/lib/drone-runner")
	s.polling(t, server, s.began)

	t.Run("are cells of their own", func(t *testing.T) {
		talk := withDocker(from, "docker run -d --name db -p 3000:80 "+from+"/standin/busybox:1 sleep 300", "docker info -f {{.DockerRootDir}}",
			"timeout 3 wget -qO- http://"+strings.Fields(s.exec(t, "hostname", "-I"))[0]+":3000/healthz && echo reached || echo nobody answers", "echo ready", "sleep 25")
		began := time.Now()
		ids := map[string]int64{
			"trusted": server.Enqueue(rpctest.Build{Slug: "octo/trusted", Trusted: true, YAML: talk}),
			"one":     server.Enqueue(rpctest.Build{Slug: "octo/one", YAML: talk}),
			"forks": server.Enqueue(rpctest.Build{Slug: "octo/one", YAML: talk, Event: "pull_request", Change: func(b *drone.Build) {
				b.Fork = "evil/one"
			}}),
			"two": server.Enqueue(rpctest.Build{Slug: "octo/two", YAML: talk}),
		}
		for name, id := range ids {
			if err := server.Until(within(t, patience), id, func(r rpctest.Result) bool {
				step := r.Step("docker")
				return step != nil && (strings.Contains(step.Text(), "\nready\n") || step.Stopped != 0)
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		t.Logf("four at work after %s, three of them in cold cells", time.Since(began).Round(10*time.Millisecond))
		if got := s.cells(t); len(got) != 4 {
			t.Errorf("the cells are %v", got)
		}
		if got := s.exec(t, "docker", "ps", "-q", "--filter", "name=db"); len(strings.Fields(got)) != 1 {
			t.Errorf("the shared cell has %s", got)
		}
		out, err := s.try(t, "drone-runner-sysbox", "doctor", "--json")
		proven := 0
		for name, c := range checks(t, out, err) {
			if strings.HasPrefix(name, "cell ") {
				proven++
				if c.Status != syscont.Pass {
					t.Errorf("doctor: %s", c)
				}
			}
		}
		if proven != 3 {
			t.Errorf("doctor has checked %d cells:\n%s", proven, out)
		}
		if got := s.exec(t, "drone-runner-sysbox", "prune", "--dry-run"); !strings.Contains(got, "nothing is left") {
			t.Errorf("prune would remove what builds have now: %s", got)
		}
		roots := map[string]string{}
		for name, id := range ids {
			result := wait(t, server, id)
			log := result.Step("docker").Text()
			root := regexp.MustCompile(`(?m)^/var/lib/docker/cells/(\w+)/data$`).FindStringSubmatch(log)
			if result.Stages[0].Status != "success" || root == nil || !strings.Contains(log, "\nnobody answers\n") {
				t.Errorf("%s is %s (%s):\n%s", name, result.Stages[0].Status, result.Stages[0].Error, log)
				continue
			}
			if other := roots[root[1]]; other != "" {
				t.Errorf("%s is in the cell of %s", name, other)
			}
			roots[root[1]] = name
		}
		if roots["shared"] != "trusted" {
			t.Errorf("the cells are of %v", roots)
		}
		s.empty(t)
	})
	t.Run("share one without Docker", func(t *testing.T) {
		result := wait(t, server, server.Enqueue(rpctest.Build{Slug: "octo/three", YAML: strings.ReplaceAll(strings.Replace(sleeping, "SECONDS", "0", 1), "standin/busybox:1\n  pull: never", from+"/standin/busybox:1")}))
		if result.Stages[0].Status != "success" {
			t.Errorf("it is %s: %s", result.Stages[0].Status, result.Stages[0].Error)
		}
	})
	t.Run("stop when idle, and keep their cache", func(t *testing.T) {
		for ctx := within(t, patience); len(s.cells(t)) > 1; time.Sleep(100 * time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("cells run: %v", s.cells(t))
			}
		}
		began := time.Now()
		result := wait(t, server, server.Enqueue(rpctest.Build{Slug: "octo/one", YAML: withDocker(from, "docker image ls -q "+from+"/standin/busybox | wc -l")}))
		if log := result.Step("docker").Text(); result.Stages[0].Status != "success" || !strings.HasSuffix(strings.TrimSpace(log), "1") {
			t.Errorf("it is %s:\n%s", result.Stages[0].Status, log)
		}
		t.Logf("a stage in a cold cell took %s", time.Since(began).Round(10*time.Millisecond))
		listed := s.exec(t, "drone-runner-sysbox", "cache")
		for _, want := range []string{"octo/one", "octo/one (forks)", "octo/two"} {
			if !strings.Contains(listed+"\n", "  "+want+"\n") {
				t.Errorf("%s isn't known by name: %s", want, listed)
			}
		}
	})
	t.Run("come back when their daemon is killed", func(t *testing.T) {
		id := server.Enqueue(rpctest.Build{Slug: "octo/two", YAML: withDocker(from, "echo ready", "sleep 600")})
		if err := server.Until(within(t, patience), id, func(r rpctest.Result) bool {
			step := r.Step("docker")
			return step != nil && strings.Contains(step.Text(), "ready")
		}); err != nil {
			t.Fatal(err)
		}
		s.exec(t, "sh", "-c", "kill -9 $(for p in $(pgrep -x dockerd); do grep -q /cells/shared$ /proc/$p/cgroup || echo $p; done)")
		result := wait(t, server, id)
		if step := result.Step("docker"); result.Stages[0].Status != "error" || !strings.Contains(step.Error, "the Docker daemon stopped") {
			t.Errorf("the build is %s, its step %q", result.Stages[0].Status, step.Error)
		}
		if next := wait(t, server, server.Enqueue(rpctest.Build{Slug: "octo/two", YAML: withDocker(from, "docker ps -aq")})); next.Stages[0].Status != "success" {
			t.Errorf("the next build is %s: %s", next.Stages[0].Status, next.Stages[0].Error)
		}
	})
}

// What the operator lends of the system container is there in cells, and nothing above it.
func TestHostPathsInACell(t *testing.T) {
	server := droneServer(t)
	s := start(t, server, "-e", "DRONE_RUNNER_HOST_PATHS=/srv/data")
	s.polling(t, server, s.began)
	s.load(t)
	lend := func(path, command string) rpctest.Result {
		return build(t, server, "kind: pipeline\nname: default\nclone: {disable: true}\nsteps:\n- name: lend\n  image: standin/busybox:1\n  pull: never\n  volumes: [{name: v, path: /v}]\n  commands: ["+
			command+"]\nvolumes: [{name: v, host: {path: "+path+"}}]\n")
	}
	if result := lend("/srv/data/npm", "echo lent >/v/file && ln -s ../../.. /v/out"); result.Stages[0].Status != "success" {
		t.Fatalf("it is %s: %s\n%s", result.Stages[0].Status, result.Stages[0].Error, result.Step("lend").Text())
	}
	if got := s.exec(t, "cat", "/srv/data/npm/file"); got != "lent" {
		t.Errorf("the system container has %q", got)
	}
	if result := lend("/srv/data/npm/out", "ls /v"); result.Stages[0].Status != "error" || !strings.Contains(result.Stages[0].Error, "leads out") {
		t.Errorf("a link out of the folder: %s (%s)\n%s", result.Stages[0].Status, result.Stages[0].Error, result.Step("lend").Text())
	}
}

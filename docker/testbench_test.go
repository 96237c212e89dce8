//go:build !unit

package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/syscont"
)

// patience is how long a test waits for something that should take seconds.
const patience = 5 * time.Minute

// gateway is the machine's side of the testbench's network, where the system containers find the
// Drone server of the tests.
const gateway = "198.51.100.1"

// testbench brings the second daemon and the image up, once for all tests.
var testbench = sync.OnceValue(func() error {
	out, err := exec.Command("../scripts/testbench", "up").CombinedOutput()
	if err != nil {
		return fmt.Errorf("scripts/testbench up (it needs root): %w\n%s", err, out)
	}
	return nil
})

// command runs a program and returns its standard output; the error has its standard error.
func command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// outer is docker at the testbench's daemon, which runs the system containers.
func outer(t testing.TB, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), "../scripts/testbench", append([]string{"docker"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// system is a running system container of the image.
type system struct {
	name  string
	began time.Time
}

// start runs the image against a Drone server with a volume of its own for the cache. More
// arguments go to docker create.
func start(t testing.TB, server *rpctest.Server, args ...string) system {
	t.Helper()
	if err := testbench(); err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	for _, kind := range [][]string{{"rm", "-fv", name}, {"volume", "rm", "-f", name}} {
		outer(t, kind...)
	}
	s := system{name: name, began: time.Now()}
	s.create(t, server, append([]string{"-v", name + ":/var/lib/docker"}, args...)...)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			logs, _ := exec.CommandContext(ctx, "../scripts/testbench", "docker", "logs", "--tail", "60", name).CombinedOutput()
			t.Logf("the last lines of %s:\n%s", name, logs)
		}
		s.remove(t)
		if _, err := command(ctx, "../scripts/testbench", "docker", "volume", "rm", "-f", name); err != nil {
			t.Error(err)
		}
	})
	return s
}

// remove removes the container, at the end of a test too, when its context is over.
func (s system) remove(t testing.TB) {
	t.Helper()
	if _, err := command(context.WithoutCancel(t.Context()), "../scripts/testbench", "docker", "rm", "-fv", s.name); err != nil {
		t.Error(err)
	}
}

func (s system) create(t testing.TB, server *rpctest.Server, args ...string) {
	t.Helper()
	run := []string{"run", s.name,
		"-e", "DRONE_RPC_HOST=" + server.Host(), "-e", "DRONE_RPC_SECRET=" + server.Secret(),
		"-e", "DRONE_RUNNER_SANDBOX=userns", "-e", "DRONE_RUNNER_NAME=" + s.name, "-e", "DRONE_DEBUG=true"}
	if _, err := command(t.Context(), "../scripts/testbench", append(run, args...)...); err != nil {
		t.Fatal(err)
	}
}

// exec runs a command in the system container.
func (s system) exec(t testing.TB, args ...string) string {
	t.Helper()
	return outer(t, append([]string{"exec", s.name}, args...)...)
}

// try runs a command in the system container that may fail.
func (s system) try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	return command(t.Context(), "../scripts/testbench", append([]string{"docker", "exec", s.name}, args...)...)
}

// polling waits for the runner's first poll after the given moment.
func (s system) polling(t testing.TB, server *rpctest.Server, since time.Time) time.Time {
	t.Helper()
	for ctx := within(t, patience); ; {
		for _, r := range server.Requests(rpctest.CallRequest) {
			if r.At.After(since) {
				return r.At
			}
		}
		if ctx.Err() != nil || s.state(t) != "running" {
			t.Fatalf("%s doesn't poll; it is %s", s.name, s.state(t))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s system) state(t testing.TB) string {
	t.Helper()
	return outer(t, "inspect", "-f", "{{.State.Status}}", s.name)
}

// ended waits for the end of the container and returns its exit code and log.
func (s system) ended(t testing.TB) (code, log string) {
	t.Helper()
	ctx := within(t, patience)
	code, err := command(ctx, "../scripts/testbench", "docker", "wait", s.name)
	if err != nil {
		t.Fatalf("%s doesn't end: %v", s.name, err)
	}
	both, err := exec.CommandContext(ctx, "../scripts/testbench", "docker", "logs", s.name).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	return code, string(both)
}

// load puts stand-in images into the daemon inside; busybox if none is named.
func (s system) load(t testing.TB, names ...string) {
	t.Helper()
	if len(names) == 0 {
		names = []string{"busybox"}
	}
	if _, err := command(t.Context(), "../scripts/standins", names...); err != nil {
		t.Fatal(err)
	}
	images := ""
	for _, name := range names {
		images += " standin/" + name + ":1"
	}
	if _, err := command(t.Context(), "sh", "-c", "docker save"+images+" | ../scripts/testbench docker exec -i "+s.name+" docker load"); err != nil {
		t.Fatal(err)
	}
}

// empty checks that no build leaves anything in the daemon inside.
func (s system) empty(t testing.TB) {
	t.Helper()
	const label = " --filter label=io.drone"
	s.vanishes(t, "docker ps -aq"+label+"; docker network ls -q"+label+"; docker volume ls -q"+label)
}

// vanishes checks that what a shell command lists goes away: the server is told of a stage's end
// while its clean-up goes on.
func (s system) vanishes(t testing.TB, list string) {
	t.Helper()
	const patience = 30 * time.Second
	var left string
	for began := time.Now(); time.Since(began) < patience; time.Sleep(200 * time.Millisecond) {
		if left = s.exec(t, "sh", "-c", list); left == "" {
			return
		}
	}
	t.Errorf("%s lists, %s after the end: %s", list, patience, left)
}

// checks runs doctor by a command that ends in "doctor --json" and reads what it found, by name.
// doctor exits with 1 when a check failed, which is not this function's business.
func checks(t testing.TB, out string, err error) map[string]syscont.Check {
	t.Helper()
	at := strings.IndexByte(out, '[')
	if at < 0 {
		t.Fatalf("doctor printed %q: %v", out, err)
	}
	var list []syscont.Check
	if err := json.NewDecoder(strings.NewReader(out[at:])).Decode(&list); err != nil {
		t.Fatalf("doctor printed %q: %v", out, err)
	}
	found := map[string]syscont.Check{}
	for _, c := range list {
		found[c.Name] = c
	}
	return found
}

// droneServer is a Drone server that the system containers reach.
func droneServer(t testing.TB) *rpctest.Server {
	t.Helper()
	if err := testbench(); err != nil {
		t.Fatal(err)
	}
	return rpctest.NewServer(t, rpctest.WithAddress(gateway+":0"), rpctest.WithHold(2*time.Second))
}

// build runs a pipeline and returns its end.
func build(t testing.TB, server *rpctest.Server, yaml string) rpctest.Result {
	t.Helper()
	return wait(t, server, server.Enqueue(rpctest.Build{YAML: yaml, Trusted: true}))
}

func wait(t testing.TB, server *rpctest.Server, id int64) rpctest.Result {
	t.Helper()
	result, err := server.Wait(within(t, patience), id)
	if err != nil {
		t.Fatalf("build %d: %v\n%+v", id, err, result)
	}
	return result
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// arch is this machine's, as the image's folders name it.
func arch() string { return runtime.GOARCH }

//go:build !unit

package docker_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// cells is a system container with cells in it and no runner: celltest keeps them.
type cells struct {
	system
	began time.Time
}

// celltest is the program, built once.
var celltest = sync.OnceValues(func() (string, error) {
	program := filepath.Join("..", "dist", "linux-"+arch(), "celltest")
	cmd := exec.Command("go", "build", "-o", program, "../internal/sandbox/cell/celltest")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build celltest: %w\n%s", err, out)
	}
	return program, nil
})

// startCells starts cells of these names. More arguments for docker create come first, behind a
// "--".
func startCells(t testing.TB, names ...string) cells {
	t.Helper()
	if err := testbench(); err != nil {
		t.Fatal(err)
	}
	program, err := celltest()
	if err != nil {
		t.Fatal(err)
	}
	c := cells{system: system{name: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))}}
	outer(t, "rm", "-fv", c.name)
	if _, err := command(t.Context(), "../scripts/testbench", "idle", c.name, "-v", "/var/lib/docker", "-v", "/var/lib/drone-runner", "--dns", gateway); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := command(context.WithoutCancel(t.Context()), "../scripts/testbench", "docker", "exec", c.name, "sh", "-c", "grep -v level=debug /run/celltest.log | tail -n 40")
			t.Logf("the last lines of %s:\n%s", c.name, logs)
		}
		c.remove(t)
	})
	outer(t, "cp", program, c.name+":/usr/local/bin/celltest")
	c.exec(t, "sh", "-c", "echo secret-state >/var/lib/drone-runner/state")
	c.begin(t, names...)
	return c
}

// begin starts celltest.
func (c *cells) begin(t testing.TB, names ...string) {
	t.Helper()
	c.began = time.Now()
	outer(t, "exec", "-d", "-e", "DRONE_RPC_SECRET=secret-environment", c.name, "sh", "-c", "exec celltest "+strings.Join(names, " ")+" >/run/celltest.log 2>&1")
	for _, name := range names {
		c.ready(t, name, 1)
	}
}

// ready waits until a cell has been up n times.
func (c *cells) ready(t testing.TB, name string, n int) {
	t.Helper()
	up := regexp.MustCompile(`the Docker daemon is up" cell=` + name + ` `)
	for ctx := within(t, patience); ; time.Sleep(50 * time.Millisecond) {
		log := c.exec(t, "cat", "/run/celltest.log")
		if len(up.FindAllString(log, -1)) >= n {
			return
		}
		if ctx.Err() != nil || strings.Contains(log, "celltest: ") {
			t.Fatalf("the cell %s isn't up:\n%s", name, log)
		}
	}
}

// docker talks to the daemon of a cell.
func (c *cells) docker(cell string, args ...string) []string {
	return append([]string{"docker", "-H", "unix:///run/drone-runner-sysbox/cells/" + cell + "/docker.sock"}, args...)
}

// in runs a shell script as root of a cell, with all of the cell's namespaces: what a daemon could
// do that somebody has taken over.
func (c *cells) in(t testing.TB, cell, script string) (string, error) {
	t.Helper()
	return c.try(t, "nsenter", "-t", c.pid(t, cell), "-m", "-u", "-i", "-n", "-p", "-C", "sh", "-c", script)
}

// pid is the cell's dockerd's.
func (c *cells) pid(t testing.TB, cell string) string {
	t.Helper()
	return c.exec(t, "sh", "-c", `for p in $(pgrep -x dockerd); do grep -q /cells/`+cell+`$ /proc/$p/cgroup && echo $p; done | head -1`)
}

// busybox loads the image into cells.
func (c *cells) busybox(t testing.TB, names ...string) {
	t.Helper()
	if _, err := command(t.Context(), "../scripts/standins", "busybox"); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := command(t.Context(), "sh", "-c", "docker save standin/busybox:1 | ../scripts/testbench docker exec -i "+c.name+" "+strings.Join(c.docker(name, "load"), " ")); err != nil {
			t.Fatal(err)
		}
	}
}

// nameServer answers every query for an address, over UDP at port 53 of the machine's side, with
// one address.
func nameServer(t testing.TB) (answer string) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", net.JoinHostPort(gateway, "53"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	serving.Go(func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := reply(buffer[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	return "203.0.113.77"
}

// reply makes the answer to a query of one question (RFC 1035): the address for type A, none for
// others.
func reply(query []byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	if end > len(query) {
		return nil
	}
	out := append([]byte{}, query[:end]...)
	out[2], out[3] = 0x84|query[2]&1, 0x80
	binary.BigEndian.PutUint16(out[6:], 0)
	binary.BigEndian.PutUint32(out[8:], 0)
	if binary.BigEndian.Uint16(query[end-4:]) == 1 {
		binary.BigEndian.PutUint16(out[6:], 1)
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 77)
	}
	return out
}

func TestCells(t *testing.T) {
	if err := testbench(); err != nil {
		t.Fatal(err)
	}
	address := nameServer(t)
	c := startCells(t, "one", "two")
	c.busybox(t, "one", "two")
	one := func(t *testing.T, args ...string) string { t.Helper(); return c.exec(t, c.docker("one", args...)...) }
	two := func(t *testing.T, args ...string) string { t.Helper(); return c.exec(t, c.docker("two", args...)...) }

	t.Run("are daemons like any other", func(t *testing.T) {
		info := one(t, "info", "-f", "{{.Driver}} {{.DriverStatus}} {{.DockerRootDir}}")
		for _, want := range []string{"overlay2", "userxattr true", "/cells/one/"} {
			if !strings.Contains(info, want) {
				t.Errorf("info lacks %q: %s", want, info)
			}
		}
		if got := one(t, "run", "--rm", "-m", "64m", "standin/busybox:1", "sh", "-c",
			"cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"); got != "67108864" {
			t.Errorf("-m 64m is %s", got)
		}
		one(t, "network", "create", "bridge1")
		one(t, "run", "-d", "--name", "web", "--network", "bridge1", "-p", "3000:80", "standin/busybox:1", "sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
		if got := one(t, "run", "--rm", "--network", "bridge1", "standin/busybox:1", "sh", "-c", "for i in 1 2 3 4 5; do wget -qO- http://web/ && break; sleep 0.2; done"); got != "hello" {
			t.Errorf("the service by its name says %q", got)
		}
		// Port 3000 is the runner's outside of cells alone.
		if got, err := c.in(t, "one", "timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/3000; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'"); err != nil || !strings.Contains(got, "hello") {
			t.Errorf("the published port says %q: %v", got, err)
		}
		out, err := command(t.Context(), "sh", "-c", `printf 'FROM standin/busybox:1\nRUN echo built >/built\nCMD cat /built\n' | ../scripts/testbench docker exec -i `+c.name+" "+strings.Join(c.docker("one", "build", "-t", "example", "-"), " "))
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if got := one(t, "run", "--rm", "example"); got != "built" {
			t.Errorf("the image that was built says %q", got)
		}
	})
	t.Run("reach what is outside, by name", func(t *testing.T) {
		l, err := net.Listen("tcp4", gateway+":0")
		if err != nil {
			t.Fatal(err)
		}
		seen := make(chan string, 1)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case seen <- r.RemoteAddr:
			default:
			}
			_, _ = w.Write([]byte("outside"))
		})}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(l) })
		t.Cleanup(func() { _ = server.Close(); serving.Wait() })
		if got := one(t, "run", "--rm", "standin/busybox:1", "wget", "-qO-", "http://"+l.Addr().String()); got != "outside" {
			t.Errorf("a container gets %q", got)
		}
		t.Logf("the outside sees %s", <-seen)
		for _, network := range []string{"bridge", "bridge1"} {
			for _, name := range []string{"example.com", "gitea"} {
				if got := one(t, "run", "--rm", "--network", network, "standin/busybox:1", "nslookup", "-type=a", name); !strings.Contains(got, address) {
					t.Errorf("on the network %s the name %s is:\n%s", network, name, got)
				}
			}
		}
	})
	t.Run("don't see each other", func(t *testing.T) {
		if got := two(t, "ps", "-aq"); got != "" {
			t.Errorf("the second has containers of the first: %s", got)
		}
		two(t, "run", "-d", "--name", "web", "-p", "3000:80", "standin/busybox:1", "sleep", "1000")
		if got, err := c.in(t, "two", "ps -e -o args"); err != nil || strings.Contains(got, "httpd") || strings.Contains(got, "celltest") {
			t.Errorf("the second sees processes (%v):\n%s", err, got)
		}
		// The columns are shifted so that docker takes what follows the name of a process for its
		// id.
		if got := two(t, "top", "web", "-o", "lstart=A", "-o", "nice=B", "-o", "pid", "-o", "args", "-A", "e"); strings.Contains(got, "httpd") || strings.Contains(got, "secret") {
			t.Errorf("docker top in the second:\n%s", got)
		}
		if got, err := c.in(t, "two", "timeout 3 bash -c 'exec 3<>/dev/tcp/198.19.240.2/3000; cat <&3' && echo reached"); err == nil {
			t.Errorf("the second reaches a port of the first: %s", got)
		}
		if got, err := c.in(t, "two", "cd /var/lib/docker/cells && ls && cd /run/drone-runner-sysbox/cells && ls"); err != nil || strings.Contains(got, "one") {
			t.Errorf("the second sees folders (%v): %s", err, got)
		}
	})
	t.Run("see nothing of the runner", func(t *testing.T) {
		own := strings.Fields(c.exec(t, "hostname", "-I"))
		for _, to := range append(own, "198.19.240.1") {
			if got, err := c.in(t, "one", "timeout 3 bash -c 'exec 3<>/dev/tcp/"+to+"/3000; cat <&3'"); strings.Contains(got, "the runner") {
				t.Errorf("the runner's port answers at %s: %s (%v)", to, got, err)
			}
		}
		for what, script := range map[string]string{
			"the runner's environment": "cat /proc/[0-9]*/environ | grep -a secret-environment",
			"the runner's state":       "cat /var/lib/drone-runner/state",
			"the state by a mount":     "mkdir /tmp/m; for d in $(ls /sys/dev/block); do mknod /tmp/b b ${d%:*} ${d#*:} && mount /tmp/b /tmp/m && ls /tmp/m/*; rm -f /tmp/b; done; ls /tmp/m/*",
			"the folders of cells":     "ls -d /proc/1/root/var/lib/docker/cells/two",
		} {
			if got, err := c.in(t, "one", script); err == nil {
				t.Errorf("a cell has %s: %s", what, got)
			}
		}
		// What the cell's root writes, the runner must not execute.
		if got, err := c.in(t, "one", `mount -o remount,rw,bind /usr; mount -o remount,rw /usr; umount /usr; for f in $(command -v dockerd celltest drone-runner-sysbox); do echo evil >>$f && echo "wrote $f"; done; true`); err != nil || strings.Contains(got, "wrote") {
			t.Errorf("the cell writes to programs (%v): %s", err, got)
		}
		c.exec(t, "dockerd", "--version")
	})
}

// What one cell does to itself, the other one and the runner live through.
func TestCellsKeepHarmToThemselves(t *testing.T) {
	c := startCells(t, "one", "two")
	c.busybox(t, "one", "two")
	works := func(t *testing.T) {
		t.Helper()
		began := time.Now()
		if got := c.exec(t, c.docker("two", "run", "--rm", "standin/busybox:1", "echo", "fine")...); got != "fine" {
			t.Errorf("the other cell says %q", got)
		}
		t.Logf("a container in the other cell took %s", time.Since(began).Round(10*time.Millisecond))
		if got := c.exec(t, "pgrep", "-x", "celltest"); got == "" {
			t.Error("the runner is gone")
		}
	}
	lives := 1
	t.Run("memory", func(t *testing.T) {
		out, err := c.try(t, c.docker("one", "run", "--rm", "standin/busybox:1", "sh", "-c", "head -c 4000000000 /dev/zero | tail | wc -c")...)
		t.Logf("the hog: %s %v", out, err)
		works(t)
	})
	t.Run("processes", func(t *testing.T) {
		outer(t, append([]string{"exec", "-d", c.name}, c.docker("one", "run", "--rm", "standin/busybox:1", "sh", "-c", "f() { f | f & }; f; sleep 100")...)...)
		most := 0
		for ctx := within(t, patience); most < 1000 && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			var n int
			_, _ = fmt.Sscan(c.exec(t, "sh", "-c", "cat /sys/fs/cgroup/pids/cells/one/pids.current 2>/dev/null || cat /sys/fs/cgroup/cells/one/pids.current 2>/dev/null || echo 0"), &n)
			most = max(most, n)
		}
		t.Logf("the bomb has %d processes", most)
		works(t)
	})
	t.Run("and a daemon that is killed comes back without what it ran", func(t *testing.T) {
		killed := time.Now()
		c.exec(t, "kill", "-9", c.pid(t, "one"))
		lives++
		c.ready(t, "one", lives)
		t.Logf("up again after %s", time.Since(killed).Round(10*time.Millisecond))
		if got := c.exec(t, c.docker("one", "ps", "-q")...); got != "" {
			t.Errorf("containers run: %s", got)
		}
		if got := c.exec(t, c.docker("one", "run", "--rm", "standin/busybox:1", "echo", "fine")...); got != "fine" {
			t.Errorf("the cell says %q", got)
		}
		works(t)
	})
	t.Run("and nothing is left at the end", func(t *testing.T) {
		c.exec(t, "pkill", "-TERM", "-x", "celltest")
		for ctx := within(t, patience); ; time.Sleep(100 * time.Millisecond) {
			left := c.exec(t, "sh", "-c", "pgrep -l 'dockerd|containerd|docker-init' | grep -v '^1 '; ls -d /sys/fs/cgroup/*/cells/*/ /run/drone-runner-sysbox/cells/*/ 2>/dev/null; ip -br link | grep ^drc; true")
			if left == "" {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("left: %s", left)
			}
		}
	})
}

// BenchmarkColdCell is the time from nothing to the first answer of a cell's daemon, and the memory
// of the idle cell.
func BenchmarkColdCell(b *testing.B) {
	c := startCells(b, "first")
	c.busybox(b, "first")
	var cold time.Duration
	for b.Loop() {
		c.exec(b, "pkill", "-TERM", "-x", "celltest")
		for c.exec(b, "sh", "-c", "pgrep -x celltest || true") != "" {
			time.Sleep(20 * time.Millisecond)
		}
		c.begin(b, "first")
		log := c.exec(b, "sh", "-c", "grep '^ready first' /run/celltest.log || sleep 1; grep '^ready first' /run/celltest.log")
		d, err := time.ParseDuration(strings.Fields(log)[3])
		if err != nil {
			b.Fatal(err)
		}
		cold += d
	}
	b.ReportMetric(cold.Seconds()/float64(b.N), "s-to-answer/op")
	kb := c.exec(b, "sh", "-c", `for p in $(pgrep 'dockerd|containerd'); do grep VmRSS /proc/$p/status; done | awk '{ sum += $2 } END { print sum }'`)
	var n float64
	if _, err := fmt.Sscan(kb, &n); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(n/1024, "idle-MB")
}

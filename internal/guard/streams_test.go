//go:build !unit

package guard_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// dial connects to the guard and sends raw text.
func dial(t *testing.T, b *guardtest.Build, text string) (*net.UnixConn, *bufio.Reader) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "unix", b.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn), bufio.NewReader(conn)
}

// prepareExec prepares a command in a container.
func prepareExec(t *testing.T, b *guardtest.Build, name string, cmd ...string) string {
	t.Helper()
	a := b.Request("POST", "/containers/"+name+"/exec", map[string]any{"Cmd": cmd, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true})
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(a.Body), &made); err != nil || a.Status != 201 {
		t.Fatalf("exec: %d %s", a.Status, a.Body)
	}
	return made.ID
}

// TestDetachedExecIsNoTunnel: the daemon answers a detached exec without leaving HTTP. Bytes that
// follow must not reach it as requests of their own.
func TestDetachedExecIsNoTunnel(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	b.Docker("run", "-d", "--name", "a", guardtest.Image, "sleep", "1000")
	for _, upgrade := range []string{"", "Connection: Upgrade\r\nUpgrade: tcp\r\n"} {
		body := `{"Detach":true}`
		smuggled := "GET /v1.41/containers/" + b.Step + "/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
		_, r := dial(t, b, fmt.Sprintf("POST /exec/%s/start HTTP/1.1\r\nHost: d\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s%s", prepareExec(t, b, "a", "true"), upgrade, len(body), body, smuggled))
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "HTTP/1.1 200") {
			t.Errorf("a detached exec is answered\n%s", text)
		}
		if strings.Contains(string(text), "of-the-step") {
			t.Errorf("the second request reached the daemon:\n%s", text)
		}
	}
}

// TestRefusedUpgradeIsNoTunnel is the same for an attach that the daemon refuses.
func TestRefusedUpgradeIsNoTunnel(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	b.Docker("create", "--name", "a", guardtest.Image, "true")
	for _, path := range []string{"/containers/a/attach?stream=1&detachKeys=nonsense-keys", "/containers/json", "/_ping", "/build/prune"} {
		method := "POST"
		if path == "/containers/json" || path == "/_ping" {
			method = "GET"
		}
		_, r := dial(t, b, method+" "+path+" HTTP/1.1\r\nHost: d\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 0\r\n\r\n"+
			"GET /v1.41/containers/"+b.Step+"/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "of-the-step") || strings.HasPrefix(string(text), "HTTP/1.1 101") {
			t.Errorf("%s: %s", path, text)
		}
	}
}

func TestHTTP2IsRefused(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	_, r := dial(t, b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "HTTP/1.1 403") && !strings.HasPrefix(string(text), "HTTP/1.1 400") {
		t.Errorf("answers %q", text)
	}
}

// TestHalfClose: the end of input reaches the command, and its output after that the client.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	b.Docker("run", "-d", "--name", "a", guardtest.Image, "sleep", "1000")
	for _, upgrade := range []string{"", "Connection: Upgrade\r\nUpgrade: tcp\r\n"} {
		body := `{"Detach":false,"Tty":false}`
		conn, r := dial(t, b, fmt.Sprintf("POST /exec/%s/start HTTP/1.1\r\nHost: d\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", prepareExec(t, b, "a", "sh", "-c", "cat; echo after"), upgrade, len(body), body))
		head, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 200, false: 101}[upgrade == ""]; head.StatusCode != want {
			t.Fatalf("answers %s", head.Status)
		}
		if _, err := io.WriteString(conn, "input\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(out, []byte("input\n")) || !bytes.Contains(out, []byte("after\n")) {
			t.Errorf("prints %q", out)
		}
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	b.Docker("create", "--name", "a", guardtest.Image, "true")
	dir := t.TempDir()
	data := make([]byte, 20<<20)
	_, _ = rand.Read(data) // never fails
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, data, 0o600); err != nil {
		t.Fatal(err)
	}
	b.Docker("cp", in, "a:/data")
	b.Docker("cp", "a:/data", out)
	back, err := os.ReadFile(out)
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("docker cp there and back gives other bytes: %v", err)
	}
	if out, err := b.Try("cp", b.Step+":/etc/passwd", filepath.Join(dir, "p")); err == nil {
		t.Errorf("a step's files can be copied: %s", out)
	}
}

// TestCloseEndsAll: a guard that is closed leaves no connection, not even a hijacked or a following
// one.
func TestCloseEndsAll(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	b.Docker("run", "-d", "--name", "a", guardtest.Image, "sh", "-c", "echo out; sleep 1000")
	// the daemon locks a container into which a client copies
	b.Docker("create", "--name", "locked", guardtest.Image, "true")
	attach, _ := dial(t, b, "POST /containers/a/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n")
	logs, _ := dial(t, b, "GET /containers/a/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n")
	events, _ := dial(t, b, "GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
	wait, _ := dial(t, b, "POST /containers/a/wait HTTP/1.1\r\nHost: d\r\n\r\n")
	body, _ := dial(t, b, "PUT /containers/locked/archive?path=/ HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n")
	for i, c := range []net.Conn{attach, logs, events, wait} {
		if _, err := c.Read(make([]byte, 1)); err != nil { // the answer has begun
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if err := b.Guard.Close(); err != nil {
		t.Fatal(err)
	}
	for i, c := range []net.Conn{attach, logs, events, wait, body} {
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("connection %d is still open", i)
		}
	}
	if _, err := b.Try("ps"); err == nil {
		t.Error("a closed guard answers")
	}
}

// TestTerminal: a client with a terminal, as users have it.
func TestTerminal(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	cmd := exec.CommandContext(t.Context(), "script", "-qec", "docker run --rm -it "+guardtest.Image+" sh -c 'test -t 0 && echo terminal'", "/dev/null")
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+b.Socket)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "terminal") {
		t.Errorf("prints %q: %v", out, err)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	b, other := guardtest.Start(t), guardtest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	since := strings.TrimSpace(b.Docker("info", "--format", "{{.SystemTime}}"))
	_ = ctx
	other.Docker("run", "--rm", "--name", "foreign", guardtest.Image, "true")
	b.Docker("network", "create", "n")
	b.Docker("volume", "create", "vol")
	b.Docker("run", "--rm", "--name", "mine", "--network", "n", "-v", "vol:/v", "-v", "/anon", guardtest.Image, "true")
	b.Docker("network", "rm", "n")
	until := strings.TrimSpace(b.Docker("info", "--format", "{{.SystemTime}}"))
	out := b.Docker("events", "--since", since, "--until", until, "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}")
	if strings.Contains(out, "foreign") || strings.Contains(out, b.ID) || strings.Contains(out, other.ID) {
		t.Errorf("events:\n%s", out)
	}
	for _, want := range []string{"container create mine", "container start mine", "container die mine", "container destroy mine", "network create n", "network connect n", "network destroy n", "volume create", "volume mount"} {
		if !strings.Contains(out, want) {
			t.Errorf("events have no %q:\n%s", want, out)
		}
	}
	if out := b.Docker("events", "--since", since, "--until", until, "--filter", "container=mine", "--filter", "event=die", "--format", "{{.Action}} {{.Actor.Attributes.name}}"); out != "die mine\n" {
		t.Errorf("filtered events: %q", out)
	}
}

// freePort returns a port that nobody listens on at any address of this machine.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestTwoBuilds: two stages do the same at the same time, and know nothing of each other.
func TestTwoBuilds(t *testing.T) {
	t.Parallel()
	a, z := guardtest.Start(t), guardtest.Start(t)
	port := freePort(t)
	for _, b := range []*guardtest.Build{a, z} {
		b.Docker("network", "create", "n")
		b.Docker("volume", "create", "vol")
		b.Docker("run", "-d", "--name", "db", "-p", port+":80", "--network", "n", "-v", "vol:/v", guardtest.Image,
			"sh", "-c", "echo "+b.ID+" > /index.html && httpd -f -p 80 -h /")
	}
	for _, b := range []*guardtest.Build{a, z} {
		for _, url := range []string{"http://host.docker.internal:" + port + "/"} {
			out := ""
			if !eventually(func() bool {
				out, _ = b.Try("run", "--rm", guardtest.Image, "wget", "-qO-", url)
				return out == b.ID+"\n"
			}) {
				t.Errorf("%s answers %q, want the build's own", url, out)
			}
		}
	}
	theirs := strings.TrimSpace(z.Docker("inspect", "-f", "{{.Id}}", "db"))
	net := strings.TrimSpace(z.Docker("network", "inspect", "-f", "{{.Id}}", "n"))
	exec := prepareExec(t, z, "db", "true")
	for _, ref := range []string{theirs, theirs[:12], theirs[:5], z.ID + ".db", z.Step, z.ID + "-1"} {
		for _, r := range []struct{ method, path, body string }{
			{"GET", "/json", ""}, {"GET", "/logs?stdout=1", ""}, {"GET", "/top", ""}, {"GET", "/export", ""}, {"GET", "/changes", ""}, {"GET", "/stats?stream=0", ""}, {"GET", "/archive?path=/", ""},
			{"POST", "/start", ""}, {"POST", "/stop", ""}, {"POST", "/kill", ""}, {"POST", "/pause", ""}, {"POST", "/wait", ""}, {"POST", "/attach", ""}, {"POST", "/rename?name=x", ""},
			{"POST", "/exec", `{"Cmd":["true"]}`}, {"POST", "/update", `{"Memory":8388608}`}, {"DELETE", "?force=1", ""}, {"PUT", "/archive?path=/", ""},
		} {
			var body any
			if r.body != "" {
				body = r.body
			}
			if got := a.Request(r.method, "/containers/"+ref+r.path, body); got.Status != 404 || !strings.Contains(got.Message, "No such container") {
				t.Errorf("%s %s of another build's container is answered %d %s", r.method, r.path, got.Status, got.Body)
			}
		}
	}
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/networks/" + net, ""}, {"GET", "/networks/" + z.ID, ""}, {"GET", "/networks/" + z.ID + ".n", ""}, {"DELETE", "/networks/" + net, ""}, {"DELETE", "/networks/" + net[:12], ""},
		{"POST", "/networks/" + net + "/connect", `{"Container":"db"}`}, {"POST", "/networks/n/connect", `{"Container":"` + theirs + `"}`}, {"POST", "/networks/n/disconnect", `{"Container":"` + theirs + `"}`},
		{"GET", "/volumes/" + z.ID + ".vol", ""}, {"DELETE", "/volumes/" + z.ID + ".vol", ""}, {"GET", "/volumes/" + z.Workspace, ""}, {"DELETE", "/volumes/" + z.Workspace, ""},
		{"GET", "/exec/" + exec + "/json", ""}, {"POST", "/exec/" + exec + "/start", `{}`}, {"POST", "/exec/" + exec + "/resize?h=1&w=1", ""},
	} {
		var body any
		if r.body != "" {
			body = r.body
		}
		if got := a.Request(r.method, r.path, body); got.Status != 404 {
			t.Errorf("%s %s, of another build, is answered %d %s", r.method, r.path, got.Status, got.Body)
		}
	}
	a.Docker("system", "prune", "-f", "--volumes")
	a.Docker("rm", "-f", "db")
	a.Docker("network", "prune", "-f")
	if _, err := a.Try("volume", "prune", "-af"); err != nil { // before API 1.42 there is no -a, and no difference
		a.Docker("volume", "prune", "-f")
	}
	if got := z.Docker("ps", "--format", "{{.Names}}"); got != "db\n" {
		t.Errorf("after another's prune, ps shows %q", got)
	}
	for _, kind := range []string{"network", "volume"} {
		if got := z.Docker(kind, "ls", "--format", "{{.Name}}", "--filter", "name="+kind[:1]); !strings.Contains(got, kind[:1]) {
			t.Errorf("after another's prune, %s ls shows %q", kind, got)
		}
	}
	if got := a.Docker("volume", "ls", "-q"); got != "" {
		t.Errorf("prune leaves volumes: %q", got)
	}
	a.InStep("test -d .") // the workspace and the step are still there
	a.Host("volume", "inspect", a.Workspace)
}

// TestStepsAreOutOfReach: a client sees and joins the build's steps, and changes nothing about
// them.
func TestStepsAreOutOfReach(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	if got := b.Docker("inspect", b.Step); strings.Contains(got, "of-the-step") {
		t.Errorf("inspect shows a step's environment:\n%s", got)
	}
	for _, args := range [][]string{
		{"rm", "-f", b.Step}, {"stop", b.Step}, {"kill", b.Step}, {"exec", b.Step, "env"}, {"cp", b.Step + ":/etc/passwd", "-"}, {"logs", b.Step}, {"commit", b.Step}, {"export", "-o", "/dev/null", b.Step},
		{"update", "--memory", "10m", b.Step}, {"rename", b.Step, "x"}, {"pause", b.Step}, {"top", b.Step}, {"attach", b.Step}, {"volume", "rm", b.Workspace}, {"network", "rm", b.Network}, {"network", "rm", "bridge"},
		{"run", "--rm", "--pid", "container:" + b.Step, guardtest.Image, "true"},
	} {
		if out, err := b.Try(args...); err == nil {
			t.Errorf("docker %v works: %s", args, out)
		}
	}
	b.Docker("system", "prune", "-f", "--volumes")
	b.InStep("docker rm -f $(docker ps -aq) || true; docker volume rm $(docker volume ls -q) || true; docker network prune -f")
	b.InStep("true")
}

func TestLeavesNothing(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	b.Docker("run", "-d", "--name", "a", "-v", "/anon", "-v", "named:/n", "--restart", "always", guardtest.Image, "sleep", "1000")
	b.Docker("run", "-d", guardtest.Image, "sleep", "1000")
	b.Docker("network", "create", "n")
	for _, kind := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q"}, {"volume", "ls", "-q"}} {
		all := strings.Fields(b.Host(append(kind, "--filter", "label="+guardtest.OwnerLabel+"="+b.ID)...))
		if want := map[string]int{"ps": 3, "network": 2, "volume": 3}[kind[0]]; len(all) != want {
			t.Errorf("%v finds %d by the owner's label, want %d", kind, len(all), want)
		}
	}
}

package guard

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	fakeID      = "drone-abc"
	fakeOwner   = "io.drone-runner-sysbox.spec"
	fakeGateway = "172.20.0.1"
	idOwn       = "1111111111111111111111111111111111111111111111111111111111111111"
	idStep      = "2222222222222222222222222222222222222222222222222222222222222222"
	idForeign   = "3333333333333333333333333333333333333333333333333333333333333333"
	idForged    = "4444444444444444444444444444444444444444444444444444444444444444"
	idMade      = "5555555555555555555555555555555555555555555555555555555555555555"
)

// fakeDaemon answers look-ups with a small world, and records what else reaches it: what the guard
// really sends is what counts.
type fakeDaemon struct {
	version string // of its API, the newest
	oldest  string // 1.12 if empty

	mu   sync.Mutex
	seen []seen
}

// seen is a request that reached the daemon and was no look-up.
type seen struct {
	Method, Path, Query string
	Header              http.Header
	Body                string
}

func labels(owner, guard string) string {
	m := map[string]string{}
	if owner != "" {
		m[fakeOwner] = owner
	}
	if guard != "" {
		m[LabelGuard] = guard
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// fakeWorld is what the daemon has: containers by every name, networks, volumes, an image.
var fakeWorld = func() map[string]string {
	w := map[string]string{}
	for _, c := range []struct{ id, name, labels, mounts string }{
		{idOwn, fakeID + ".db", labels(fakeID, fakeID), `[]`},
		{idStep, fakeID + "-1", labels(fakeID, ""), `[{"Type":"volume","Name":"drone-abc-workspace","Source":"/v/ws","Destination":"/drone/src","RW":true},` +
			`{"Type":"volume","Name":"cache","Source":"/v/cache","Destination":"/cache","RW":false},{"Type":"bind","Source":"/guard.sock","Destination":"/var/run/docker.sock","RW":true},` +
			`{"Type":"tmpfs","Destination":"/mem","RW":true}]`},
		{idForeign, "drone-xyz.db", labels("drone-xyz", "drone-xyz"), `[]`},
		{idForged, "nifty_bohr", labels(fakeID, fakeID), `[]`},
	} {
		text := fmt.Sprintf(`{"Id":%q,"Name":%q,"Config":{"Env":["S=secret"],"Labels":%s},"Mounts":%s,"HostConfig":{"NetworkMode":"drone-abc","Mounts":null},"NetworkSettings":{"Networks":{"drone-abc":{}}}}`, c.id, "/"+c.name, c.labels, c.mounts)
		w["/containers/"+c.id+"/json"] = text
		w["/containers/"+c.name+"/json"] = text
		w["/containers/"+c.id[:12]+"/json"] = text // the daemon completes ids
	}
	w["/containers/json"] = fmt.Sprintf(`[{"Id":%q,"Names":["/drone-abc.db"],"Labels":%s},{"Id":%q,"Names":["/drone-abc-1"],"Labels":%s,"Mounts":[{"Type":"volume","Name":"drone-abc-workspace","Source":"/v/ws","Destination":"/drone/src","RW":true},{"Type":"volume","Name":"cache","Source":"/v/cache","Destination":"/cache","RW":false},{"Type":"bind","Source":"/guard.sock","Destination":"/var/run/docker.sock","RW":true},{"Type":"tmpfs","Destination":"/mem","RW":true}]},{"Id":%q,"Names":["/nifty_bohr"],"Labels":%s}]`,
		idOwn, labels(fakeID, fakeID), idStep, labels(fakeID, ""), idForged, labels(fakeID, fakeID))
	net := func(id, name, labels string) string {
		return fmt.Sprintf(`{"Id":%q,"Name":%q,"Labels":%s,"IPAM":{"Config":[{"Subnet":"172.20.0.0/16","Gateway":%q}]}}`, id, name, labels, fakeGateway)
	}
	build, inner := net(strings.Repeat("a", 64), "drone-abc", labels(fakeID, "")), net(strings.Repeat("b", 64), "drone-abc.inner", labels(fakeID, fakeID))
	w["/networks"] = "[" + build + "," + inner + "]"
	w["/networks/drone-abc"] = build
	w["/volumes/drone-abc.data"] = `{"Name":"drone-abc.data","Mountpoint":"/v/data","Labels":` + labels(fakeID, fakeID) + `}`
	w["/volumes/drone-abc-workspace"] = `{"Name":"drone-abc-workspace","Mountpoint":"/v/ws","Labels":` + labels(fakeID, "") + `}`
	w["/volumes/foreign"] = `{"Name":"foreign","Mountpoint":"/v/f","Labels":` + labels("drone-xyz", "drone-xyz") + `}`
	w["/volumes/cache"] = `{"Name":"cache","Mountpoint":"/v/cache","Labels":{}}`
	w["/images/docker.io/library/img:latest/json"] = `{"Id":"sha256:` + strings.Repeat("1", 64) + `","RepoTags":["img:latest"],"Config":{"Volumes":{"/var/lib/db":{}},"ExposedPorts":{"5432/tcp":{}},"Labels":{"io.drone-runner-sysbox.spec":"drone-xyz","a":"b"}}}`
	w["/exec/aaaa/json"] = `{"ID":"aaaa","ContainerID":"` + idOwn + `"}`
	w["/exec/bbbb/json"] = `{"ID":"bbbb","ContainerID":"` + idForeign + `"}`
	w["/exec/cccc/json"] = `{"ID":"cccc","ContainerID":"` + idStep + `"}`
	return w
}()

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, p, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	p = "/" + p
	w.Header().Set("Api-Version", d.version)
	if r.URL.Path == "/version" || p == "/version" {
		api := fmt.Sprintf(`"ApiVersion":%q,"MinAPIVersion":%q`, d.version, cmp.Or(d.oldest, "1.12"))
		fmt.Fprintf(w, `{%s,"Version":"20","Components":[{"Name":"Engine","Details":{%[1]s}},{"Name":"runc","Details":{"GitCommit":"c"}}]}`, api)
		return
	}
	if text, ok := fakeWorld[p]; ok && r.Method == http.MethodGet {
		_, _ = io.WriteString(w, text)
		return
	}
	body, _ := io.ReadAll(r.Body)
	d.mu.Lock()
	d.seen = append(d.seen, seen{r.Method, r.URL.Path, r.URL.RawQuery, r.Header, string(body)})
	d.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case p == "/containers/create":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"Id":%q,"Warnings":[]}`, idMade)
	case p == "/volumes/create":
		var v struct{ Name string }
		_ = json.Unmarshal(body, &v)
		fmt.Fprintf(w, `{"Name":%q,"Labels":{}}`, v.Name)
	case r.Method == http.MethodGet && (strings.HasPrefix(p, "/containers/") || strings.HasPrefix(p, "/volumes/") || strings.HasPrefix(p, "/images/") || strings.HasPrefix(p, "/exec/")) && !strings.HasSuffix(p, "/logs"):
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":"no such thing: %s"}`, p)
	default:
		_, _ = io.WriteString(w, `{}`)
	}
}

// last is the last request that wasn't a failed look-up.
func (d *fakeDaemon) last() *seen {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.seen) - 1; i >= 0; i-- {
		if s := d.seen[i]; s.Method != http.MethodGet || strings.HasSuffix(s.Path, "/logs") {
			return &s
		}
	}
	return nil
}

// fakeBuild is a guard in front of a fakeDaemon.
type fakeBuild struct {
	*Guard
	daemon *fakeDaemon
	socket string
	http   *http.Client
}

func serveUnix(t testing.TB, path string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { _ = s.Close(); done.Wait() })
}

// newFakeIn is newFake for a fuzz test, whose inputs share it.
func newFakeIn(f *testing.F) *fakeBuild { return newFake(f, "1.45") }

// forget drops what was recorded.
func (d *fakeDaemon) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = nil
}

func newFake(t testing.TB, version string, change ...func(*Options)) *fakeBuild {
	t.Helper()
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &fakeDaemon{version: version}
	upstream := filepath.Join(dir, "d")
	serveUnix(t, upstream, d)
	o := Options{ID: fakeID, OwnerLabel: fakeOwner, Labels: map[string]string{fakeOwner: fakeID}, Network: fakeID, Daemon: upstream, Socket: "/guard.sock", SocketDir: "/guard.d"}
	for _, f := range change {
		f(&o)
	}
	b := &fakeBuild{daemon: d, socket: filepath.Join(dir, "g")}
	if b.Guard, err = New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", b.socket)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := b.Serve(context.Background(), l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	b.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var n net.Dialer
		return n.DialContext(ctx, "unix", b.socket)
	}}}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		done.Wait()
		b.http.CloseIdleConnections()
	})
	return b
}

// do sends a request; the answer's status and message (or body).
func (b *fakeBuild) do(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://docker"+path, in)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := b.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Message string }
	if json.Unmarshal(text, &m) == nil && m.Message != "" {
		return resp.StatusCode, m.Message
	}
	return resp.StatusCode, string(text)
}

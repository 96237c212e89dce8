//go:build !unit

package guard_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// The attack suite: each row is one way out of a build, tried twice. Against the daemon's own
// socket it works (where this machine can't carry it through, the daemon accepts it at least),
// which proves that the row is real; against the guard it is refused, in Docker's words, and leaves
// nothing.
//
// All of it happens on a daemon of its own: proofs do harm, and so would an attack that the guard
// lets through.
//
// attack_create_test.go has what a container may ask for, attack_http_test.go games with the
// protocol, attack_others_test.go what belongs to others, attack_mounts_test.go links and races in
// mounts, attack_images_test.go tags and what others have built, attack_build_test.go,
// attack_bases_test.go and attack_buildkit_test.go builds, attack_forgeries_test.go labels.

// TestAttack runs the rows of all families in one arena.
func TestAttack(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	for _, family := range []struct {
		name string
		run  func(*testing.T, *arena)
	}{
		{"create", attackCreate}, {"http", attackHTTP}, {"others", attackOthers}, {"images", attackImages}, {"build", attackBuild}, {"bases", attackBases}, {"cache", attackCache}, {"buildkit", attackBuildKit}, {"mounts", attackMounts},
		{"forgeries", attackForgeries}, {"last", attackLast},
	} {
		t.Run(family.name, func(t *testing.T) { family.run(t, a) })
	}
}

// attack is one request.
type attack struct {
	name         string
	method, path string
	// body is sent as it is if it's a string or bytes, else as JSON; a function makes it of the
	// words. Words in braces in path, header, body and raw are the arena's: {container},
	// {own.network}, …
	body any
	// header lines; a Content-Type among them replaces application/json.
	header []string
	// raw replaces all of the above by the bytes that go over a connection: malformed, or several
	// requests at once.
	raw string
	// half has the client end its half of a raw connection after that.
	half bool
	// bare reports whether the daemon let it through; nil wants what leaks to be there for a GET,
	// else a status below 400.
	bare func(*guardtest.Answer) bool
	// closed is what daemons answer that not any more have this door. Where one does, there is
	// nothing to prove, and the guard may say the same.
	closed string
	// says must be part of the guard's refusal, if it's set.
	says string
	// status of the refusal; 0 is any of 400, 403, 404.
	status int
	// slow is for what the daemon looks for longer than is worth waiting: that it does is the
	// proof.
	slow bool
	// tamed is for what the guard answers, but makes harmless: it looks whether it is. The answer
	// is then no refusal.
	tamed func(*testing.T, *arena, *guardtest.Answer)
	// prepare makes what a row uses up, for each of its runs; its words come over the arena's. bare
	// tells which run it is for.
	prepare func(t *testing.T, a *arena, bare bool) words
}

// base is an image that all stages share.
const base = "attack.test/base:1"

// words are what the braces in rows stand for.
type words map[string]string

func (w words) in(s string) string {
	var pairs []string
	for k, v := range w {
		pairs = append(pairs, "{"+k+"}", v)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

// arena is where attacks are fought: two stages on one daemon, and a third for proofs.
type arena struct {
	daemon           string // its socket
	attacker, victim *guardtest.Build
	// target is what an attack on the guard aims at: the victim's. spare is the same of a build
	// that nobody misses, for attacks on the daemon itself. Both hold the attacker's own things as
	// well, as own.container and so on.
	target, spare words
}

// newArena makes the builds. change is for the attacker's guard.
func newArena(t *testing.T, change ...func(*guard.Options)) *arena {
	t.Helper()
	a := &arena{daemon: guardtest.StartDaemon(t)}
	on := func(o *guard.Options) { o.Daemon = a.daemon }
	a.attacker, a.victim = guardtest.Start(t, append(change, on)...), guardtest.Start(t, on)
	a.victim.Host("tag", guardtest.Image, base)
	own := words{}
	for k, v := range belongings(t, a.attacker) {
		own["own."+k] = v
	}
	a.target, a.spare = belongings(t, a.victim), belongings(t, guardtest.Start(t, on))
	maps.Copy(a.target, own)
	maps.Copy(a.spare, own)
	return a
}

// belongings makes, through the guard of a build, what a build has: a container that runs, with an
// exec, a network, a volume. Each carries the build's secret.
func belongings(t *testing.T, b *guardtest.Build) words {
	t.Helper()
	secret := "secret-of-" + b.ID
	id := strings.TrimSpace(b.Docker("run", "-d", "--name", "db", "--label", "secret="+secret, "-e", "SECRET="+secret, "-v", "vol:/v", guardtest.Image,
		"sh", "-c", "echo "+secret+" | tee /secret >/v/secret; cat /secret; exec sleep 100000"))
	network := strings.TrimSpace(b.Docker("network", "create", "--label", "secret="+secret, "n"))
	b.Docker("volume", "create", "--label", "secret="+secret, "w")
	theirs := strings.TrimSpace(b.Docker("commit", "--change", "LABEL secret="+secret, "db", "theirs:1"))
	idle := strings.TrimSpace(b.Docker("create", "--name", "idle", "--label", "secret="+secret, guardtest.Image, "true"))
	var e struct{ ID string }
	answer := b.Request("POST", "/containers/"+id+"/exec", `{"Cmd":["cat","/secret"],"Env":["SECRET=`+secret+`"],"AttachStdout":true}`)
	if err := json.Unmarshal([]byte(answer.Body), &e); err != nil || e.ID == "" {
		t.Fatalf("create an exec: %d %s", answer.Status, answer.Body)
	}
	return words{
		"id": b.ID, "secret": secret, "container": id, "idle": idle, "short": id[:12], "name": b.ID + ".db", "exec": e.ID, "network": network, "netname": b.ID + ".n",
		"buildnet": b.Network, "volume": b.ID + ".vol", "volume2": b.ID + ".w", "workspace": b.Workspace, "step": b.Step, "stepname": b.ID + "-1", "image": guardtest.Image,
		// What the build has made is called so in the daemon.
		"theirs": b.ID + ".build.invalid/docker.io/library/theirs:1", "theirsid": theirs, "theirshex": strings.TrimPrefix(theirs, "sha256:"), "base": base,
	}
}

// fight runs rows, each against both sockets.
func (a *arena) fight(t *testing.T, rows []attack) {
	names := map[string]bool{}
	for _, row := range rows {
		if names[row.name] {
			t.Errorf("two rows are called %q", row.name)
		}
		names[row.name] = true
		t.Run(row.name, func(t *testing.T) {
			a.proves(t, row)
			a.withstands(t, row)
		})
	}
	a.unharmed(t)
}

// proves runs a row against the daemon, where it must work.
func (a *arena) proves(t *testing.T, row attack) {
	t.Helper()
	w := a.spare
	if row.prepare != nil {
		w = merged(w, row.prepare(t, a, true))
	}
	got := row.send(t, a.daemon, w)
	defer a.undo(t, row.path, got)
	works := got.Status > 0 && got.Status < 400
	switch {
	case row.bare != nil:
		works = row.bare(got)
	case row.method == http.MethodGet || row.raw != "":
		works = strings.Contains(got.Body, a.spare["secret"])
	}
	if row.closed != "" && strings.Contains(got.Body, row.closed) {
		t.Logf("this daemon has closed the door: %.300q", got.Body)
		return
	}
	if !works {
		t.Errorf("the row proves nothing: the daemon itself answers %d %.300q", got.Status, got.Body)
	}
}

// withstands runs a row against the guard.
func (a *arena) withstands(t *testing.T, row attack) {
	t.Helper()
	w := a.target
	if row.prepare != nil {
		w = merged(w, row.prepare(t, a, false))
	}
	before := a.leftovers(t)
	row.slow = false // the guard is waited for
	got := row.send(t, a.attacker.Socket, w)
	if strings.Contains(got.Body, a.target["secret"]) {
		t.Errorf("the guard tells the victim's secret: %d %.300q", got.Status, got.Body)
	}
	if row.tamed != nil {
		row.tamed(t, a, got)
		a.undo(t, row.path, got)
		return
	}
	switch {
	case row.closed != "" && got.Status == http.StatusBadRequest && strings.Contains(got.Body, row.closed):
	case row.status != 0 && got.Status != row.status, row.status == 0 && !slices.Contains([]int{400, 403, 404}, got.Status):
		t.Errorf("the guard answers %d %.300q, want a refusal", got.Status, got.Body)
	case !strings.Contains(got.Body, row.says):
		t.Errorf("the guard refuses with %q, which doesn't name %q", got.Body, row.says)
	case row.raw == "" && row.method != http.MethodHead && (got.Message == "" || got.Header.Get("Content-Type") != "application/json"):
		t.Errorf("the guard's refusal isn't like Docker's: %q %q", got.Header.Get("Content-Type"), got.Body)
	}
	if after := a.leftovers(t); !slices.Equal(before, after) {
		t.Errorf("the refused request left something: %v before, %v after", before, after)
		a.undo(t, row.path, got)
	}
}

func merged(a, b words) words {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// leftovers lists all of the attacker's objects in the daemon.
func (a *arena) leftovers(t *testing.T) (out []string) {
	t.Helper()
	filter := url.QueryEscape(`{"label":["` + guardtest.OwnerLabel + `=` + a.attacker.ID + `"]}`)
	for _, path := range []string{"/containers/json?all=1&filters=", "/networks?filters=", "/volumes?filters="} {
		answer, err := guardtest.Send(a.daemon, "GET", path+filter, nil)
		if err != nil || answer.Status != http.StatusOK {
			t.Fatalf("list what is left: %v %d %s", err, answer.Status, answer.Body)
		}
		type object struct {
			ID   string `json:"Id"`
			Name string
		}
		var list []object
		if path[1] == 'v' {
			var v struct{ Volumes []object }
			err = json.Unmarshal([]byte(answer.Body), &v)
			list = v.Volumes
		} else {
			err = json.Unmarshal([]byte(answer.Body), &list)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			out = append(out, o.ID+o.Name)
		}
	}
	slices.Sort(out)
	return out
}

// unharmed looks that the victim, and the attacker's own step, are what they were.
func (a *arena) unharmed(t *testing.T) {
	t.Helper()
	for id, image := range map[string]string{a.target["container"]: guardtest.Image, a.target["step"]: guardtest.DockerImage, a.target["own.step"]: guardtest.DockerImage} {
		state := a.victim.Host("inspect", "-f", "{{.State.Running}} {{.State.Paused}} {{.RestartCount}} {{.Config.Image}} {{.HostConfig.Memory}}", id)
		if want := "true false 0 " + image + " 0\n"; state != want {
			t.Errorf("container %.12s is %q now, want %q", id, state, want)
		}
	}
	if name := a.victim.Host("inspect", "-f", "{{.Name}}", a.target["container"]); name != "/"+a.target["name"]+"\n" {
		t.Errorf("the victim's container is called %q now", name)
	}
	if secret := a.victim.Docker("exec", "db", "cat", "/secret", "/v/secret"); secret != strings.Repeat(a.target["secret"]+"\n", 2) {
		t.Errorf("the victim's files hold %q now", secret)
	}
	a.victim.Docker("container", "inspect", "idle")
	a.victim.Docker("image", "inspect", "theirs:1", base)
	a.victim.Docker("network", "inspect", "n")
	a.victim.Docker("volume", "inspect", "vol", "w")
}

// undo removes what a create call made.
func (a *arena) undo(t *testing.T, path string, made *guardtest.Answer) {
	t.Helper()
	var o struct {
		ID   string `json:"Id"`
		Name string
	}
	if made.Status != http.StatusCreated || json.Unmarshal([]byte(made.Body), &o) != nil {
		return
	}
	switch path, _, _ = strings.Cut(path, "?"); {
	case strings.HasSuffix(path, "/containers/create"):
		path = "/containers/" + o.ID + "?force=1&v=1"
	case strings.HasSuffix(path, "/networks/create"):
		path = "/networks/" + o.ID
	case strings.HasSuffix(path, "/volumes/create"):
		path = "/volumes/" + o.Name + "?force=1"
	default:
		return
	}
	if answer, err := guardtest.Send(a.daemon, "DELETE", path, nil); err != nil || answer.Status >= 400 {
		t.Errorf("undo: %v %d %s", err, answer.Status, answer.Body)
	}
}

// send makes the request. The answer to raw bytes is that to the last request in them, with all
// that came in its Body.
func (row attack) send(t *testing.T, socket string, w words) *guardtest.Answer {
	t.Helper()
	if row.raw != "" {
		return sendRaw(t, socket, w.in(row.raw), row.half)
	}
	var body []byte
	switch v := row.body.(type) {
	case nil:
	case string:
		body = []byte(w.in(v))
	case []byte:
		body = v
	case func(words) []byte:
		body = v(w)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		body = []byte(w.in(string(text)))
	}
	r, err := http.NewRequestWithContext(t.Context(), row.method, "http://docker"+w.in(row.path), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, line := range row.header {
		k, v, _ := strings.Cut(line, ": ")
		r.Header.Set(k, w.in(v))
	}
	client := guardtest.Client(socket)
	if row.slow {
		client.Timeout = time.Second
	}
	resp, err := client.Do(r)
	if row.slow && os.IsTimeout(err) {
		return &guardtest.Answer{Status: http.StatusAccepted, Body: "it is looking"}
	}
	if err != nil {
		t.Fatalf("%s %s: %v", row.method, row.path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // logs and exports need no end
	if err != nil {
		t.Fatalf("read the answer to %s %s: %v", row.method, row.path, err)
	}
	return answerOf(resp, append(text, traced(text)...))
}

func answerOf(resp *http.Response, text []byte) *guardtest.Answer {
	a := &guardtest.Answer{Status: resp.StatusCode, Body: string(text), Header: resp.Header}
	var m struct{ Message string }
	if json.Unmarshal(text, &m) == nil {
		a.Message = m.Message
	}
	return a
}

// rawTime is how long an answer to raw bytes may pause, and firstTime how long it may take to
// begin: servers that wait for more bytes than there are never end by themselves.
const (
	rawTime   = 3 * time.Second
	firstTime = 30 * time.Second
)

// sendRaw writes bytes to a connection and reads what comes until the other end closes it, or
// nothing more comes.
func sendRaw(t *testing.T, socket, text string, half bool) *guardtest.Answer {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(firstTime)); err != nil {
		t.Fatal(err)
	}
	// A server that refuses early may close before it has read all.
	_, _ = io.WriteString(conn, text)
	if half {
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	var all bytes.Buffer
	for piece := make([]byte, 32<<10); ; {
		n, err := conn.Read(piece)
		all.Write(piece[:n])
		if err == nil {
			err = conn.SetReadDeadline(time.Now().Add(rawTime))
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && all.Len() == 0 {
			return &guardtest.Answer{Body: fmt.Sprint("broken off: ", err)}
		}
		break
	}
	last := &guardtest.Answer{Body: all.String()}
	in := bufio.NewReader(bytes.NewReader(all.Bytes()))
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return last
		}
		text, _ := io.ReadAll(resp.Body) // cut off, maybe
		last = answerOf(resp, text)
		last.Body = all.String()
	}
}

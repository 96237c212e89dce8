//go:build !unit

package guard_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// privileged is a request for what no stage gets.
const privileged = `{"Image":"{image}","HostConfig":{"Privileged":true}}`

// post is a raw request with a JSON body, its length set.
func post(path, body string, header ...string) string {
	h := strings.Join(append([]string{"Host: docker", "Content-Type: application/json"}, header...), "\r\n")
	return fmt.Sprintf("POST %s HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n%s", path, h, len(strings.ReplaceAll(body, "{image}", guardtest.Image)), body)
}

// get is a raw request after which the connection ends.
func get(path string, header ...string) string {
	return "GET " + path + " HTTP/1.1\r\n" + strings.Join(append([]string{"Host: docker", "Connection: close"}, header...), "\r\n") + "\r\n\r\n"
}

// chunked is a body in chunks.
func chunked(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(strings.ReplaceAll(p, "{image}", guardtest.Image)), p)
	}
	return b.String() + "0\r\n\r\n"
}

// last wants no secret and a last answer that isn't a success; the arena looks for the secret.
func last(t *testing.T, _ *arena, got *guardtest.Answer) {
	t.Helper()
	if got.Status == 0 && !strings.HasPrefix(got.Body, "broken off") && got.Body != "" {
		t.Errorf("the guard answers with something else than HTTP: %q", got.Body)
	}
	if strings.Contains(got.Body, "HTTP/1.1 201") {
		t.Errorf("something was created: %s", got.Body)
	}
}

// listsNothing wants a list of the attacker's own containers, and no other's.
func listsNothing(t *testing.T, a *arena, got *guardtest.Answer) {
	t.Helper()
	if strings.Contains(got.Body, a.target["container"]) || !strings.Contains(got.Body, a.target["own.container"]) {
		t.Errorf("the guard lists %s", got.Body)
	}
}

// made is the proof that a container was created, whatever else was answered.
func made(a *guardtest.Answer) bool { return strings.Contains(a.Body, "HTTP/1.1 201") }

// attackHTTP plays with the protocol. What each row is after is the victim's secret, or a
// privileged container.
func attackHTTP(t *testing.T, a *arena) {
	const victim = "/containers/{container}/json"
	rows := []attack{
		// The path.
		{name: "a double slash", raw: get("//containers/{container}/json"), bare: moved},
		{name: "a double slash inside", raw: get("/containers//{container}/json"), bare: moved},
		{name: "dots", raw: get("/_ping/../containers/{container}/json"), bare: moved},
		{name: "dots after the version", raw: get("/v1.41/../containers/{container}/json"), bare: moved},
		{name: "dots in the own container", raw: get("/containers/{own.container}/../{container}/json"), bare: moved},
		{name: "encoded dots", raw: get("/_ping/%2e%2e/containers/{container}/json"), bare: moved},
		{name: "twice encoded dots", raw: get("/_ping/%252e%252e/containers/{container}/json"), bare: reachedRaw},
		{name: "an encoded slash", raw: get("/containers%2f{container}/json")},
		{name: "an encoded slash in the own container", raw: get("/containers/{own.container}%2f..%2f{container}/json"), bare: moved},
		{name: "encoded letters", raw: get("/%63ontainers/{container}/json")},
		{name: "encoded letters in the version", raw: get("/v1%2e41/containers/{container}/json")},
		{name: "encoded letters of create", raw: post("/containers/%63reate", privileged, "Connection: close"), bare: made},
		{name: "a dot segment", raw: get("/containers/./{container}/json"), bare: moved},
		{name: "a trailing slash", raw: get("/containers/{container}/json/"), bare: reachedRaw},
		{name: "a backslash", raw: get(`/containers\{container}/json`), bare: reachedRaw},
		{name: "a null byte", raw: get("/containers/{container}%00/json"), bare: reachedRaw},
		{name: "a semicolon", raw: get("/containers/{container};x/json"), bare: reachedRaw},
		{name: "a fragment", raw: get("/containers/{container}/json#x"), bare: reachedRaw},
		{name: "an absolute URL", raw: get("http://docker/v1.41" + victim)},
		{name: "an absolute URL of another server", raw: get("http://127.0.0.1:2375/v1.41" + victim)},
		{name: "an absolute URL without a path", raw: get("http://docker?x="), bare: reachedRaw},
		{name: "the authority form", raw: "CONNECT docker:80 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n", bare: reachedRaw},
		{name: "the asterisk form", raw: "OPTIONS * HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n", bare: reachedRaw, tamed: last},
		{name: "a name for a host", raw: "GET " + victim + " HTTP/1.1\r\nHost: 127.0.0.1:2375\r\nConnection: close\r\n\r\n"},
		{name: "no host", raw: "GET " + victim + " HTTP/1.0\r\n\r\n"},
		{name: "two hosts", raw: get(victim, "Host: other"), bare: reachedRaw},
		{name: "a long path", raw: get("/containers/" + strings.Repeat("x", 20_000) + "/json"), bare: reachedRaw, status: http.StatusRequestURITooLong},

		// The version.
		{name: "an old version", raw: get("/v1.12" + victim), bare: reachedRaw},
		{name: "a version before host configs were checked", raw: post("/v1.21/containers/{own.container}/start", `{"Privileged":true}`, "Connection: close"), bare: reachedRaw, says: "too old"},
		{name: "a version in which files were copied", raw: post("/v1.18/containers/{container}/copy", `{"Resource":"/secret"}`, "Connection: close"), bare: reachedRaw},
		{name: "a version to come", raw: get("/v1.999" + victim), bare: reachedRaw, says: "too new"},
		{name: "a version 2", raw: get("/v2.0" + victim), bare: reachedRaw},
		{name: "a version without a dot", raw: get("/v1" + victim), bare: reachedRaw},
		{name: "a version of many dots", raw: get("/v1.41.0" + victim), bare: reachedRaw},
		{name: "two versions", raw: get("/v1.41/v1.41" + victim), bare: reachedRaw},
		{name: "a version with zeros", raw: get("/v1.041" + victim), bare: reachedRaw},

		// The method.
		{name: "a method in lower case", raw: strings.Replace(get(victim), "GET", "get", 1), bare: reachedRaw},
		{name: "an unknown method", raw: strings.Replace(get(victim), "GET", "STEAL", 1), bare: reachedRaw},
		{name: "a method by header", raw: get("/containers/{container}", "X-HTTP-Method-Override: DELETE"), bare: reachedRaw},
		{name: "an unknown path", raw: get("/nothing"), bare: func(a *guardtest.Answer) bool { return a.Status == http.StatusNotFound }},

		// The query. What isn't known is dropped: clients that exist send it. What is known doesn't
		// widen by it.
		{name: "an unknown parameter", raw: get("/containers/json?superpower=1"), bare: reachedRaw, tamed: listsNothing},
		{name: "a parameter twice", raw: get("/containers/json?filters={}&filters=%7B%22id%22%3A%5B%22{container}%22%5D%7D&all=1"), bare: reachedRaw, says: "2 times"},
		{name: "a parameter after a semicolon", raw: get("/containers/json?all=1;filters={}"), bare: reachedRaw},
		{name: "a parameter in another case", raw: get("/containers/json?All=1"), bare: reachedRaw, tamed: listsNothing},
		{name: "a malformed filter", raw: get("/containers/json?filters=%7B"), bare: reachedRaw},
		{name: "an unknown filter", raw: get("/containers/json?filters=%7B%22superpower%22%3A%5B%22x%22%5D%7D"), bare: reachedRaw},
		{name: "parameters in a form", raw: "POST /images/create?fromImage=127.0.0.1:1/x HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 40\r\n\r\nfromSrc=http%3A%2F%2F127.0.0.1%3A1%2Fxxx", bare: reachedRaw, tamed: last},

		// The body.
		{name: "a body in chunks", raw: "POST /containers/create HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(`{"Image":"{image}","HostConfig":{"Privi`, `leged":true}}`), bare: made, says: "Privileged"},
		{name: "a body in chunks with a trailer", raw: "POST /containers/create HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.TrimSuffix(chunked(privileged), "\r\n") + "X: y\r\n\r\n", bare: made, says: "Privileged"},
		{name: "a body with a trailing value", method: "POST", path: "/containers/create", body: privileged + ` {"Image":"x"}`, bare: reached, says: "there is more"},
		{name: "a harmless value, then another", method: "POST", path: "/containers/create", body: `{"Image":"{image}"}` + privileged, bare: reached, says: "there is more"},
		{name: "a body with a mark of its order", method: "POST", path: "/containers/create", body: "\ufeff" + privileged, bare: reached},
		{name: "a body with a comment", method: "POST", path: "/containers/create", body: `/*` + privileged, bare: reached},
		{name: "a body that is a list", method: "POST", path: "/containers/create", body: `[` + privileged + `]`, bare: reached},
		{name: "a body that is null", method: "POST", path: "/containers/create", body: `null`, bare: reached},
		{name: "a body of nothing", method: "POST", path: "/containers/create", body: ``, bare: reached},
		{name: "a body nested too deep", method: "POST", path: "/containers/create", body: strings.Repeat(`{"HostConfig":`, 10_000), bare: reached},
		{name: "an oversize body", method: "POST", path: "/containers/create", body: `{"Image":"{image}","Env":["` + strings.Repeat("x", 5<<20) + `"],"HostConfig":{"Privileged":true}}`, status: http.StatusRequestEntityTooLarge},
		{name: "an oversize body of blanks", method: "POST", path: "/containers/create", body: strings.Repeat(" ", 5<<20) + privileged, status: http.StatusRequestEntityTooLarge},
		{name: "an oversize body, the harmless part first", method: "POST", path: "/containers/create", body: `{"Image":"{image}"` + strings.Repeat(" ", 4<<20) + `,"HostConfig":{"Privileged":true}}`, status: http.StatusRequestEntityTooLarge},
		{name: "an oversize body in chunks", raw: "POST /containers/create HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(strings.Repeat(" ", 5<<20), privileged), bare: made, status: http.StatusRequestEntityTooLarge},
		{name: "a truncated body", half: true, raw: "POST /containers/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n" + `{"Image":"{image}"}`, bare: func(*guardtest.Answer) bool { return true }, tamed: last},
		{name: "a body of another type", method: "POST", path: "/containers/create", body: privileged, header: []string{"Content-Type: text/plain"}, bare: reached},
		{name: "a body of a form", method: "POST", path: "/containers/create", body: privileged, header: []string{"Content-Type: application/x-www-form-urlencoded"}, bare: reached},
		{name: "a body of two types", method: "POST", path: "/containers/create", body: privileged, header: []string{"Content-Type: application/json, text/plain"}, bare: reached},
		{name: "a body that is compressed", method: "POST", path: "/containers/create", body: privileged, header: []string{"Content-Encoding: gzip"}, says: "Privileged"},
		{name: "a body after 100-continue", method: "POST", path: "/containers/create", body: privileged, header: []string{"Expect: 100-continue"}, says: "Privileged"},

		// Requests in a row, and requests in requests.
		{name: "a second request in one go", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n" + get(victim)},
		{name: "a privileged container behind a ping", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n" + post("/containers/create", privileged, "Connection: close"), bare: made, says: "Privileged"},
		{name: "a request in the body of a ping", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n" + get(victim)},
		{name: "two lengths", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\nContent-Length: 100\r\n\r\n" + get(victim), bare: reachedRaw, tamed: last},
		{name: "a length and chunks", raw: "POST /containers/json HTTP/1.1\r\nHost: docker\r\nContent-Length: 300\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get(victim), bare: reachedRaw, tamed: last},
		{name: "chunks, spelled oddly", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + get(victim), bare: reachedRaw, tamed: last},
		{name: "chunks of identity", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\nTransfer-Encoding: identity\r\n\r\n" + get(victim), bare: reachedRaw, tamed: last},
		{name: "a line end in the path", raw: get("/_ping%0d%0aX:%20y%0d%0a%0d%0aGET%20/containers/{container}/json"), bare: reachedRaw},
		{name: "a folded header", raw: get(victim, "X: y\r\n folded: z")},
		{name: "a line feed alone", raw: strings.ReplaceAll(get(victim), "\r\n", "\n")},

		// Headers that belong to one connection.
		{name: "a Connection that names the type", raw: post("/containers/create", privileged, "Connection: close, Content-Type"), bare: made, says: "Privileged"},
		{name: "a Connection that names the length", raw: post("/containers/create", privileged, "Connection: close, Content-Length"), bare: made, says: "Privileged"},
		{name: "an upgrade where there is none", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + get(victim), tamed: last},
		{name: "an upgrade to h2c where there is none", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + get(victim), tamed: last},
		{name: "an upgrade of a list", raw: "GET /containers/json HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + get(victim), tamed: last},
		{name: "an upgrade of a create", raw: post("/containers/create", privileged, "Connection: Upgrade", "Upgrade: tcp") + get(victim), says: "Privileged", bare: made},
		{name: "an upgrade of a start", raw: "POST /containers/{own.container}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n" + get(victim), tamed: last},
		{name: "an upgrade of a detached exec", raw: "POST /exec/{own.exec}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + `{"Detach":true}` + get(victim), prepare: ownExec, tamed: last},
		{name: "an upgrade of a detached exec, twice told", raw: "POST /exec/{own.exec}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n" + `{"Detach":false,"detach": true}` + get(victim), bare: reachedRaw, prepare: ownExec, tamed: last},
		{name: "an upgrade of an exec that was started", raw: "POST /exec/{own.exec}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" + get(victim), prepare: func(t *testing.T, a *arena, bare bool) words {
			w := ownExec(t, a, bare)
			if got, err := guardtest.Send(a.daemon, "POST", "/exec/"+w["own.exec"]+"/start", `{"Detach":true}`); err != nil || got.Status != http.StatusOK {
				t.Fatalf("start an exec: %v %+v", err, got)
			}
			return w
		}, bare: reachedRaw, tamed: last},
		{name: "an attach that the daemon declines", raw: "POST /containers/{own.container}/attach?detachKeys=nonsense&stream=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n" + get(victim), bare: reachedRaw, tamed: last},
		{name: "a websocket that the daemon declines", raw: "GET /containers/{own.container}/attach/ws?logs=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + get(victim), bare: reachedRaw, tamed: last},
		{name: "an upgrade to another protocol of an exec", raw: "POST /exec/{own.exec}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + `{"Detach":true}` + get(victim), prepare: ownExec, tamed: last},

		// HTTP/2 without an upgrade. Since Docker 29.2 it reaches BuildKit on any path.
		{name: "h2c at once", raw: h2Preface, bare: func(a *guardtest.Answer) bool { return true }, tamed: last},
		{name: "h2c at once, as HTTP/1.1", raw: "PRI * HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n", bare: reachedRaw},
		{name: "h2c behind a ping", raw: "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n" + h2Preface, bare: func(*guardtest.Answer) bool { return true }, tamed: last},
		{name: "gRPC on a path of its own", raw: "POST /moby.buildkit.v1.Control/Prune HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/grpc\r\nTE: trailers\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00", bare: reachedRaw},
		{name: "gRPC on the path of a list", raw: "POST /containers/json HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/grpc\r\nTE: trailers\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00", bare: reachedRaw},
	}
	a.fight(t, rows)
}

// h2Preface begins an HTTP/2 connection: the preface and an empty SETTINGS frame (RFC 9113, 3.4),
// then HEADERS of POST /moby.buildkit.v1.Control/DiskUsage.
const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" +
	"\x00\x00\x40\x01\x05\x00\x00\x00\x01" + "\x83\x86\x44\x20/moby.buildkit.v1.Control/DiskUse" + "\x41\x06docker\x5f\x10application/grpc"

// moved is the proof that the daemon reads the path as the one that is meant: it answers, or sends
// the client there.
func moved(a *guardtest.Answer) bool {
	return a.Status == http.StatusMovedPermanently || a.Status == http.StatusPermanentRedirect || a.Status == http.StatusOK
}

// reachedRaw is the proof of a row that tries what some daemon, some version or some proxy might
// read in its own way; this daemon answers at least.
func reachedRaw(a *guardtest.Answer) bool { return a.Status > 0 }

// ownExec makes an exec in the attacker's own container.
func ownExec(t *testing.T, a *arena, _ bool) words {
	t.Helper()
	return words{"own.exec": newExec(t, a.daemon, a.target["own.container"], "true")}
}

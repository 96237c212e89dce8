package rpc_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// output is a buffer for many writers.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// A dump shows what goes over the wire and nothing that is secret.
func TestDump(t *testing.T) {
	const secret = `rpc<secret>"1`
	s := rpctest.NewServer(t, rpctest.WithSecret(secret))
	s.Enqueue(rpctest.Build{
		YAML: "kind: pipeline\nname: default\n", Secrets: map[string]string{"password": "hidden-data"},
		Netrc: &drone.Netrc{Machine: "git.example.com", Login: "hidden-login", Password: "hidden-password"},
		Repo:  func(r *drone.Repo) { r.Secret = "hidden-repo" },
	})
	s.Fault(rpctest.Fault{Call: rpctest.CallAccept, Status: 500, Body: "the database says " + secret})
	s.Fault(rpctest.Fault{Call: rpctest.CallUpdate, Truncate: 30})
	s.Fault(rpctest.Fault{Call: rpctest.CallUpdateStep, Drop: true})
	s.Fault(rpctest.Fault{Call: rpctest.CallDetail, Body: `{"netrc":{"password":"hidden-broken"`})
	var plain, bodies output
	dumping := func(w *output, bodies bool) func(*rpc.Options) {
		return func(o *rpc.Options) { o.Dump, o.DumpBody = w, bodies }
	}
	if err := life(t.Context(), newClient(t, s, dumping(&bodies, true))); err != nil {
		t.Fatal(err)
	}
	if err := newClient(t, s, dumping(&plain, false)).Ping(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{bodies.String(), plain.String()} {
		for _, hidden := range []string{"hidden", secret, `rpc\u003csecret`, "Drone-Token: rpc"} {
			if strings.Contains(text, hidden) {
				t.Errorf("the dump shows %q:\n%s", hidden, text)
			}
		}
	}
	for _, want := range []string{
		"> POST " + s.URL() + "/rpc/v2/stage\n", "> X-Drone-Token: ******\n", `"machine":"git.example.com"`, `"name":"password"`, "the database says ******",
		"< 500 Internal Server Error", "no answer (PUT", "(a log of", `"out":"a\n"`, "that are no JSON, not shown",
	} {
		if !strings.Contains(bodies.String(), want) {
			t.Errorf("the dump lacks %q:\n%s", want, bodies.String())
		}
	}
	if got := plain.String(); !strings.Contains(got, "> POST") || !strings.Contains(got, "< 200 OK") || strings.Contains(got, "{") {
		t.Errorf("the dump without bodies is %s", got)
	}
}

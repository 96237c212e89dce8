//go:build !unit

package engine_test

import (
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/google/nftables"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
)

// gatewayOf is the address at which a run publishes ports.
func gatewayOf(b *bench) string {
	b.Helper()
	n, err := b.client.NetworkInspect(b.Context(), b.spec.Network.Name, network.InspectOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return n.IPAM.Config[0].Gateway
}

// fenced reports whether the stage has a fence.
func fenced(b *bench) bool {
	b.Helper()
	c, err := nftables.New()
	if err != nil {
		b.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		b.Fatal(err)
	}
	for _, table := range tables {
		if strings.Contains(table.Name, bridge.Of(b.spec.ID)) {
			return true
		}
	}
	return false
}

// A published port is reached from every container of the build that publishes it, on whichever of
// its networks, and from no other build.
func TestPublishedPortsAreTheBuildsOwn(t *testing.T) {
	publisher, _ := newGuarded(t)
	other, _ := newGuarded(t)
	plain := newBench(t, engine.Options{}) // a build without a docker socket
	plain.setup()
	gateway := gatewayOf(publisher)

	as := func(b *bench, s *spec.Step) *spec.Step {
		s.ID = b.spec.ID + "-" + s.Name
		b.spec.Steps = append(b.spec.Steps, s)
		return s
	}
	const socket = "socket:/var/run/docker.sock"
	publisher.passes(as(publisher, docker("publish", `
		docker network create n
		serve='echo hi >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
		docker run -d -p 8080:80 standin/busybox:1 sh -c "$serve"
		docker run -d --network n -p 8081:80 standin/busybox:1 sh -c "$serve"
		get='for port in 8080 8081; do
			until timeout 10 wget -qO- http://host.docker.internal:$port/; do sleep 0.2; done
		done'
		sh -ec "$get"
		for network in bridge n; do docker run --rm --network $network standin/busybox:1 sh -ec "$get"; done`, socket)))

	tries := "for port in 8080 8081; do timeout $patience wget -qO- http://" + gateway + ":$port/ & done; wait"
	attempts := func(t *testing.T, patience string) string {
		t.Helper()
		tries := strings.ReplaceAll(tries, "$patience", patience)
		name := strings.ToLower(t.Name()[strings.LastIndex(t.Name(), "/")+1:])
		out := other.in(t).passes(as(other, docker(name, tries+"; docker network create "+name+"; for n in bridge "+name+"; do docker run --rm --network $n standin/busybox:1 sh -c '"+tries+"' & done; wait", socket)))
		return out + plain.in(t).passes(plain.step(name, tries))
	}
	t.Run("fenced", func(t *testing.T) {
		if out := attempts(t, "1"); strings.Contains(out, "hi\n") {
			t.Errorf("other builds reach the port of this one:\n%s", out)
		}
	})
	// The same attempts succeed without: they are real, and it's the fence that stops them.
	t.Run("open", func(t *testing.T) {
		if err := fence.Lower(publisher.spec.ID); err != nil {
			t.Fatal(err)
		}
		if out := attempts(t, "120"); strings.Count(out, "hi\n") != 8 {
			t.Errorf("without a fence other builds should reach the ports from every network:\n%s", out)
		}
	})
}

// A fence goes with its run, of a process that was killed too.
func TestFenceGoesWithTheRun(t *testing.T) {
	b, _ := newGuarded(t)
	killed, killedDir := newGuarded(t)
	if !fenced(b) || !fenced(killed) {
		t.Fatal("a run with a docker socket has no fence")
	}
	if err := b.engine.Destroy(t.Context(), b.spec); err != nil || fenced(b) {
		t.Errorf("after Destroy: %v; fenced: %t", err, fenced(b))
	}
	next := engine.New(killed.client, engine.Options{Guard: &engine.GuardOptions{Dir: killedDir}})
	if err := next.Sweep(t.Context(), killed.spec.ID); err != nil || fenced(killed) {
		t.Errorf("after Sweep: %v; fenced: %t", err, fenced(killed))
	}
}

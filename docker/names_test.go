//go:build !unit

package docker_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Every way by which a build may ask for the address of a neighbour of the runner, which goes by a
// name without a dot.
const asking = `
kind: pipeline
name: default
clone: {disable: true}
steps:
- name: clone-image
  image: standin/git:1
  pull: never
  entrypoint: [git, ls-remote]
  command: ["http://gitea:PORT/git"]
  failure: ignore
- name: ask
  image: standin/docker:1
  pull: never
  volumes: [{name: docker, path: /var/run/docker.sock}]
  commands:
  - wget -qO- http://gitea:PORT/step
  - cp -r /clients/libraries/. / && mkdir -p ~/.docker && cp -r /clients/cli-plugins ~/.docker/
  - printf 'FROM standin/busybox:1\nRUN wget -qO- http://gitea:PORT/classic\n' | DOCKER_BUILDKIT=0 docker build --no-cache -
  - printf 'FROM standin/busybox:1\nRUN wget -qO- http://gitea:PORT/buildkit\n' | docker buildx build --no-cache --progress=plain -
  - docker run --rm standin/busybox:1 wget -qO- http://gitea:PORT/run
volumes: [{name: docker, host: {path: /var/run/docker.sock}}]
`

// A name without a dot has an address wherever a build asks for it, with the resolv.conf that
// Sysbox leaves in a container on a network of compose's and with that of a pod.
func TestNamesWithoutADot(t *testing.T) {
	clients, err := command(t.Context(), "../scripts/clients")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		options []string
		name    string // the only one that the DNS server knows
	}{
		"compose":    {[]string{"--dns-opt", "ndots:0"}, "gitea."},
		"docker-run": {nil, "gitea."},
		"kubernetes": {[]string{"--dns-search", "ci.svc.cluster.local", "--dns-search", "cluster.local", "--dns-opt", "ndots:5"}, "gitea.ci.svc.cluster.local."},
	} {
		t.Run(name, func(t *testing.T) {
			server := droneServer(t)
			address := extraAddress(t)
			serveNames(t, address, row.name)
			port, asked := serveWeb(t, address)
			s := start(t, server, append([]string{"--dns", address.String(), "-e", "DRONE_RUNNER_VOLUMES=/clients:/clients:ro"}, row.options...)...)
			outer(t, "cp", clients, s.name+":/clients")
			s.polling(t, server, s.began)
			s.load(t, "busybox", "docker", "git")
			result := build(t, server, strings.ReplaceAll(asking, "PORT", port))
			log := result.Step("ask").Text()
			if result.Stages[0].Status != "success" {
				t.Errorf("the build is %s:\n%s", result.Stages[0].Status, log)
			}
			for _, way := range []string{"/git/info/refs", "/step", "/classic", "/buildkit", "/run"} {
				if !asked(way) {
					t.Errorf("nobody asked for %s:\n%s\n%s", way, result.Step("clone-image").Text(), log)
				}
			}
			found := checks(t, s.exec(t, "env", "DRONE_RPC_HOST=gitea:"+port, "sh", "-c", "drone-runner-sysbox doctor --json || true"), nil)
			for _, check := range []string{"dns inside", "reach inside", "dns in docker build"} {
				if c := found[check]; c.Status != "pass" {
					t.Errorf("doctor: %s", c)
				}
			}
			s.empty(t)
		})
	}
}

// extraAddress adds an address to the machine's side of the testbench's cable, for one test: DNS
// has a port of its own, which tests can't share.
func extraAddress(t *testing.T) netip.Addr {
	t.Helper()
	b := make([]byte, 1)
	for range 100 {
		_, _ = rand.Read(b)
		address := netip.AddrFrom4([4]byte{198, 51, 100, b[0]})
		if b[0] < 8 || b[0] == 255 {
			continue
		}
		if err := exec.CommandContext(t.Context(), "ip", "addr", "add", address.String()+"/32", "dev", "dronetb0").Run(); err != nil {
			continue // another test has it
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "addr", "del", address.String()+"/32", "dev", "dronetb0").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		return address
	}
	t.Fatal("198.51.100.0/24 has no free address")
	return netip.Addr{}
}

// serveNames is a DNS server that knows one name, whose address is its own.
func serveNames(t *testing.T, address netip.Addr, name string) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", netip.AddrPortFrom(address, 53).String())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := answer(buf[:n], name, address); reply != nil {
				_, _ = conn.WriteTo(reply, from) // a lost answer is asked for again
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		serving.Wait()
	})
}

func answer(query []byte, name string, address netip.Addr) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header.Response, m.Header.RecursionAvailable, m.Additionals = true, true, nil
	switch {
	case !strings.EqualFold(q.Name.String(), name):
		m.Header.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: address.As4()},
		}}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// serveWeb answers every request, and tells which were made.
func serveWeb(t *testing.T, address netip.Addr) (port string, asked func(path string) bool) {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]bool{}
	l, err := net.Listen("tcp4", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.URL.Path] = true
		fmt.Fprintln(w, "hello")
	})}}
	s.Start()
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, func(path string) bool {
		mu.Lock()
		defer mu.Unlock()
		return seen[path]
	}
}

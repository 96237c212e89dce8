package cell

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/uplink"
)

func TestLinks(t *testing.T) {
	l := links{r: ranges[0]}
	seen := map[netip.Addr]bool{}
	for n := range maxLinks {
		link, err := l.take()
		if err != nil {
			t.Fatalf("link %d: %v", n, err)
		}
		for _, addr := range []netip.Addr{link.Outer(), link.Inner()} {
			if seen[addr] || !link.Prefix().Contains(addr) || !ranges[0].Contains(addr) {
				t.Fatalf("link %d has the address %s, in %s", n, addr, link.Prefix())
			}
			seen[addr] = true
		}
	}
	if link, err := l.take(); err == nil {
		t.Errorf("there is one more link, %v", link)
	}
	l.free(Link{Number: 7})
	if link, err := l.take(); err != nil || link.Number != 7 {
		t.Errorf("the link that was given back comes as %v (%v)", link, err)
	}
}

func TestFindRange(t *testing.T) {
	for _, row := range []struct {
		taken []string
		want  string
	}{
		{nil, "198.19.240.0/20"},
		{[]string{"172.17.0.0/16", "10.0.0.0/8"}, "198.19.240.0/20"},
		{[]string{"198.18.0.0/15"}, "100.127.240.0/20"},
		{[]string{"198.19.250.1/32", "100.64.0.0/10"}, "198.18.240.0/20"},
		{[]string{"198.18.0.0/15", "100.64.0.0/10"}, "10.255.240.0/20"},
		{[]string{"198.18.0.0/15", "100.64.0.0/10", "10.0.0.0/8"}, ""},
	} {
		var taken []netip.Prefix
		for _, text := range row.taken {
			taken = append(taken, netip.MustParsePrefix(text))
		}
		got, err := FindRange(taken)
		if want := row.want; want == "" && err == nil || want != "" && got.String() != want {
			t.Errorf("besides %v it is %s (%v), want %q", row.taken, got, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{NameOf(Shared), NameOf("octo/hello"), NameOf("octo/hello (forks)"), NameOf(strings.Repeat("x", 1000))} {
		if !validName.MatchString(name) {
			t.Errorf("%q is no name of a cell", name)
		}
	}
	if NameOf("octo/hello") == NameOf("octo/hello (forks)") {
		t.Error("a repository and its forks have one cell")
	}
	for _, name := range []string{"", "..", "a/b", "A", strings.Repeat("a", 25), "-a"} {
		if c, err := New(Options{Name: name}); err == nil {
			t.Errorf("there is a cell %q", c.Name())
		}
	}
}

func TestResolvConf(t *testing.T) {
	for name, row := range map[string]struct {
		resolver uplink.Resolver
		want     string
	}{
		"plain":      {uplink.Resolver{}, "nameserver 198.19.240.1\n"},
		"compose":    {uplink.Resolver{Options: []string{"ndots:0"}}, "nameserver 198.19.240.1\n"},
		"kubernetes": {uplink.Resolver{Search: []string{"a.local", "local"}, Options: []string{"ndots:5", "edns0"}}, "nameserver 198.19.240.1\nsearch a.local local\noptions ndots:5 edns0\n"},
		"other":      {uplink.Resolver{Search: []string{"local"}, Options: []string{"ndots:0", "rotate"}}, "nameserver 198.19.240.1\nsearch local\noptions rotate\n"},
	} {
		c, err := New(Options{Name: "x", Link: Link{Range: ranges[0]}, Resolver: row.resolver})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(c.resolvConf()); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

func TestBounds(t *testing.T) {
	m := Machine{Memory: 8 << 30, Processes: 32768}
	all := m.All()
	if left := m.Memory - all.Memory; left < 256<<20 || left > 1<<30 {
		t.Errorf("of %d bytes the runner has %d", m.Memory, left)
	}
	for _, shared := range []bool{true, false} {
		if each := m.Each(shared); each.Memory >= all.Memory || each.Processes >= all.Processes || each.Memory <= 0 || each.Processes <= 0 || each.Files == 0 {
			t.Errorf("of %+v one cell has %+v", all, each)
		}
	}
	if got := least(0, 7, -1, 3, 0); got != 3 {
		t.Errorf("the least known is %d", got)
	}
	if found := FindMachine(); found.Memory <= 0 || found.Processes <= 0 {
		t.Errorf("this machine has %+v", found)
	}
}

// The name of a socket that a cell puts elsewhere leads the runner nowhere.
func TestAdopt(t *testing.T) {
	run := t.TempDir()
	c, err := New(Options{Name: "x", Run: run})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.inner(), 0o700); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(c.inner(), "docker.sock")
	if err := c.adopt(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before there is a socket: %v", err)
	}
	other, err := net.Listen("unix", filepath.Join(run, "other.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := os.Symlink(filepath.Join(run, "other.sock"), inner); err != nil {
		t.Fatal(err)
	}
	if err := c.adopt(); err == nil {
		t.Error("a symbolic link is taken for the socket")
	}
	if _, err := os.Lstat(c.Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	if err := os.Remove(inner); err != nil {
		t.Fatal(err)
	}
	own, err := net.Listen("unix", inner)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if err := c.adopt(); err != nil {
		t.Fatal(err)
	}
	// Now the cell changes its mind.
	if err := errors.Join(os.Remove(inner), os.Symlink(filepath.Join(run, "other.sock"), inner)); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", c.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := own.(*net.UnixListener).SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Accept(); err != nil {
		t.Errorf("the socket isn't the one that was taken: %v", err)
	}
}

func TestAdoptData(t *testing.T) {
	folder := t.TempDir()
	cells := filepath.Join(folder, "cells")
	for _, name := range []string{"overlay2/l/A", "image/x", "keep.lock"} {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	// A runner that was killed has moved some of it.
	half := filepath.Join(cells, SharedName, "data.adopting")
	if err := errors.Join(os.MkdirAll(half, 0o755), os.Rename(filepath.Join(folder, "image"), filepath.Join(half, "image"))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := AdoptData(folder, cells, "keep.lock"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"cells/shared/data/overlay2/l/A", "cells/shared/data/image/x", "keep.lock"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v (%v)", entries, err)
	}
}

func TestEvict(t *testing.T) {
	folder := t.TempDir()
	day := 24 * time.Hour
	m := &Manager{o: ManagerOptions{Data: folder}, entries: map[string]*entry{}}
	for domain, age := range map[string]time.Duration{"a": 3 * day, "b": 2 * day, "c": time.Hour, "runs": 9 * day} {
		dir := filepath.Join(folder, NameOf(domain))
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "data", "image"), 0o755), writeUse(dir, domain, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(folder, SharedName, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.entries[NameOf("runs")] = &entry{}
	var gone []string
	for {
		s, ok, err := m.Evict(time.Now().Add(-day))
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		gone = append(gone, s.Domain)
	}
	if want := []string{"a", "b"}; !slices.Equal(gone, want) {
		t.Errorf("what went is %v, want %v", gone, want)
	}
	left, err := ListStored(folder)
	if err != nil || len(left) != 2 || left[0].Domain != "runs" || left[1].Domain != "c" {
		t.Errorf("what is left is %v (%v)", left, err)
	}
	if _, err := os.Stat(filepath.Join(folder, SharedName)); err != nil {
		t.Error(err)
	}
}

// The relay hands bytes on, over UDP and TCP, and goes on when a resolver is silent.
func TestRelay(t *testing.T) {
	upstream, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := upstream.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = upstream.WriteTo(append([]byte("answer to "), buffer[:n]...), from)
		}
	}()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := closed.Addr().String()
	closed.Close()
	r := &resolver{udp: udp, tcp: tcp, upstreams: []string{refusing, upstream.LocalAddr().String()}, slots: make(chan struct{}, 4), log: log}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.serve(ctx) }()
	conn, err := net.Dial("udp4", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("query")); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 512)
	n, err := conn.Read(buffer)
	if err != nil || string(buffer[:n]) != "answer to query" {
		t.Errorf("the answer is %q (%v)", buffer[:n], err)
	}
	stop()
	<-done
	if _, err := listenDNS(netip.MustParseAddr("127.0.0.1"), nil, log); err == nil {
		t.Error("there is a relay without a resolver")
	}
}

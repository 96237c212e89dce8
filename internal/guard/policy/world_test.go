package policy

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/mounts"
)

const (
	testGateway = "172.20.0.1"
	testNetwork = "drone-abc"
	testOwner   = "io.drone-runner-sysbox.spec"
)

// memory is a World with two containers (db, which the client has made, and a step), a network, a
// volume and an image.
type memory struct {
	stage   Stage
	version string
	subnets Subnets
	daemon  Daemon
	// parts are what is there of volumes, by "root path"; an error says why not.
	parts map[string]error
	// made are the volumes that were made, mounted the parts that were.
	made, mounted []string
}

func newMemory() *memory {
	return &memory{
		stage: Stage{
			Labels: map[string]string{testOwner: testNetwork}, Network: testNetwork, Hosts: []string{"docker"},
			Socket: "/guard.sock", SocketDir: "/guard.d", SocketGroup: "998",
		},
		version: "1.45",
		daemon:  Daemon{Runtime: "crun", UserNamespaces: true, SELinux: true},
		parts:   map[string]error{"/v/ws out": mounts.ErrLeadsOut, "/v/ws none": fs.ErrNotExist, "/v/ws old": mounts.ErrUnavailable},
	}
}

func absent(ref string) error { return apierror.New(http.StatusNotFound, "no such thing: "+ref) }

func (m *memory) Stage() Stage { return m.stage }

func (m *memory) Absent(ref string) string { return "drone-abc." + ref }

func (m *memory) Container(_ context.Context, ref string) (Container, error) {
	switch ref {
	case "db":
		return Container{ID: "id-db", Name: "drone-abc.db", Shown: "db"}, nil
	case "step":
		c, err := m.Caller(context.Background())
		return Container{ID: "id-step", Name: "drone-abc-1", Step: true, Mounts: c.Mounts}, err
	}
	return Container{}, absent(ref)
}

func (m *memory) Network(_ context.Context, ref string) (Network, error) {
	switch ref {
	case "inner":
		return Network{ID: "id-inner", Name: "drone-abc.inner"}, nil
	case "bridge", "default", testNetwork:
		return Network{ID: "id-own", Name: testNetwork, Own: true}, nil
	}
	return Network{}, absent(ref)
}

func (m *memory) Image(_ context.Context, ref string) (Image, error) {
	if ref != "img" {
		return Image{}, absent(ref)
	}
	return Image{
		Ref: "real/img", ID: "sha256:1", Volumes: map[string]struct{}{"/var/lib/db": {}}, Ports: map[string]struct{}{"5432/tcp": {}},
		Labels: map[string]string{"io.drone-runner-sysbox.guard": "another", "a": "b"},
	}, nil
}

func (m *memory) Volume(_ context.Context, ref string, _ map[string]string) (Volume, error) {
	m.made = append(m.made, ref)
	return Volume{Name: "drone-abc." + ref, Mountpoint: "/v/" + ref}, nil
}

func (m *memory) Caller(context.Context) (Caller, error) {
	return Caller{Mounts: []Mount{
		{Type: "volume", Name: "drone-abc-workspace", Source: "/v/ws", Destination: "/drone/src", RW: true},
		{Type: "volume", Name: "cache", Source: "/v/cache", Destination: "/cache"},
		{Type: "bind", Source: "/guard.sock", Destination: "/docker.sock", RW: true},
		{Type: "bind", Source: "/guard.d", Destination: "/sockets", RW: true},
		{Type: "bind", Source: "/data", Destination: "/data", RW: true},
		{Type: "tmpfs", Destination: "/mem", RW: true},
		{Type: "npipe", Destination: "/pipe"},
	}}, nil
}

func (m *memory) Part(_ context.Context, p Part) (string, error) {
	if err := m.parts[p.Root+" "+p.Path]; err != nil {
		return "", err
	}
	if !p.Mount {
		return "", nil
	}
	m.mounted = append(m.mounted, p.Root+" "+p.Path)
	return "/points/0", nil
}

func (m *memory) Gateway(context.Context) (netip.Addr, error) {
	return netip.MustParseAddr(testGateway), nil
}

func (m *memory) Daemon(context.Context) (Daemon, error) { return m.daemon, nil }

func (m *memory) Subnets(context.Context) (Subnets, error) { return m.subnets, nil }

func (m *memory) Version(context.Context) (string, error) { return m.version, nil }

// create has a body judged: a JSON object without the image, which is "img".
func create(t testing.TB, w World, body string) (CreatePlan, []string, error) {
	t.Helper()
	c := &container.CreateRequest{}
	if err := json.Unmarshal([]byte(body), c); err != nil {
		t.Fatal(err)
	}
	if c.Config == nil {
		c.Config = &container.Config{}
	}
	if c.Image == "" {
		c.Image = "img"
	}
	return Create(t.Context(), w, CreateRequest{Body: c, Name: "x", Version: "1.41"})
}

// refused fails unless err says want.
func refused(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error with %q", err, want)
	}
}

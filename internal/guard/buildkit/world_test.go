package buildkit

import (
	"context"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/distribution/reference"
	"go.uber.org/goleak"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a World with an image of the stage's own (app:1) and a shared one (golang:1), in
// containerd's store.
type memory struct {
	version string
	made    []string
}

const privateApp = "drone-abc.build.invalid/docker.io/library/app:1"

func (m *memory) OwnImages(context.Context) ([]string, error) { return []string{privateApp}, nil }

func (m *memory) FindImage(_ context.Context, name string, ref reference.Named) (Image, error) {
	switch reference.TagNameOnly(ref).String() {
	case "docker.io/library/app:1":
		return Image{Private: privateApp}, nil
	case "docker.io/library/golang:1":
		return Image{}, nil
	}
	return Image{}, apierror.New(http.StatusNotFound, "No such image: "+name)
}

func (m *memory) Withheld(context.Context) ([]string, error) { return nil, nil }

func (m *memory) CheckHeld(context.Context, reference.Named) error { return nil }

func (m *memory) Dropped(string) {}

func (m *memory) Made(id string) { m.made = append(m.made, id) }

func (m *memory) Gateway(context.Context) (netip.Addr, error) {
	return netip.MustParseAddr("172.20.0.1"), nil
}

func (m *memory) Version(context.Context) (string, error) { return m.version, nil }

func (m *memory) ContainerdImages(context.Context) (bool, error) { return true, nil }

// imageProxy is a Proxy before a memory, with the session "mine".
func imageProxy(t testing.TB) *Proxy {
	t.Helper()
	p := New(Options{ID: "drone-abc", Names: names.New("drone-abc", "drone-abc", nil)}, &memory{version: "1.45"})
	if err := p.sessions.open("mine", true); err != nil {
		t.Fatal(err)
	}
	p.sessions.patience = 10 * time.Millisecond
	return p
}

//go:build !unit

package janitor_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
)

const mega = 1 << 20

// The small disk has room for some ten images of layerSize upon the stand-in.
const (
	diskSize  = 40 * mega
	layerSize = 2 * mega
)

// place is a daemon with a small disk, and a registry with images for it.
type place struct {
	t        *testing.T
	client   *client.Client
	ledger   *cache.Ledger
	budget   *janitor.Budget
	engine   *engine.Docker
	registry string // as the daemon knows it
	pushTo   string // the same, from here
	base     v1.Image
	log      *bytes.Buffer
	logger   logrus.FieldLogger

	mu      sync.Mutex
	removed map[janitor.Kind]int
	asked   int
}

func newPlace(t *testing.T, high, low janitor.Mark, keep func(string) bool) *place {
	t.Helper()
	standin.Image(t, "busybox")
	daemon := guardtest.NewOwnDaemon(t, guardtest.DaemonOptions{DiskSize: diskSize})
	daemon.Load(t, guardtest.Image)
	loopback := daemon.Listen(t, "127.0.0.1:0")
	c, err := client.NewClientWithOpts(client.WithHost("unix://"+daemon.Socket), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p := &place{t: t, client: c, log: &bytes.Buffer{}, removed: map[janitor.Kind]int{}}
	out := logrus.New()
	p.logger = out
	out.SetOutput(&locked{w: io.MultiWriter(p.log, t.Output())})
	p.ledger = cache.Open(t.TempDir(), out)
	disk, err := janitor.FindDisk(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if usage, err := disk.Usage(t.Context()); err != nil || usage.Size != diskSize || usage.Used <= 0 {
		t.Fatalf("the disk: %+v, %v", usage, err)
	}
	p.budget = janitor.NewBudget(janitor.BudgetOptions{
		Docker: c, Disk: disk, High: high, Low: low, Keep: keep, Ledger: p.ledger, VolumeIdle: time.Nanosecond, Recently: -1, Log: out,
		Removed: func(kind janitor.Kind, n int64) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.removed[kind]++
		},
	})
	p.engine = engine.New(c, engine.Options{
		Ledger: p.ledger, Access: cache.NewAccess(c, p.ledger), Log: out,
		Room: func(ctx context.Context) error {
			p.mu.Lock()
			p.asked++
			p.mu.Unlock()
			return p.budget.MakeRoom(ctx)
		},
	})
	// The daemon and the test reach one registry by two addresses.
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server, forDaemon := httptest.NewServer(images), httptest.NewUnstartedServer(images)
	t.Cleanup(server.Close)
	_ = forDaemon.Listener.Close() // it has another
	forDaemon.Listener = loopback
	forDaemon.Start()
	t.Cleanup(forDaemon.Close)
	p.registry, p.pushTo = loopback.Addr().String(), strings.TrimPrefix(server.URL, "http://")
	saved, err := c.ImageSave(t.Context(), []string{guardtest.Image})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(saved)
	if err != nil {
		t.Fatal(err)
	}
	_ = saved.Close()
	base, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	// From the registry its layers are there already, and needn't be compressed for each image.
	if p.base, err = remote.Image(p.write("base:1", base)); err != nil {
		t.Fatal(err)
	}
	return p
}

// locked is a writer for several.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// push puts an image into the registry: the stand-in with a layer of its own, of as many bytes.
func (p *place) push(repository string, seed uint64, size int) string {
	p.t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "ballast", Mode: 0o644, Size: int64(size)}); err != nil {
		p.t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat(fmt.Appendf(nil, "%016d", seed), size/16)); err != nil {
		p.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		p.t.Fatal(err)
	}
	l := static.NewLayer(layer.Bytes(), types.DockerUncompressedLayer)
	img, err := mutate.AppendLayers(p.base, l)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(repository, img)
	return p.registry + "/" + repository
}

// write puts an image into the registry.
func (p *place) write(repository string, img v1.Image) name.Tag {
	p.t.Helper()
	tag, err := name.NewTag(p.pushTo+"/"+repository, name.Insecure)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := remote.Write(tag, img, remote.WithContext(p.t.Context())); err != nil {
		p.t.Fatal(err)
	}
	return tag
}

// build lives a build with a step for each image, all of which are prepared; run says whether the
// first one also runs.
func (p *place) build(id string, run bool, refs ...string) error {
	sp := &spec.Spec{ID: id, Name: id, Network: spec.Network{Name: id}}
	for i, ref := range refs {
		sp.Steps = append(sp.Steps, &spec.Step{
			ID: fmt.Sprintf("%s-%d", id, i), Name: fmt.Sprintf("step%d", i), Number: i + 1, Image: ref, Entrypoint: []string{"/bin/sh", "-c"}, Command: []string{"test -s /ballast"},
		})
	}
	err := func() error {
		if err := p.engine.Setup(p.t.Context(), sp); err != nil {
			return err
		}
		for i, s := range sp.Steps {
			var said bytes.Buffer
			c, err := p.engine.Prepare(p.t.Context(), sp, s, &said)
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", s.Image, err, said.String())
			}
			if i > 0 || !run {
				continue
			}
			if exit, err := c.Run(p.t.Context(), &said, nil); err != nil || exit.Code != 0 {
				return fmt.Errorf("%s: %w, exit %d\n%s", s.Image, err, exit.Code, said.String())
			}
		}
		return nil
	}()
	return errors.Join(err, p.engine.Destroy(context.WithoutCancel(p.t.Context()), sp))
}

// has returns those of the images that the daemon has.
func (p *place) has(refs ...string) []string {
	p.t.Helper()
	list, err := p.client.ImageList(p.t.Context(), image.ListOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for _, ref := range refs {
		if slices.ContainsFunc(list, func(i image.Summary) bool { return slices.Contains(i.RepoTags, ref) }) {
			out = append(out, ref)
		}
	}
	return out
}

// empty asks for room until there is none.
func (p *place) empty(t *testing.T) {
	t.Helper()
	for range 5 {
		err := p.budget.MakeRoom(t.Context())
		if errors.Is(err, janitor.ErrNoRoom) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("there is room, again and again")
}

// buildWithBuildKit leaves something in the build cache.
func (p *place) buildWithBuildKit(t *testing.T) {
	t.Helper()
	mkfile := &pb.Op{
		Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{
			Input: -1, SecondaryInput: -1, Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: "/ballast", Mode: 0o644, Data: bytes.Repeat([]byte("x"), mega), Timestamp: -1}},
		}}}},
		Constraints: &pb.WorkerConstraints{},
	}
	first, err := proto.Marshal(mkfile)
	if err != nil {
		t.Fatal(err)
	}
	last, err := proto.Marshal(&pb.Op{Inputs: []*pb.Input{{Digest: digest.FromBytes(first).String()}}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///docker", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return p.client.DialHijack(ctx, "/grpc", "h2c", nil)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := controlapi.NewControlClient(conn).Solve(t.Context(), &controlapi.SolveRequest{Ref: "budget", Definition: &pb.Definition{Def: [][]byte{first, last}}}); err != nil {
		t.Fatal(err)
	}
}

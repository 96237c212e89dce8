//go:build !unit

package guard_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/client"
	"github.com/google/go-containerregistry/pkg/registry"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/inprocess"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// vault is a registry that is for jane alone.
type vault struct {
	host string
	// open is for everybody.
	open atomic.Bool
	// blobs counts downloads of them.
	blobs atomic.Int32
}

func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{}
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if !v.open.Load() && user+":"+password != "jane:s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="vault"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			v.blobs.Add(1)
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	v.host = strings.TrimPrefix(s.URL, "http://")
	return v
}

// push puts an image with a layer of its own into the registry, and takes it away from the daemon.
func (v *vault) push(t *testing.T, b *guardtest.Build, repository string) string {
	t.Helper()
	ref := v.host + "/" + repository
	defer v.open.Store(v.open.Swap(true))
	name := b.ID + "-source"
	b.Host("create", "--name", name, guardtest.Image, "true")
	own := filepath.Join(t.TempDir(), "own")
	if err := os.WriteFile(own, []byte(ref), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Host("cp", own, name+":/own")
	b.Host("commit", name, ref)
	b.Host("rm", name)
	b.Host("push", ref)
	b.Host("rmi", ref)
	t.Cleanup(func() { _, _ = b.TryHost("rmi", "-f", ref) })
	return ref
}

// login is a folder with a docker config.json that has credentials.
func (v *vault) login(t *testing.T, user string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, v.host, base64.StdEncoding.EncodeToString([]byte(user)))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A private image that one stage has pulled is nobody else's, whichever way they ask for it.
func TestPrivateImagesOfOtherBuilds(t *testing.T) {
	standin.Image(t, "busybox")
	standin.Image(t, "docker")
	v, everybodys := newVault(t), newVault(t)
	everybodys.open.Store(true)
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	access := cache.NewAccess(c, nil)
	with := func(o *guard.Options) { o.Runner = inprocess.New(inprocess.Options{Access: access}) }
	owner, thief := guardtest.Start(t, with), guardtest.Start(t, with)
	private, public := v.push(t, owner, "team/private:1"), everybodys.push(t, owner, "open/public:1")
	config := v.login(t, "jane:s3cret")
	context := t.TempDir()
	dockerfile := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_BUILDKIT", "0")

	owner.Docker("--config", config, "pull", private)
	owner.Docker("pull", public)
	owner.Docker("run", "--rm", private, "true")
	dockerfile("FROM " + private + "\nCMD true\n")
	owner.Docker("build", "-q", "-t", "mine", context)
	if out := owner.Docker("images"); !strings.Contains(out, "team/private") {
		t.Errorf("its owner doesn't see it:\n%s", out)
	}
	id := strings.TrimSpace(owner.Docker("inspect", "-f", "{{.Id}}", private))
	digested := strings.TrimSpace(owner.Docker("inspect", "-f", "{{index .RepoDigests 0}}", private))

	mallory := v.login(t, "mallory:guess")
	for _, row := range []struct {
		name string
		args []string
	}{
		{"run", []string{"run", "--rm", private, "true"}},
		{"run without a pull", []string{"run", "--rm", "--pull", "never", private, "true"}},
		{"run with wrong credentials", []string{"--config", mallory, "run", "--rm", private, "true"}},
		// Not docker pull: told that it isn't authorized (401, as newer daemons say it), docker 28
		// asks for a name and waits for ever, be there no terminal.
		{"pull with wrong credentials", []string{"--config", mallory, "create", "--pull", "always", private}},
		{"run by id", []string{"run", "--rm", id, "true"}},
		{"run by a beginning of the id", []string{"run", "--rm", "--pull", "never", id[7:19], "true"}},
		{"run by digest", []string{"run", "--rm", digested, "true"}},
		{"inspect", []string{"inspect", private}},
		{"history", []string{"history", private}},
		{"tag", []string{"tag", private, "stolen"}},
		{"tag by id", []string{"tag", id, "stolen"}},
		{"save", []string{"save", "-o", filepath.Join(t.TempDir(), "x"), private}},
		{"save by id", []string{"save", "-o", filepath.Join(t.TempDir(), "x"), id}},
		{"build", []string{"build", context}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if out, err := thief.Try(row.args...); err == nil {
				t.Errorf("it has it:\n%s", out)
			}
		})
	}
	for _, text := range []string{"FROM " + id, "FROM " + digested, "FROM " + guardtest.Image + "\nCOPY --from=" + private + " / /", "FROM " + id[7:20]} {
		dockerfile(text + "\n")
		if out, err := thief.Try("build", context); err == nil {
			t.Errorf("%s: it has it:\n%s", text, out)
		}
	}
	for _, ref := range []string{private, digested} {
		if err := solve(t, thief.Socket, ref); err == nil || !strings.Contains(err.Error(), "credentials") {
			t.Errorf("BuildKit: %s: %v", ref, err)
		}
		if err := solve(t, owner.Socket, ref); err != nil {
			t.Errorf("BuildKit, for its owner: %s: %v", ref, err)
		}
	}
	if out := thief.Docker("images", "--digests", "--no-trunc"); strings.Contains(out, "team/private") || strings.Contains(out, id) {
		t.Errorf("it's in the list:\n%s", out)
	}
	// What everybody may have is still shared, and so is what the operator has put here.
	thief.Docker("run", "--rm", "--pull", "never", public, "true")
	// which gives it a digest as if it had been pulled: with it the runner has no rules of access
	if !thief.ContainerdStore() {
		thief.Docker("run", "--rm", "--pull", "never", guardtest.Image, "true")
	}
	if err := solve(t, thief.Socket, public); err != nil {
		t.Errorf("BuildKit: a public image: %v", err)
	}

	friend := guardtest.Start(t, with)
	friend.Docker("--config", t.TempDir(), "login", "-u", "jane", "-p", "s3cret", v.host)
	before := v.blobs.Load()
	friend.Docker("run", "--rm", "--pull", "never", private, "true")
	friend.Docker("--config", config, "pull", private)
	if n := v.blobs.Load() - before; n > 0 {
		t.Errorf("%d blobs were downloaded again", n)
	}
}

// solve has BuildKit take an image as it is.
func solve(t *testing.T, socket, ref string) error {
	t.Helper()
	c, err := client.NewClientWithOpts(client.WithHost("unix://"+socket), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := grpc.NewClient("passthrough:///docker", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return c.DialHijack(ctx, "/grpc", "h2c", nil)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	source, err := proto.Marshal(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://" + ref}}, Constraints: &pb.WorkerConstraints{}})
	if err != nil {
		t.Fatal(err)
	}
	last, err := proto.Marshal(&pb.Op{Inputs: []*pb.Input{{Digest: digest.FromBytes(source).String()}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = controlapi.NewControlClient(conn).Solve(t.Context(), &controlapi.SolveRequest{Ref: digest.FromString(socket + ref).Encoded()[:25], Definition: &pb.Definition{Def: [][]byte{source, last}}})
	return err
}

//go:build guardsuite

package guard_test

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"io/ioutil"
	"log"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/guard/guardtest"
)

var _ = ioutil.Discard
var _ = tar.TypeReg
var _ = io.EOF
var _ = os.Getenv
var _ = filepath.Join
var _ = bytes.NewReader
var _ guard.Options

func reg(t *testing.T) string {
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestProbe2(t *testing.T) {
	host := reg(t)
	b := guardtest.Start(t)
	do := func(args ...string) {
		out, err := b.Try(args...)
		t.Log(args, "\n", out, err)
	}
	do("tag", guardtest.Image, "app:1")
	do("tag", "app:1", host+"/a/b:2")
	do("images")
	do("images", "app")
	do("image", "inspect", "app:1", "-f", "{{.RepoTags}} {{.RepoDigests}}")
	do("history", "app:1")
	do("push", host+"/a/b:2")
	do("push", guardtest.Image)
	do("image", "inspect", "app:1", "-f", "{{.RepoTags}} {{.RepoDigests}}")
	do("run", "--rm", "app:1", "echo", "x")
	do("run", "-d", "--name", "u", "app:1", "sleep", "100")
	do("ps")
	do("save", "-o", "/tmp/x.tar", "app:1")
	do("rmi", "app:1")
	do("rm", "-f", "u")
	do("rmi", "app:1")
	do("load", "-i", "/tmp/x.tar")
	do("images")
	do("rmi", host+"/a/b:2")
	do("pull", host+"/a/b:2")
	do("images")
	do("commit", "nope")
	do("run", "--name", "c", "app:1", "touch", "/new")
	do("commit", "c")
	do("commit", "c", "com:1")
	do("images", "-a")
	do("images", "-f", "dangling=true")
	do("image", "prune", "-f")
	do("images", "-a")
	do("system", "df")
	t.Log(b.Host("images"))
	if err := (guard.Released{Daemon: guardtest.Daemon, OwnerLabel: guardtest.OwnerLabel, ID: b.ID}).Release(t.Context()); err != nil {
		t.Error(err)
	}
	t.Log(b.Host("images"))
}

//go:build !unit

package main

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

// unique is a name that no other test has.
func unique(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:10]) }

// leavesNothing checks, when the test ends, that the daemon has nothing with the label.
func leavesNothing(t testing.TB, label string) {
	t.Helper()
	t.Cleanup(func() {
		if left := objects(t, label); len(left) > 0 {
			t.Errorf("left behind with %s: %s", label, strings.Join(left, ", "))
		}
	})
}

// objects lists the containers, networks and volumes with the label.
func objects(t testing.TB, label string) []string {
	t.Helper()
	// Not the test's context: clean-up functions ask, too.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	docker, err := engine.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	with := filters.NewArgs(filters.Arg("label", label))
	var out []string
	containers, err := docker.ContainerList(ctx, container.ListOptions{All: true, Filters: with})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		out = append(out, "container "+strings.Join(c.Names, " ")+" ("+c.Status+")")
	}
	networks, err := docker.NetworkList(ctx, network.ListOptions{Filters: with})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		out = append(out, "network "+n.Name)
	}
	volumes, err := docker.VolumeList(ctx, volume.ListOptions{Filters: with})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Volumes {
		out = append(out, "volume "+v.Name)
	}
	return out
}

// gateway is an address of this machine that containers reach: that of the daemon's own bridge.
func gateway(t *testing.T) string {
	t.Helper()
	docker, err := engine.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	bridge, err := docker.NetworkInspect(t.Context(), "bridge", network.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range bridge.IPAM.Config {
		_, subnet, err := net.ParseCIDR(c.Subnet)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			if ip, ok := a.(*net.IPNet); ok && subnet.Contains(ip.IP) {
				return ip.IP.String()
			}
		}
	}
	t.Fatalf("this machine has no address on docker's bridge: %+v, %v", bridge.IPAM, addresses)
	return ""
}

// git runs git in a folder, and is what it prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Mona Lisa", "-c", "user.email=mona@example.com", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository is a git repository that containers can clone.
type repository struct {
	dir, url, commit string
}

// gitServer serves a repository with the files over HTTP, to containers as well. With a password,
// only to who knows it.
func gitServer(t *testing.T, files map[string]string, login, password string) repository {
	t.Helper()
	root := t.TempDir()
	work := folder(t, files)
	git(t, work, "init", "-q")
	git(t, work, "add", ".")
	git(t, work, "commit", "-q", "-m", "first")
	bare := filepath.Join(root, "octo", "lab.git")
	git(t, root, "clone", "-q", "--bare", work, bare)

	execPath := git(t, root, "--exec-path")
	backend := &cgi.Handler{
		Path:   filepath.Join(execPath, "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		Stderr: os.Stderr,
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(gateway(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); password != "" && (user != login || pass != password) {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	})}}
	server.Start()
	t.Cleanup(server.Close)
	return repository{dir: work, url: server.URL + "/octo/lab.git", commit: git(t, work, "rev-parse", "HEAD")}
}

//go:build !unit

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/docker/docker/client"
	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// The cache as an operator sees it: volumes by their paths, images that are there beforehand, and
// figures of both.
func TestCacheOfARunner(t *testing.T) {
	t.Parallel()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	path := "/cache/" + unique("npm")
	r := newRunner(t, "DRONE_RUNNER_PRELOAD_IMAGES=127.0.0.1:1/team/nowhere:1")
	r.stderr.await(t, "can't be preloaded")
	id := r.enqueue(rpctest.Build{Trusted: true, YAML: fmt.Sprintf(`
kind: pipeline
name: default
clone: {disable: true}
steps:
- name: fill
  image: IMAGE
  volumes: [{name: cache, path: /kept}]
  commands: ["head -c 3000000 /dev/zero > /kept/file"]
- name: wait
  image: IMAGE
  volumes: [{name: cache, path: /kept}]
  commands: ["sleep 600"]
volumes: [{name: cache, host: {path: %s}}]
`, path)})
	cached := func(args ...string) result {
		return call{env: r.cmd.Env, args: append([]string{"cache"}, args...)}.run(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = r.server.Until(ctx, id, func(result rpctest.Result) bool {
		steps := result.Stages[0].Steps
		return len(steps) == 2 && steps[1].Status == drone.StatusRunning || result.Stages[0].Stopped > 0
	})
	if err != nil {
		t.Fatal(err)
	}
	list := cached()
	list.expect(t, 0, path, "2.861MiB", " ago", "USED BY")
	volume := regexp.MustCompile(`drone-cache-\S+`).FindString(list.stdout[strings.Index(list.stdout, path):])
	t.Cleanup(func() { _ = docker.VolumeRemove(context.WithoutCancel(t.Context()), volume, true) })
	cached("rm", path).expect(t, 1, "remove "+path+" ("+volume+"): the containers", "use it")

	address := regexp.MustCompile(`http="?([0-9.:]+)`).FindStringSubmatch(r.stderr.String())
	if address == nil {
		t.Fatalf("where it listens isn't in the log:\n%s", r.stderr)
	}
	metrics := func() string {
		res, err := http.Get("http://" + address[1] + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for _, want := range []string{"drone_runner_builds_running 1", `drone_runner_images_total{origin="cached"} 2`, "drone_runner_disk_used_bytes "} {
		eventually(t, want+" in the metrics", func() bool { return strings.Contains(metrics(), want) })
	}
	r.server.Cancel(id)
	r.enqueue(rpctest.Build{YAML: "kind: pipeline\nclone: {disable: true}\nsteps: [{name: a, image: IMAGE, commands: ['true']}]\n"})
	eventually(t, "an end in the metrics, and no build that runs", func() bool {
		return strings.Contains(metrics(), `drone_runner_builds_total{status="success"} 1`) && strings.Contains(metrics(), "drone_runner_builds_running 0")
	})
	cached("rm", path+"/", "/cache/none").expect(t, 1, "removed "+path+" ("+volume+")", "remove /cache/none: no volume")
	cached().expect(t, 0, "!"+path)
	call{args: []string{"cache"}}.run(t).expect(t, 2, "DRONE_RPC_HOST")
}

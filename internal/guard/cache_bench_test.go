//go:build !unit

package guard_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// BenchmarkSecondBuild builds a Dockerfile of five layers: in a build of the runner that is the
// first to do so, in another one after it, and in a docker daemon of its own, started for it, as
// docker-in-docker does. That daemon's base image comes over a pipe from the machine's own, which
// is faster than any registry. Figures are medians; what counts are the ratios.
func BenchmarkSecondBuild(b *testing.B) {
	standin.Image(b, "busybox")
	standin.Image(b, "docker")
	b.Setenv("DOCKER_BUILDKIT", "0") // the builder that every docker CLI has
	var first, second, fresh []time.Duration
	for range b.N {
		for range 3 {
			dir := b.TempDir()
			text := "FROM " + guardtest.Image + "\nENV RUN=" + rand.Text() + "\n"
			for layer := range 4 {
				text += fmt.Sprintf("RUN head -c 4000000 /dev/urandom > /layer%d\n", layer)
			}
			text += "COPY Dockerfile /\n"
			if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			for _, took := range []*[]time.Duration{&first, &second} {
				build := guardtest.Start(b)
				begun := time.Now()
				build.Docker("build", "-q", "-t", "app", dir)
				*took = append(*took, time.Since(begun))
			}
			begun := time.Now()
			daemon := guardtest.NewOwnDaemon(b, guardtest.DaemonOptions{})
			daemon.Load(b, guardtest.Image)
			cmd := exec.CommandContext(b.Context(), "docker", "build", "-q", "--network", "none", dir)
			cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+daemon.Socket)
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			fresh = append(fresh, time.Since(begun))
		}
	}
	one, two, three := middle(first), middle(second), middle(fresh)
	b.ReportMetric(one.Seconds()/two.Seconds(), "first/second")
	b.ReportMetric(three.Seconds()/two.Seconds(), "fresh-daemon/second")
	b.ReportMetric(one.Seconds(), "first-s")
	b.ReportMetric(two.Seconds(), "second-s")
	b.ReportMetric(three.Seconds(), "fresh-daemon-s")
	b.ReportMetric(0, "ns/op")
}

// middle is the median.
func middle(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

package engine_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

// BenchmarkTenSteps runs ten steps of `true` in series, with a network and a volume, and right after them the same ten containers by bare calls to the
// daemon: create, start, wait, remove. Seconds of the two vary with the machine and the day; their ratio is what counts, and 1.0 is as good as it gets without starting ahead.
func BenchmarkTenSteps(b *testing.B) {
	const steps = 10
	c := connect(b)
	d := engine.New(c, engine.Options{})
	var ours, bare time.Duration
	for b.Loop() {
		begin := time.Now()
		runSteps(newBenchWith(b, c, d), steps)
		ours += time.Since(begin)

		begin = time.Now()
		runBare(b, c, steps)
		bare += time.Since(begin)
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "engine-s/op")
	b.ReportMetric(bare.Seconds()/float64(b.N), "bare-s/op")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "engine/bare")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLongLog runs a step that prints 200,000 lines, 50 MB. The memory is that of the whole process at its highest.
func BenchmarkLongLog(b *testing.B) {
	c := connect(b)
	d := engine.New(c, engine.Options{})
	b.SetBytes(50_000_000)
	var peak uint64
	for b.Loop() {
		bench := newBenchWith(b, c, d)
		bench.setup()
		s := bench.step("flood", `pad=$(printf '%0230d' 0); awk -v pad=$pad 'BEGIN{for(i=1;i<=200000;i++) printf "%018d %s\n", i, pad}'`)
		log := &measured{}
		if exit, err := bench.prepare(s).Run(b.Context(), log, nil); err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
		if log.bytes != 50_000_000 {
			b.Fatalf("%d bytes came", log.bytes)
		}
		peak = max(peak, log.peak)
		if err := d.Destroy(b.Context(), bench.spec); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(peak)/(1<<20), "peak-MB")
}

// measured is a log that keeps nothing but figures.
type measured struct {
	bytes, writes int
	peak          uint64
}

func (m *measured) Write(p []byte) (int, error) {
	m.bytes += len(p)
	if m.writes++; m.writes%100 == 1 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		m.peak = max(m.peak, s.Sys)
	}
	return len(p), nil
}

func runSteps(b *bench, n int) {
	b.Helper()
	b.volume("workspace", engine.VolumeTemp)
	for i := range n {
		b.step(fmt.Sprintf("step%d", i), "true", func(s *engine.Step) { s.Mounts = []engine.Mount{{Volume: "workspace", Path: "/drone/src"}} })
	}
	b.setup()
	for _, s := range b.spec.Steps {
		b.passes(s)
	}
	if err := b.engine.Destroy(b.Context(), b.spec); err != nil {
		b.Fatal(err)
	}
}

func runBare(b *testing.B, c *client.Client, n int) {
	b.Helper()
	ctx := b.Context()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	name := fmt.Sprintf("bare-%d", time.Now().UnixNano())
	_, err := c.NetworkCreate(ctx, name, network.CreateOptions{Driver: "bridge"})
	must(err)
	_, err = c.VolumeCreate(ctx, volume.CreateOptions{Name: name})
	must(err)
	for range n {
		created, err := c.ContainerCreate(ctx, &container.Config{Image: "standin/busybox:1", Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"true"}},
			&container.HostConfig{NetworkMode: container.NetworkMode(name), Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: name, Target: "/drone/src"}}}, nil, nil, "")
		must(err)
		exits, errs := c.ContainerWait(ctx, created.ID, container.WaitConditionNextExit)
		must(c.ContainerStart(ctx, created.ID, container.StartOptions{}))
		select {
		case <-exits:
		case err := <-errs:
			must(err)
		}
		must(c.ContainerRemove(ctx, created.ID, container.RemoveOptions{}))
	}
	must(c.NetworkRemove(ctx, name))
	must(c.VolumeRemove(ctx, name, false))
}

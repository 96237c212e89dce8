//go:build !unit

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

// BenchmarkLongLog runs a step that prints 200,000 lines, 50 MB. The memory is that of the whole
// process at its highest.
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

// BenchmarkTeardown destroys a stage with twenty running containers, against one with a single one
// right before it.
func BenchmarkTeardown(b *testing.B) {
	c := connect(b)
	d := engine.New(c, engine.Options{})
	down := func(containers int) time.Duration {
		bench := newBenchWith(b, c, d)
		bench.setup()
		up(b, bench, containers)
		began := time.Now()
		if err := d.Destroy(b.Context(), bench.spec); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	var one, twenty time.Duration
	for b.Loop() {
		one += down(1)
		twenty += down(20)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(one.Seconds()/float64(b.N), "one-s/op")
	b.ReportMetric(twenty.Seconds()/float64(b.N), "twenty-s/op")
	b.ReportMetric(twenty.Seconds()/one.Seconds(), "twenty/one")
}

// up starts containers that run until they are stopped, and waits until they all do.
func up(b *testing.B, bench *bench, containers int) {
	b.Helper()
	var starting, running sync.WaitGroup
	for i := range containers {
		prepared := bench.prepare(bench.step(fmt.Sprintf("step%d", i), "sleep 1000"))
		starting.Add(1)
		running.Go(func() {
			// It ends when its container is removed under it, which is no error of the benchmark's.
			_, _ = prepared.Run(context.WithoutCancel(b.Context()), nil, starting.Done)
		})
	}
	starting.Wait()
	b.Cleanup(running.Wait)
}

// BenchmarkCancel stops a step that runs a plain `sleep` in a shell, and destroys its stage: from
// the word to no container. The floor is what `docker rm -f` takes for such a container.
func BenchmarkCancel(b *testing.B) {
	c := connect(b)
	d := engine.New(c, engine.Options{})
	var ours, bare time.Duration
	for b.Loop() {
		bench := newBenchWith(b, c, d)
		bench.setup()
		ctx, cancel := context.WithCancel(b.Context())
		var out transcript
		wait := bench.background(ctx, bench.prepare(bench.step("sleep", "echo ready; sleep 1000; true")), &out)
		out.waitFor(b, "ready")
		began := time.Now()
		cancel()
		if _, err := wait(); !errors.Is(err, context.Canceled) {
			b.Fatal(err)
		}
		if err := d.Destroy(b.Context(), bench.spec); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(began)

		bench = newBenchWith(b, c, d)
		bench.setup()
		up(b, bench, 1)
		began = time.Now()
		if err := c.ContainerRemove(b.Context(), bench.spec.Steps[0].ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			b.Fatal(err)
		}
		bare += time.Since(began)
		if err := d.Destroy(b.Context(), bench.spec); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours.Seconds()/float64(b.N), "cancel-s/op")
	b.ReportMetric(bare.Seconds()/float64(b.N), "rm-s/op")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "cancel/rm")
}

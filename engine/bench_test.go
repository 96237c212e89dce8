//go:build !unit

package engine_test

import (
	"runtime"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
)

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

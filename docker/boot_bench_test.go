//go:build !unit

package docker_test

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkBoot takes a system container from docker start to its first poll, on a volume that has
// been used before, and then the memory of the idle runner. The ratio is to the same container's
// dockerd alone, measured in the same run.
func BenchmarkBoot(b *testing.B) {
	server := droneServer(b)
	s := start(b, server)
	s.polling(b, server, s.began)

	var boot, daemon time.Duration
	for b.Loop() {
		outer(b, "stop", "-t", "30", s.name)
		began := time.Now()
		if _, err := command(b.Context(), "../scripts/testbench", "start", s.name); err != nil {
			b.Fatal(err)
		}
		boot += s.polling(b, server, began).Sub(began)
		daemon += upIn(b, s)
	}
	b.ReportMetric(boot.Seconds()/float64(b.N), "s-to-poll/op")
	b.ReportMetric(boot.Seconds()/daemon.Seconds(), "ratio-to-dockerd")
	time.Sleep(2 * time.Second) // idle
	b.ReportMetric(rss(b, s), "idle-MB")
}

// upIn is how long the daemon inside took from its start to its first answer, as the runner's log
// says of the last boot.
func upIn(b *testing.B, s system) time.Duration {
	b.Helper()
	out, err := command(b.Context(), "sh", "-c", "../scripts/testbench docker logs --tail 200 "+s.name+" 2>&1")
	if err != nil {
		b.Fatal(err)
	}
	at := strings.LastIndex(out, "the Docker daemon is up")
	_, rest, ok := strings.Cut(out[max(at, 0):], "took=")
	if at < 0 || !ok {
		b.Fatalf("the log doesn't say how long the daemon took:\n%s", out)
	}
	d, err := time.ParseDuration(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// rss is the resident memory of the runner process, in MB.
func rss(b *testing.B, s system) float64 {
	b.Helper()
	out := s.exec(b, "sh", "-c", `for p in /proc/[0-9]*; do case "$(tr '\0' ' ' <$p/cmdline)" in "drone-runner-sysbox daemon "*) grep VmRSS $p/status;; esac; done`)
	f := strings.Fields(out)
	if len(f) < 2 {
		b.Fatalf("no runner in there: %q", out)
	}
	kb, err := strconv.ParseFloat(f[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb / 1024
}

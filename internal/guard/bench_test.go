//go:build !unit

package guard_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// What the guard costs: the same calls through the guard and to the daemon itself, in turns, in one
// run. guard/direct is the ratio of throughputs (1 is as fast, more is better), added-µs what the
// median call takes longer, added-cpu the processor time that the guard takes. Bars: ratio 0.9,
// added 500 µs. Where the clients, the guard and the daemon want more cores than there are, the
// ratio tells what share of them the guard takes; added-cpu holds there as well.
//
// BENCH_MB is the size of archives, 500 by default, and a tenth of it that of logs. BENCH_TURNS is
// how often each transfer is made, 3 by default.

const mega = 1 << 20

var (
	largeTar = int64(setting("BENCH_MB", 500)) * mega
	largeLog = largeTar / 10
	turns    = setting("BENCH_TURNS", 3)
)

// setting is a positive number of the environment.
func setting(name string, fallback int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return fallback
}

// processorTime is what this process, which is the client and the guard, has used of the
// processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sides are the two ways to the daemon.
type sides struct {
	b             *guardtest.Build
	guard, direct *http.Client
}

func newSides(b *testing.B) *sides {
	b.Helper()
	build := guardtest.Start(b)
	s := &sides{b: build}
	for socket, c := range map[string]**http.Client{build.Socket: &s.guard, build.Daemon: &s.direct} {
		tr := &http.Transport{
			MaxIdleConnsPerHost: 128, WriteBufferSize: 128 << 10, ReadBufferSize: 128 << 10,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		}
		b.Cleanup(tr.CloseIdleConnections)
		*c = &http.Client{Transport: tr}
	}
	return s
}

// do makes a request and discards the answer; it tells how long that took and how many bytes came.
func do(ctx context.Context, c *http.Client, method, path, contentType string, body io.Reader) (time.Duration, int64, error) {
	begun := time.Now()
	r, err := http.NewRequestWithContext(ctx, method, "http://docker/v1.41"+path, body)
	if err != nil {
		return 0, 0, err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		text, err := io.ReadAll(resp.Body)
		return 0, 0, errors.Join(fmt.Errorf("%s %s: %s %s", method, path, resp.Status, text), err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	return time.Since(begun), n, err
}

// throughput runs a transfer of an amount both ways in turns and reports the ratio of the medians.
func (s *sides) throughput(b *testing.B, amount float64, unit string, transfer func(c *http.Client) (time.Duration, error)) {
	b.Helper()
	took, used := map[*http.Client][]time.Duration{}, map[*http.Client][]time.Duration{}
	for range b.N {
		for range turns {
			for _, c := range []*http.Client{s.direct, s.guard} {
				before := processorTime(b)
				d, err := transfer(c)
				if err != nil {
					b.Fatal(err)
				}
				took[c] = append(took[c], d)
				used[c] = append(used[c], processorTime(b)-before)
			}
		}
	}
	guard, direct := median(took[s.guard]), median(took[s.direct])
	b.ReportMetric(float64((median(used[s.guard])-median(used[s.direct])).Microseconds())/amount, "added-cpu-µs/"+unit)
	b.ReportMetric(direct.Seconds()/guard.Seconds(), "guard/direct")
	b.ReportMetric(amount/guard.Seconds(), "guard-"+unit+"/s")
	b.ReportMetric(amount/direct.Seconds(), "direct-"+unit+"/s")
	b.ReportMetric(0, "ns/op")
}

// latency runs a call both ways in turns and reports what the guard adds to the median.
func (s *sides) latency(b *testing.B, method, path string) {
	b.Helper()
	took := map[*http.Client][]time.Duration{}
	for range max(b.N, 500) {
		for _, c := range []*http.Client{s.direct, s.guard} {
			d, _, err := do(b.Context(), c, method, path, "", nil)
			if err != nil {
				b.Fatal(err)
			}
			took[c] = append(took[c], d)
		}
	}
	guard, direct := median(took[s.guard]), median(took[s.direct])
	b.ReportMetric(float64((guard-direct).Nanoseconds())/1e3, "added-µs")
	b.ReportMetric(float64(guard.Nanoseconds())/1e3, "guard-µs")
	b.ReportMetric(float64(direct.Nanoseconds())/1e3, "direct-µs")
	b.ReportMetric(0, "ns/op")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// archive streams a tar with small files and one large one.
func archive(size int64, small map[string]string) io.ReadCloser {
	r, w := io.Pipe()
	go func() { // ends with the reader: Close of r fails its writes
		t := tar.NewWriter(w)
		err := func() error {
			for name, text := range small {
				if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
					return err
				}
				if _, err := io.WriteString(t, text); err != nil {
					return err
				}
			}
			if err := t.WriteHeader(&tar.Header{Name: "large", Mode: 0o644, Size: size}); err != nil {
				return err
			}
			block := bytes.Repeat([]byte("0123456789abcdef"), mega/16)
			for range size / mega {
				if _, err := t.Write(block); err != nil {
					return err
				}
			}
			return t.Close()
		}()
		_ = w.CloseWithError(err) // never fails
	}()
	return r
}

func BenchmarkGuardLatency(b *testing.B) {
	s := newSides(b)
	id := strings.TrimSpace(s.b.Docker("run", "-d", guardtest.Image, "sleep", "100000"))
	for _, call := range []struct{ name, method, path string }{
		{"ping", "GET", "/_ping"}, {"inspect", "GET", "/containers/" + id + "/json"}, {"list", "GET", "/containers/json"},
	} {
		b.Run(call.name, func(b *testing.B) { s.latency(b, call.method, call.path) })
	}
}

func BenchmarkGuardThroughput(b *testing.B) {
	s := newSides(b)
	id := strings.TrimSpace(s.b.Docker("run", "-d", guardtest.Image, "sleep", "100000"))
	b.Run("cp-in", func(b *testing.B) {
		s.throughput(b, float64(largeTar)/mega, "MB", func(c *http.Client) (time.Duration, error) {
			body := archive(largeTar, nil)
			defer body.Close()
			d, _, err := do(b.Context(), c, "PUT", "/containers/"+id+"/archive?path=/tmp", "application/x-tar", body)
			return d, err
		})
	})
	b.Run("cp-out", func(b *testing.B) {
		s.throughput(b, float64(largeTar)/mega, "MB", func(c *http.Client) (time.Duration, error) {
			d, n, err := do(b.Context(), c, "GET", "/containers/"+id+"/archive?path=/tmp/large", "", nil)
			if err == nil && n < largeTar {
				err = fmt.Errorf("only %d bytes came", n)
			}
			return d, err
		})
	})
	b.Run("build-context", func(b *testing.B) {
		b.Cleanup(func() { _, _ = guardtest.Send(s.b.Daemon, "DELETE", "/images/guardtest-bench:1", nil) })
		s.throughput(b, float64(largeTar)/mega, "MB", func(c *http.Client) (time.Duration, error) {
			body := archive(largeTar, map[string]string{"Dockerfile": "FROM " + guardtest.Image + "\nCMD true\n"})
			defer body.Close()
			d, _, err := do(b.Context(), c, "POST", "/build?q=1&rm=1&t=guardtest-bench:1", "application/x-tar", body)
			return d, err
		})
	})
	b.Run("logs", func(b *testing.B) {
		// 100 bytes a line, the line's end and 8 bytes of Docker's framing not counted.
		talker := strings.TrimSpace(s.b.Docker("run", "-d", "--log-opt", "max-size=1g", guardtest.Image, "sh", "-c", "yes "+strings.Repeat("x", 99)+fmt.Sprintf(" | head -n %d", largeLog/100)))
		s.b.Docker("wait", talker)
		b.ResetTimer()
		s.throughput(b, float64(largeLog)/mega, "MB", func(c *http.Client) (time.Duration, error) {
			d, n, err := do(b.Context(), c, "GET", "/containers/"+talker+"/logs?follow=1&stdout=1", "", nil)
			if err == nil && n < largeLog {
				err = fmt.Errorf("only %d bytes came", n)
			}
			return d, err
		})
	})
}

// BenchmarkGuardClients has 100 clients that inspect, list and run commands, at once.
func BenchmarkGuardClients(b *testing.B) {
	const clients, calls = 100, 20
	s := newSides(b)
	id := strings.TrimSpace(s.b.Docker("run", "-d", guardtest.Image, "sleep", "100000"))
	s.throughput(b, clients*calls*3, "calls", func(c *http.Client) (time.Duration, error) {
		begun := time.Now()
		var all sync.WaitGroup
		errs := make([]error, clients)
		for i := range clients {
			all.Go(func() {
				for range calls {
					for _, path := range []string{"/containers/" + id + "/json", "/networks", "/_ping"} {
						if _, _, err := do(b.Context(), c, "GET", path, "", nil); err != nil {
							errs[i] = err
							return
						}
					}
				}
			})
		}
		all.Wait()
		return time.Since(begun), errors.Join(errs...)
	})
}

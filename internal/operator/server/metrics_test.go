package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/server"
)

func TestMetrics(t *testing.T) {
	m := server.NewMetrics(func() int { return 3 })
	m.BuildEnded("success")
	m.BuildEnded("success")
	m.BuildEnded("failure")
	m.Image("cached")
	m.Removed("image", 100)
	m.Removed("image", 23)
	m.Removed("volume", -1) // of an unknown size
	m.Daemon(func() bool { return true }, func() int { return 2 })
	asked := 0
	m.Disk(func() (used, size, high, low int64) {
		asked++
		return 60, 100, 80, 50
	})
	url, _ := start(t, m.Part())
	status, body := get(t, http.MethodGet, url+"/metrics")
	if status != http.StatusOK || asked != 1 {
		t.Errorf("status %d; the disk was measured %d times", status, asked)
	}
	for _, want := range []string{
		"drone_runner_builds_running 3", `drone_runner_builds_total{status="success"} 2`, `drone_runner_builds_total{status="failure"} 1`,
		`drone_runner_images_total{origin="cached"} 1`,
		`drone_runner_cache_removed_objects_total{kind="image"} 2`, `drone_runner_cache_removed_bytes_total{kind="image"} 123`,
		`drone_runner_cache_removed_objects_total{kind="volume"} 1`, `drone_runner_cache_removed_bytes_total{kind="volume"} 0`,
		"drone_runner_disk_used_bytes 60", "drone_runner_disk_size_bytes 100", "drone_runner_cache_high_bytes 80", "drone_runner_cache_low_bytes 50",
		"drone_runner_daemon_up 1", "drone_runner_daemon_restarts_total 2",
		"process_resident_memory_bytes", "go_goroutines",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("it lacks %s", want)
		}
	}
	if status, _ := get(t, http.MethodPost, url+"/metrics"); status != http.StatusMethodNotAllowed {
		t.Errorf("a POST is answered with %d", status)
	}
}

package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the figures that /metrics serves, in Prometheus's text format. They are safe for
// concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	builds         *prometheus.CounterVec
	images         *prometheus.CounterVec
	removed, bytes *prometheus.CounterVec
}

// namespace begins the name of each figure.
const namespace = "drone_runner"

// NewMetrics has those of the process, and all of the runner's at 0. running is asked for the
// number of builds each time.
func NewMetrics(running func() int) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	m.builds = vec("builds_total", "Pipelines that have ended here, by their status.", "status")
	m.images = vec("images_total", "Images of steps, by where they came from: pulled, cached, fallback (cached, since the pull failed), failed.", "origin")
	m.removed = vec("cache_removed_objects_total", "What was removed to make room on the Docker daemon's disk, by its kind.", "kind")
	m.bytes = vec("cache_removed_bytes_total", "The size of what was removed to make room on the Docker daemon's disk, by its kind.", "kind")
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("builds_running", "Pipelines that run here.", func() float64 { return float64(running()) })
	return m
}

func (m *Metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value))
}

// Daemon adds whether the Docker daemon works, and how often it had to be started again. It is
// called once at most.
func (m *Metrics) Daemon(up func() bool, restarts func() int) {
	m.gauge("daemon_up", "1 while the Docker daemon works; no builds are taken while it doesn't.", func() float64 {
		if up() {
			return 1
		}
		return 0
	})
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: namespace, Name: "daemon_restarts_total", Help: "How often the Docker daemon died, or hung and was killed, and was started again.",
	}, func() float64 { return float64(restarts()) }))
}

// Cells adds the number of cells that run, of which running is asked each time. It is called once
// at most.
func (m *Metrics) Cells(running func() int) {
	m.gauge("cells_running", "Cells that run, the shared one included (DRONE_RUNNER_CELLS).", func() float64 { return float64(running()) })
}

// Disk adds the Docker daemon's disk, of which usage is asked once for each reader, and the marks
// of the cache's budget on it; all in bytes, and 0 where they are unknown. It is called once at
// most.
func (m *Metrics) Disk(usage func() (used, size, high, low int64)) {
	d := &disk{usage: usage}
	for _, g := range []struct{ name, help string }{
		{"disk_used_bytes", "How much of the Docker daemon's disk is in use."},
		{"disk_size_bytes", "How large the Docker daemon's disk is."},
		{"cache_high_bytes", "How much of the disk may be in use before the cache is reduced (DRONE_RUNNER_CACHE_HIGH)."},
		{"cache_low_bytes", "How much of the disk is in use when the cache has been reduced enough (DRONE_RUNNER_CACHE_LOW)."},
	} {
		d.figures = append(d.figures, prometheus.NewDesc(prometheus.BuildFQName(namespace, "", g.name), g.help, nil, nil))
	}
	m.registry.MustRegister(d)
}

// disk measures once for all of its figures.
type disk struct {
	figures []*prometheus.Desc
	usage   func() (used, size, high, low int64)
}

// Describe implements prometheus.Collector.
func (d *disk) Describe(out chan<- *prometheus.Desc) {
	for _, f := range d.figures {
		out <- f
	}
}

// Collect implements prometheus.Collector.
func (d *disk) Collect(out chan<- prometheus.Metric) {
	used, size, high, low := d.usage()
	for i, value := range []int64{used, size, high, low} {
		out <- prometheus.MustNewConstMetric(d.figures[i], prometheus.GaugeValue, float64(value))
	}
}

// BuildEnded counts a pipeline that has ended with that status.
func (m *Metrics) BuildEnded(status string) { m.builds.WithLabelValues(status).Inc() }

// Image counts an image of a step, by where it came from.
func (m *Metrics) Image(origin string) { m.images.WithLabelValues(origin).Inc() }

// Removed counts something that was removed to make room, and its size in bytes.
func (m *Metrics) Removed(kind string, bytes int64) {
	m.removed.WithLabelValues(kind).Inc()
	m.bytes.WithLabelValues(kind).Add(float64(max(bytes, 0)))
}

// Part serves them at /metrics.
func (m *Metrics) Part() Part {
	return Part{Pattern: "GET /metrics", Handler: promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})}
}

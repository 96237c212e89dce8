package main

import (
	"context"
	"slices"
	"time"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/operator/server"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/runtime"
)

// measureTimeout bounds the measuring of the disk for whoever reads /metrics.
const measureTimeout = 10 * time.Second

// countedClient tells the metrics of each stage whose end the server has been told.
type countedClient struct {
	runtime.Client
	metrics *server.Metrics
}

// Update is the client's.
func (c countedClient) Update(ctx context.Context, stage *drone.Stage) error {
	status := stage.Status // before the server's answer takes its place
	err := c.Client.Update(ctx, stage)
	if err == nil && slices.Contains(ended, status) {
		c.metrics.BuildEnded(status)
	}
	return err
}

// ended are the statuses of stages that are over.
var ended = []string{drone.StatusPassing, drone.StatusFailing, drone.StatusKilled, drone.StatusError, drone.StatusSkipped}

// showDisk adds the disk to the metrics. A disk that can't be measured has no size, and nothing on it.
func (w wiring) showDisk(ctx context.Context, disk janitor.Disk) {
	high, low := janitor.Mark(w.cfg.Cache.High), janitor.Mark(w.cfg.Cache.Low)
	w.metrics.Disk(func() (used, size, highMark, lowMark int64) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), measureTimeout)
		defer cancel()
		usage, err := disk.Usage(ctx)
		if err != nil {
			w.log.WithError(err).Debug("the metrics lack the disk")
			return 0, 0, 0, 0
		}
		return usage.Used, usage.Size, high.On(usage.Size), low.On(usage.Size)
	})
}

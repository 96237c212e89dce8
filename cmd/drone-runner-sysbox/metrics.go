package main

import (
	"context"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/janitor"
)

// measureTimeout bounds the measuring of the disk for whoever reads /metrics.
const measureTimeout = 10 * time.Second

// showDisk adds the disk to the metrics. A disk that can't be measured has no size, and nothing on
// it.
func (w wiring) showDisk(ctx context.Context) error {
	disk, err := janitor.FindDisk(ctx, w.docker)
	if err != nil {
		return err
	}
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
	return nil
}

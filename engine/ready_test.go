//go:build !unit

package engine_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// checked makes an image with a HEALTHCHECK.
func checked(b *bench, instruction string) func(*spec.Step) {
	b.Helper()
	ref := "engine-test/checked:" + strings.ToLower(rand.Text()[:10])
	c, err := b.client.ContainerCreate(b.Context(), &container.Config{Image: "standin/busybox:1"}, nil, nil, nil, "")
	if err != nil {
		b.Fatal(err)
	}
	_, err = b.client.ContainerCommit(b.Context(), c.ID, container.CommitOptions{Reference: ref, Changes: []string{instruction}})
	err = errors.Join(err, b.client.ContainerRemove(b.Context(), c.ID, container.RemoveOptions{}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.Context()), time.Minute)
		defer cancel()
		if _, err := b.client.ImageRemove(ctx, ref, image.RemoveOptions{Force: true}); err != nil {
			b.Errorf("remove the image: %v", err)
		}
	})
	return func(s *spec.Step) { s.Image = ref }
}

func TestReady(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, check, script string
		// limit is what Ready is given, and want what its error says; nil is none.
		limit time.Duration
		want  []string
	}{
		{"no check", "", "sleep 1000", patience, nil},
		{"a check that is switched off", "HEALTHCHECK NONE", "sleep 1000", patience, nil},
		// The daemon itself checks after an hour at the earliest.
		{"a check of the shell's", "HEALTHCHECK --interval=1h CMD test -e /tmp/up", "sleep 0.5; touch /tmp/up; sleep 1000", patience, nil},
		{"a check without a shell", `HEALTHCHECK --interval=1h CMD ["/bin/test", "-e", "/tmp/up"]`, "sleep 0.5; touch /tmp/up; sleep 1000", patience, nil},
		{"a check that never passes", "HEALTHCHECK --interval=200ms --retries=1 CMD echo no table; exit 3", "sleep 1000", 2 * time.Second, []string{"health check (echo no table; exit 3)", "exit code 3: no table"}},
		{"a check that the daemon hasn't made", "HEALTHCHECK --interval=1h CMD exit 3", "sleep 1000", time.Second, []string{"health check (exit 3)", "exit code 3"}},
		{"a check that hangs", "HEALTHCHECK --interval=1h CMD sleep 600", "sleep 1000", time.Second, []string{"health check (sleep 600) hasn't ended"}},
		{"a container that has ended", "HEALTHCHECK CMD exit 1", "true", patience, []string{spec.ErrEnded.Error()}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, engine.Options{StopGrace: 10 * time.Millisecond})
			var image []func(*spec.Step)
			if row.check != "" {
				image = append(image, checked(b, row.check))
			}
			b.setup()
			c := b.prepare(b.step("db", row.script, image...))
			running, stop := context.WithCancelCause(t.Context())
			wait := b.background(running, c, new(transcript))
			ready := func(limit time.Duration) error {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				return c.Ready(ctx)
			}
			err := ready(row.limit)
			// A slow machine may not have made a single check by then.
			for limit := 2 * row.limit; row.want != nil && !says(err, row.want...) && limit < patience; limit *= 2 {
				err = ready(limit)
			}
			if row.want == nil && err != nil {
				t.Error(err)
			} else if row.want != nil {
				wantError(t, err, row.want...)
			}
			stop(spec.ErrKill)
			_, _ = wait()
		})
	}
}

// A daemon that is away for a moment says nothing of the container.
func TestReadyWithoutADaemon(t *testing.T) {
	t.Parallel()
	w, c := newWire(t)
	b := newBenchWith(t, connect(t), engine.New(c, engine.Options{StopGrace: 10 * time.Millisecond}))
	image := checked(b, "HEALTHCHECK CMD true")
	b.setup()
	prepared := b.prepare(b.step("db", "sleep 1000", image))
	running, stop := context.WithCancelCause(t.Context())
	wait := b.background(running, prepared, new(transcript))
	w.setRule(refuse)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := prepared.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	w.setRule(nil)
	if err := prepared.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	stop(spec.ErrKill)
	_, _ = wait()
}

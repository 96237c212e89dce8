//go:build !unit

package engine_test

import (
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// What the operator preloads is there for steps, of those who may have it.
func TestPreload(t *testing.T) {
	r := newRunner(t, t.TempDir(), func(o *engine.Options) { o.StreamPull = true })
	h := newHub(t, r.client)
	h.user = "jane:s3cret"
	jane := &spec.Auth{Username: "jane", Password: "s3cret"}
	ref := h.push(t, "team/tool:1", false)
	wantError(t, r.engine.Preload(t.Context(), ref, nil, nil), ref, "wants credentials")
	lines := 0
	if err := r.engine.Preload(t.Context(), ref, jane, func(string) { lines++ }); err != nil || lines == 0 {
		t.Fatalf("%d lines, %v", lines, err)
	}
	before := h.requests()
	if _, err := r.tries(t, ref, jane, spec.PullNever); err != nil {
		t.Error(err)
	}
	if n := h.requests() - before; n > 0 {
		t.Errorf("the registry was asked %d times for what was preloaded", n)
	}
	if _, err := r.tries(t, ref, nil, spec.PullNever); err == nil {
		t.Error("somebody without credentials has it")
	}
	wantError(t, r.engine.Preload(t.Context(), "Team/Tool", nil, nil), "no image reference")
}

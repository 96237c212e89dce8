//go:build !unit

package engine_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

func TestTwentyRunsAtOnce(t *testing.T) {
	t.Parallel()
	c := connect(t)
	d := engine.New(c, engine.Options{})
	var all sync.WaitGroup
	for i := range 20 {
		b := newBenchWith(t, c, d)
		b.volume("workspace", spec.VolumeTemp)
		mounted := func(s *spec.Step) { s.Mounts = []spec.Mount{{Volume: "workspace", Path: "/drone/src"}} }
		steps := []*spec.Step{
			b.step("write", fmt.Sprintf("echo %d >/drone/src/file", i), mounted),
			b.step("read", "cat /drone/src/file; exit 3", mounted),
		}
		all.Go(func() {
			if err := d.Setup(t.Context(), b.spec); err != nil {
				t.Error(err)
				return
			}
			var out strings.Builder
			var codes []int
			for _, s := range steps {
				prepared, err := d.Prepare(t.Context(), b.spec, s, io.Discard)
				if err != nil {
					t.Error(err)
					return
				}
				exit, err := prepared.Run(t.Context(), &out, nil)
				if err != nil {
					t.Error(err)
				}
				codes = append(codes, exit.Code)
			}
			if got, want := fmt.Sprintf("%d %s", codes, out.String()), fmt.Sprintf("[0 3] %d\n", i); got != want {
				t.Errorf("run %d: %q, want %q", i, got, want)
			}
			if err := d.Destroy(t.Context(), b.spec); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

package runtime

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/enginetest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/journal"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
)

// newJournal opens a journal in a folder of the test's.
func newJournal(t *testing.T) (j *journal.Journal, state string) {
	t.Helper()
	state = t.TempDir()
	j, err := journal.Open(t.Context(), state, "me", quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j, state
}

// A log that the server refuses for good ends neither its stage nor the runner: the stage is
// reported with a line that names the log, the operator has it, and the next stage runs.
func TestEndToEndLogRefusedForGood(t *testing.T) {
	for _, fault := range []rpctest.Fault{
		{Status: http.StatusInternalServerError, Body: "disk full"},
		{Status: http.StatusBadRequest, Body: "no"},
		{Status: http.StatusRequestEntityTooLarge, Body: "too large"},
		{Status: http.StatusInternalServerError, Body: "Error 1406: Data too long for column 'log_data' at row 1"},
		{Drop: true},
	} {
		t.Run(fmt.Sprint(fault.Status, fault.Body), func(t *testing.T) {
			t.Parallel()
			j, state := newJournal(t)
			r := &rig{steps: chain(step("a"), step("b/c")), refusedFor: 50 * time.Millisecond, logs: LogOptions{Lost: j.Lost()}}
			r.engine = enginetest.New(t).Script("a", enginetest.Script{Output: []string{"one\n", strings.Repeat("two\n", 5000)}}).
				Script("b/c", enginetest.Script{Output: []string{"three"}})
			r.server = rpctest.NewServer(t)
			fault.Call, fault.Times = rpctest.CallUpload, -1
			fixed := r.server.Fault(fault)
			r.start(t, 1)
			first := r.build()
			result := r.wait(t, first)
			if got, want := outcome(result), "a:success b/c:success => success"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if text := result.Stages[0].Error; !strings.Contains(text, `the log of step "a" is lost`) || !strings.Contains(text, "lost/stage-1-step-1-a.log") {
				t.Errorf("the stage says %q", text)
			}
			if text := result.Step("b/c").Error; !strings.Contains(text, `the log of step "b/c" is lost`) || !strings.Contains(text, "lost/stage-1-step-2-b_c.log") {
				t.Errorf("the step says %q", text)
			}
			for name, want := range map[string]string{"stage-1-step-1-a.log": "one\n" + strings.Repeat("two\n", 5000), "stage-1-step-2-b_c.log": "three"} {
				if got, err := os.ReadFile(filepath.Join(state, "lost", name)); err != nil || string(got) != want {
					t.Errorf("the operator has %.100q (%v)", got, err)
				}
			}
			fixed()
			second := r.build()
			if got := r.wait(t, second).Step("a"); !got.Uploaded {
				t.Error("the next stage's log isn't there")
			}
		})
	}
}

// A log that is too large for the server, or for a proxy before it, arrives with its head and its
// tail, and says so.
func TestEndToEndLogTooLarge(t *testing.T) {
	for _, most := range []int64{200_000, 20_000, 6_000} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			var text strings.Builder
			for i := range 20_000 {
				fmt.Fprintf(&text, "line %d\n", i)
			}
			r := &rig{steps: chain(step("a"))}
			r.engine = enginetest.New(t).Script("a", enginetest.Script{Output: []string{text.String()}})
			r.server = rpctest.NewServer(t)
			r.server.Fault(rpctest.Fault{Call: rpctest.CallBatch, Times: -1, Status: http.StatusRequestEntityTooLarge})
			r.server.LimitBodies(most)
			r.start(t, 1)
			result := r.wait(t, r.build())
			if got, want := outcome(result), "a:success => success"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			log := result.Step("a").Text()
			if !strings.HasPrefix(log, "line 0\nline 1\n") || !strings.HasSuffix(log, "\nline 19999\n") {
				t.Errorf("the log is %.50q … %q", log, log[max(len(log)-50, 0):])
			}
			if !strings.Contains(log, "left out here: the whole log takes") || !strings.Contains(log, "413") {
				t.Errorf("the log doesn't say what is missing: %.1000q", log)
			}
			if sent := int64(len(log)); sent > most || sent < most/8 {
				t.Errorf("%d bytes of text arrived, and %d may be sent", sent, most)
			}
		})
	}
}

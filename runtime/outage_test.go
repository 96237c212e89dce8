package runtime

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/enginetest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/rpc/rpctest"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// outageLasts is thirty of the rig's longest pauses between two attempts of a call: as many as ten
// minutes have of the runner's own.
const outageLasts = 30 * rigPause

// outage is a way in which a server is away.
type outage struct {
	name string
	// refused says that nobody listens, each what becomes of each call otherwise.
	refused bool
	each    rpctest.Fault
	// everywhere says that it is tried at every kind of call.
	everywhere bool
	// callTimeout is the runner's.
	callTimeout time.Duration
}

func outages() []outage {
	return []outage{
		{name: "refused", refused: true, everywhere: true},
		{name: "timeout", each: rpctest.Fault{Delay: time.Hour}, callTimeout: 8 * time.Second},
		{name: "500", each: rpctest.Fault{Status: 500, Body: "database is locked"}},
		{name: "502", each: rpctest.Fault{Status: 502, Body: "<html>Bad Gateway</html>"}},
		{name: "504", each: rpctest.Fault{Status: 504, Body: "upstream request timeout"}},
		{name: "404 of a proxy", each: rpctest.Fault{Status: 404, Body: "404 page not found\n"}},
		{name: "page of a proxy", each: rpctest.Fault{Status: 200, Body: "<html>We'll be back soon</html>"}},
		{name: "cut before the answer", each: rpctest.Fault{Drop: true}},
		{name: "cut after the deed", each: rpctest.Fault{Drop: true, Applied: true}, everywhere: true},
		{name: "cut in the answer", each: rpctest.Fault{Truncate: 5}},
	}
}

// begin makes the server go away, and cuts what stands; what it returns brings it back.
func (o outage) begin(s *rpctest.Server) (end func()) {
	s.Down()
	if o.refused {
		return s.Up
	}
	each := o.each
	each.Times = -1
	defer s.Up()
	return s.Fault(each)
}

// TestEndToEndOutage has the server go away in each way, at each kind of call, for a long time.
// When it is back it learns all, once, and a cancel works as ever.
func TestEndToEndOutage(t *testing.T) {
	moments := []struct {
		name string
		call string
		skip int
	}{
		{name: "the accept", call: rpctest.CallAccept},
		{name: "the details", call: rpctest.CallDetail},
		{name: "the begin of the stage", call: rpctest.CallUpdate},
		{name: "the begin of a step", call: rpctest.CallUpdateStep},
		{name: "a live line", call: rpctest.CallBatch},
		{name: "a log", call: rpctest.CallUpload},
		{name: "the end of a step", call: rpctest.CallUpdateStep, skip: 1},
		{name: "the begin of the second step", call: rpctest.CallUpdateStep, skip: 2},
		{name: "the end of the stage", call: rpctest.CallUpdate, skip: 1},
	}
	for _, o := range outages() {
		for _, m := range moments {
			if m.call != rpctest.CallUpload && !o.everywhere {
				continue // what is done about it is the same for all calls
			}
			t.Run(o.name+" at "+m.name, func(t *testing.T) {
				t.Parallel()
				r := &rig{steps: chain(step("a"), step("b"), step("c")), callTimeout: o.callTimeout}
				r.engine = enginetest.New(t).Script("b", exits(1)).Script("spec-2/a", blocks)
				r.engine.Script("spec-1/a", enginetest.Script{Output: []string{"one\n"}, Do: func(_ context.Context, _ *spec.Step, w io.Writer) error {
					time.Sleep(100 * time.Millisecond)
					_, err := io.WriteString(w, "two\n")
					return err
				}})
				r.server = rpctest.NewServer(t)
				// The first such call waits for the server to go.
				r.server.Fault(rpctest.Fault{Call: m.call, Skip: m.skip, Hold: make(chan struct{})})
				r.start(t, 2)
				id := r.build()
				for deadline := time.Now().Add(testPatience); r.server.Faulted() == 0; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s never came", m.name)
					}
				}
				back := o.begin(r.server)
				time.Sleep(outageLasts)
				back()

				result := r.wait(t, id)
				if got, want := outcome(result), "a:success b:failure/1 c:skipped => failure"; got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if a := result.Step("a"); !a.Uploaded || a.Text() != "one\ntwo\n" {
					t.Errorf("the log is %q (uploaded: %t)", a.Text(), a.Uploaded)
				}
				id = r.build()
				r.until(t, id, "step a runs", running("a"))
				r.server.Cancel(id)
				r.idle()
				if got, want := outcome(r.server.Result(id)), "a:killed/130 b:skipped/130 c:skipped/130 => killed/130"; got != want {
					t.Errorf("cancelled: got  %s\nwant %s", got, want)
				}
			})
		}
	}
}

// TestEndToEndCancelDuringAnOutage cancels a build while nobody can hear of it: the runner learns
// of it when the server is back.
func TestEndToEndCancelDuringAnOutage(t *testing.T) {
	for _, o := range outages() {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			r := &rig{steps: chain(step("a"), step("b")), callTimeout: o.callTimeout}
			r.engine = enginetest.New(t).Script("a", enginetest.Script{Output: []string{"started\n"}, Block: true, StopOutput: "stopped\n"})
			r.start(t, 1)
			id := r.build()
			r.until(t, id, "step a runs", func(result rpctest.Result) bool { return running("a")(result) && len(result.Step("a").Live) > 0 })
			back := o.begin(r.server)
			r.server.Cancel(id)
			time.Sleep(outageLasts)
			if got := r.engine.Events(); fmt.Sprint(got[len(got)-1:]) != "[start a]" {
				t.Errorf("the runner knows already: %v", got)
			}
			back()
			r.idle()
			result := r.server.Result(id)
			if got, want := outcome(result), "a:killed/130 b:skipped/130 => killed/130"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if a := result.Step("a"); !a.Uploaded || a.Text() != "started\nstopped\n" {
				t.Errorf("the log is %q (uploaded: %t)", a.Text(), a.Uploaded)
			}
		})
	}
}

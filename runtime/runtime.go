// Package runtime runs stages: it polls for them, accepts one, runs its step graph in an Engine,
// and reports every state and every line of log.
//
// The one rule to keep: nothing here knows Docker or YAML. It sees an engine.Spec, an Engine and a
// Reporter, so that its tests run in milliseconds against an engine in memory.
package runtime

import (
	"context"
	"io"

	"github.com/drone/drone-go/drone"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/drone/livelog"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// Engine runs the containers of a stage. It is used in this order:
//
//  1. Setup, once, makes what the steps share: the network and the volumes. If it fails, Destroy is
//     called all the same.
//  2. Fetch, at most once for each step, beside any other call, Setup included, and over before
//     Destroy is called: it brings what Prepare would have to wait for, the image. Its errors are
//     for the log: what it couldn't bring is Prepare's to bring, or to fail for.
//  3. Prepare, once for each step that will run, pulls the image, creates the container and
//     attaches its output. A step may be prepared while another one runs, so that its container is
//     there when its turn comes; the caller prepares it anew if its environment has changed since.
//     Prepare of different steps may be called concurrently.
//  4. Container.Run, once, starts it, says so, streams it and waits for it. Concurrently for
//     different steps.
//  5. Destroy, once, after every Run has returned, or at any moment to end the run: it removes
//     whatever the run created, started or not, what a container left running included. It may be
//     called again, and then finds nothing to do.
//
// Every call obeys its context; a caller that wants clean-up after a cancel passes Destroy a
// context of its own. Errors say what was being done, on which object, and are ready to be shown to
// the developer whose pipeline it is. An Engine may be used by any number of stages at once.
type Engine interface {
	Setup(ctx context.Context, spec *spec.Spec) error
	Fetch(ctx context.Context, spec *spec.Spec, step *spec.Step) error
	// Prepare writes what it has to say (the progress of a pull, a warning) to output, and to
	// nothing else.
	Prepare(ctx context.Context, spec *spec.Spec, step *spec.Step, output io.Writer) (spec.Container, error)
	Destroy(ctx context.Context, spec *spec.Spec) error
}

// Reporter reports what a stage does: to the Drone server for the daemon, to the terminal for exec.
//
//  1. Begin, once, before any step, with every step pending.
//  2. StepStarted, once for each step that starts; its Log takes the step's output, and is closed
//     before StepFinished. A nil Log drops it.
//  3. StepFinished, once for each step of the stage that is final, whether it ran or was skipped.
//     Steps run at once, so calls for different steps are concurrent.
//  4. End, once, when every step is final, while the Engine may still destroy what they left. It
//     returns when all that was reported has been delivered.
//
// The context of Begin is the stage's, and ends with a cancel; that of the other calls doesn't.
//
// The records are copies: a reporter keeps and changes them as it likes. Delivery is the reporter's
// business: no call but Begin and End waits for a server that is away, and no failure to report
// changes the outcome of the stage.
type Reporter interface {
	Begin(ctx context.Context, stage drone.Stage) error
	StepStarted(ctx context.Context, step drone.Step) Log
	StepFinished(ctx context.Context, step drone.Step, card *drone.CardInput)
	End(ctx context.Context, stage drone.Stage) error
}

// Log takes the lines of one step, masked already.
type Log = livelog.Sink

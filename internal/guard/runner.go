package guard

import (
	"context"
	"errors"
	stdlog "log" //nolint:depguard // net/http's servers and proxies take no other logger
	"strings"

	"github.com/docker/docker/api/types/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// Runner is all that a guard asks the runner whose stage it serves, and tells it. What passes is
// plain data, so a guard may be a process of its own, with a pipe between the two. It may be used
// concurrently.
type Runner interface {
	// MayHave reports whether the stage may have an image, by credentials that were shown through
	// its guard. With an error, the registry could not be asked, and the answer is no.
	MayHave(ctx context.Context, image Image, shown []registry.AuthConfig) (bool, error)
	// KnownToHave is MayHave for each of some images, without asking a registry: by what is known.
	KnownToHave(ctx context.Context, images []Image, shown []registry.AuthConfig) ([]bool, error)
	// Pulled notes that an image has been pulled by its name with these credentials (the zero ones:
	// with none).
	Pulled(ctx context.Context, image Image, with registry.AuthConfig)
	// AboutToUse notes that an image is about to be used, by its id.
	AboutToUse(ctx context.Context, imageID string)
	// BuilderBusy notes that a build with the daemon's classic builder begins (true) or ends: while
	// one runs, no image that only builds use may go.
	BuilderBusy(ctx context.Context, busy bool)
	// Reserved returns which addresses no subnet of a client's network may cover, besides those of
	// the networks of the daemon's machine.
	Reserved(ctx context.Context) ([]Reservation, error)
	// Log takes what is refused (Debug) and what goes wrong (Warn).
	Log(r Record)
}

// Image is an image that the daemon has, as the rules of access see it.
type Image struct {
	// Name is what it is asked for by; empty for its id.
	Name string
	// Tags and Digests are its names ("repository:tag", "repository@digest"), as the daemon has
	// them.
	Tags, Digests []string
}

// Reservation is something that a stage, or the runner, must be able to reach.
type Reservation = policy.Reservation

// Limits bound every container that a client makes.
type Limits = policy.Limits

// Record is a line of log.
type Record struct {
	Level   Level
	Message string // short, lower-case, constant
	Error   string
	Fields  map[string]string
}

// Level is that of a Record.
type Level int

// The levels.
const (
	Debug Level = iota
	Warn
)

// noRunner is the runner of a guard without one: the stage may have all images, and nothing is
// noted.
type noRunner struct{}

func (noRunner) MayHave(context.Context, Image, []registry.AuthConfig) (bool, error) {
	return true, nil
}

func (noRunner) KnownToHave(_ context.Context, images []Image, _ []registry.AuthConfig) ([]bool, error) {
	out := make([]bool, len(images))
	for i := range out {
		out[i] = true
	}
	return out, nil
}

func (noRunner) Pulled(context.Context, Image, registry.AuthConfig) {}
func (noRunner) AboutToUse(context.Context, string)                 {}
func (noRunner) BuilderBusy(context.Context, bool)                  {}
func (noRunner) Reserved(context.Context) ([]Reservation, error)    { return nil, nil }
func (noRunner) Log(Record)                                         {}

// log is where the guard's packages log to: the runner.
type log struct{ to Runner }

// debug logs what only matters to somebody who looks for a fault.
func (l log) debug(message string, err error, fields ...string) {
	l.record(Debug, message, err, fields)
}

// warn logs what goes wrong.
func (l log) warn(message string, err error, fields ...string) { l.record(Warn, message, err, fields) }

// record logs; fields are names and values in turn.
func (l log) record(level Level, message string, err error, fields []string) {
	r := Record{Level: level, Message: message, Fields: map[string]string{}}
	if err != nil {
		r.Error = err.Error()
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Fields[fields[i]] = fields[i+1]
	}
	l.to.Log(r)
}

// standard returns a logger for what a standard server complains about: a client that resets, a bad
// request line.
func (l log) standard() *stdlog.Logger {
	return stdlog.New(lineWriter(func(line string) { l.debug("a connection is bad", errors.New(line)) }), "", 0)
}

// lineWriter hands over each line.
type lineWriter func(string)

// Write hands over a line.
func (f lineWriter) Write(p []byte) (int, error) {
	f(strings.TrimSpace(string(p)))
	return len(p), nil
}

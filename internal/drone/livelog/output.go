package livelog

import (
	"io"
	"strings"
	"sync"

	"github.com/drone/drone-go/drone"
)

// Sink takes the lines of one step's log, in order. Its methods are called by one goroutine at a
// time.
type Sink interface {
	// Line takes a line: masked, with its line end, at most MaxLine bytes long. Only the last line
	// has no end, and the pieces that a longer line becomes. It may hold bytes that aren't UTF-8.
	// The text is valid during the call alone.
	Line(text []byte)
	// Flush says that no other line is at hand.
	Flush()
	// Close ends the log. It doesn't wait for a server.
	io.Closer
}

// Output is the writer of what one step prints: it takes the card out, masks the secrets, puts the
// lines together and passes them to a sink.
//
// Write never fails, so that no trouble with a log can stop a step. Its methods may be called
// concurrently, and after Close, when they do nothing. A nil Output drops what it is given.
type Output struct {
	mu     sync.Mutex
	cards  *cards
	masker *masker
	lines  splitter
	tail   tail
	sink   Sink
	// fresh is true at the start of a line.
	fresh  bool
	closed bool
}

var _ io.Writer = (*Output)(nil)

// NewOutput returns the way into a sink, which may be nil. The caller closes it.
func NewOutput(sink Sink, mask *Mask) *Output {
	o := &Output{sink: sink, lines: splitter{max: MaxLine}, fresh: true}
	o.masker = newMasker(masked{o}, mask)
	o.cards = newCards(o.masker)
	return o
}

// Write takes what the step prints.
func (o *Output) Write(p []byte) (int, error) {
	if o == nil {
		return len(p), nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write(p)
	o.flush()
	return len(p), nil
}

// Note adds lines of the runner's own, each on a line of its own wherever the step's text has
// stopped.
func (o *Output) Note(lines ...string) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range lines {
		if !o.fresh {
			o.write([]byte("\n"))
		}
		o.write([]byte(strings.TrimRight(line, "\r\n") + "\n"))
	}
	o.flush()
}

// Tail returns the last lines without their ends, a line that has no end yet included. There are
// ten of them at most, each cut to 512 bytes.
func (o *Output) Tail() []string {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tail.last(o.lines.held)
}

// Close passes on what was held back, closes the sink and returns the step's card, or nil. A second
// call does nothing.
func (o *Output) Close() (*drone.CardInput, error) {
	if o == nil {
		return nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil
	}
	o.closed = true
	// The cards fail as the masker does, and the masker as masked does: never.
	_ = o.cards.Close()
	_ = o.masker.Close()
	o.lines.close(o.line)
	o.flush()
	card, _ := o.cards.Card()
	if o.sink == nil {
		return card, nil
	}
	return card, o.sink.Close()
}

// write passes text on. The caller holds the lock.
func (o *Output) write(p []byte) {
	if len(p) == 0 || o.closed {
		return
	}
	o.fresh = p[len(p)-1] == '\n'
	_, _ = o.cards.Write(p) // see Close
}

// line passes a line on. The caller holds the lock.
func (o *Output) line(text []byte) {
	o.tail.add(text)
	if o.sink != nil {
		o.sink.Line(text)
	}
}

// flush says that all lines so far have been passed on. The caller holds the lock.
func (o *Output) flush() {
	if o.sink != nil {
		o.sink.Flush()
	}
}

// masked is the writer behind the masker.
type masked struct{ o *Output }

// Write puts the lines together.
func (m masked) Write(p []byte) (int, error) {
	m.o.lines.write(p, m.o.line)
	return len(p), nil
}

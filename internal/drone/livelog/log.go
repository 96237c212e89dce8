package livelog

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"
)

// Options of a Log.
type Options struct {
	// Dir is the folder in which the log makes its spool, a folder of its own; the default is the system's for temporary files. It needs one and a half times
	// the limit, in JSON, of space for each log.
	Dir string
	// Limit is how many bytes of output are kept; 0 is DefaultLimit, and less than 0 keeps all. Past it the head and the tail are kept, half and half in whole
	// lines, and a line between them says how much is missing and why.
	Limit int64
	// Started is when the step started: a line's time is the seconds since then. The default is now.
	Started time.Time
	// Send delivers lines while the step runs. Nil: the log isn't sent live. It is called by one goroutine at a time, with lines in order, obeys its context, and doesn't keep the lines.
	// A batch that fails is sent again, so the same line may come twice.
	Send func(ctx context.Context, lines []*drone.Line) error
	// Interval is the least time between two batches; the default is DefaultInterval. The first lines go at once, and so does what a full batch leaves behind.
	Interval time.Duration
	// LastTry is how long Close waits for the last lines to be sent; the default is DefaultLastTry.
	LastTry time.Duration
}

// Defaults of Options.
const (
	DefaultInterval = time.Second
	DefaultLastTry  = 5 * time.Second
)

// Log is the log of one step: a writer that cuts the step's output, masked already, into lines, spools them on disk, and sends them live. Its life:
//
//  1. Write, any number of times. It never waits for the server, nor fails because of it, of the limit, or of a full disk: lines that the disk doesn't take are
//     counted in a line of the log.
//  2. Close, which adds the last line, if it has no end, and gives the live lines a last try. What comes after it fails with os.ErrClosed.
//  3. Open, any number of times: the whole log, as the server takes it.
//  4. Remove, which has to be called in any case: it removes the spool.
//
// A live batch is read back from the spool, so a slow server costs no memory. As long as the output is within the limit every line is sent in order; beyond it
// a batch at each interval has the newest lines, and says how many were passed over, since the server would keep none of them.
//
// A line has at most 256 KiB, or a quarter of the limit if that is less; a longer one becomes several.
//
// All methods may be called concurrently. The log's goroutine, which is there if Send is, ends with Close or Remove.
type Log struct {
	started time.Time

	mu     sync.Mutex
	lines  splitter
	spool  *spool
	next   int
	closed bool
	result error // of Close
	gone   bool

	sender *sender
}

// New makes a log and its spool. The caller calls Close and Remove.
func New(o Options) (*Log, error) {
	switch {
	case o.Limit == 0:
		o.Limit = DefaultLimit
	case o.Limit < 0:
		o.Limit = 0
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.LastTry <= 0 {
		o.LastTry = DefaultLastTry
	}
	s, err := newSpool(o.Dir, limit(o.Limit))
	if err != nil {
		return nil, err
	}
	l := &Log{started: o.Started, spool: s, lines: splitter{max: s.limit.line()}}
	if o.Send != nil {
		l.sender = newSender(o, l.view)
	}
	return l, nil
}

// Write adds output to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, fmt.Errorf("write to the log of a step: %w", os.ErrClosed)
	}
	l.lines.write(p, l.emit)
	l.flush()
	return len(p), nil
}

// emit spools a line. The caller holds the lock.
func (l *Log) emit(text []byte) {
	elapsed := max(time.Since(l.started), 0)
	l.spool.add(&drone.Line{Number: l.next, Message: string(text), Timestamp: int64(elapsed / time.Second)})
	l.next++
}

// flush brings what was spooled to disk, and the sender to work. The caller holds the lock.
func (l *Log) flush() {
	l.spool.flush()
	if l.sender != nil {
		l.sender.wake()
	}
}

// Close ends the log. It waits, at most for LastTry, until the live lines are sent. Its error says that the disk hasn't taken every line; the log can be opened all
// the same. A second call waits for the first.
func (l *Log) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.lines.close(l.emit)
		l.flush()
		l.result = l.spool.close()
	}
	err := l.result
	l.mu.Unlock()
	if l.sender != nil {
		l.sender.close()
	}
	return err
}

// Lines is how many lines the output has so far, those that the limit leaves out included. A line counts when it has ended.
func (l *Log) Lines() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Path is the folder of the spool.
func (l *Log) Path() string { return l.spool.dir }

// Open is the whole log as a JSON array of lines, read from disk as it goes. It can be opened as often as is needed, once the log is closed and until it is removed; the caller
// closes each.
func (l *Log) Open() (io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		return nil, fmt.Errorf("read the log of a step: it isn't closed, and so not complete")
	}
	if l.gone {
		return nil, fmt.Errorf("read the log of a step: it was removed: %w", os.ErrClosed)
	}
	parts, err := l.spool.parts()
	if err != nil {
		return nil, err
	}
	return openArray(parts)
}

// Remove ends the log, if Close hasn't, without waiting for live lines, and removes the spool. A log that is open can be read to its end. A second call does nothing.
func (l *Log) Remove() error {
	if l.sender != nil {
		l.sender.abort()
	}
	_ = l.Close() // What was lost doesn't matter any more.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	if err := os.RemoveAll(l.spool.dir); err != nil {
		return fmt.Errorf("remove the spool of a log: %w", err)
	}
	return nil
}

// tailSize is how far back Tail looks, in bytes of the spool.
const tailSize = 64 << 10

// Tail is the last lines of the output, n at most, without their ends: for a message that quotes them. It may be called at any time before Remove; a
// line without an end is there after Close. Lines further back than 64 KiB are left out, and so is what can't be read.
func (l *Log) Tail(n int) []string {
	var lines []*drone.Line
	room := int64(tailSize)
	segments := l.view().segments
	for i := len(segments) - 1; i >= 0 && len(lines) < n && room > 0; i-- {
		seg := segments[i]
		block, _, err := readBlock(seg, 0, max(seg.size-room, 0), seg.size)
		if err != nil {
			break
		}
		older, err := decode(block)
		if err != nil {
			break
		}
		lines = append(older, lines...)
		room -= seg.size
	}
	out := []string{}
	for _, line := range lines[max(len(lines)-max(n, 0), 0):] {
		out = append(out, strings.TrimRight(line.Message, "\r\n"))
	}
	return out
}

// view is the spool as it is now, for a reader.
func (l *Log) view() view {
	l.mu.Lock()
	defer l.mu.Unlock()
	return view{
		segments: append([]segment(nil), l.spool.segments...),
		exceeded: l.spool.limit.exceeded(l.spool.text),
	}
}

package livelog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"
)

// Options of a Log.
type Options struct {
	// Dir is the folder in which the log makes its spool, a folder of its own; the default is the
	// system's for temporary files. It needs one and a half times the limit of space for each log.
	Dir string
	// Limit is how many bytes of a log are kept, as they are sent; 0 is DefaultLimit, and less than
	// 0 keeps all. Past it the head and the tail are kept, half and half in whole lines, and a line
	// between them says how much is missing and why.
	Limit int64
	// Started is when the step started: a line's time is the seconds since then. The default is
	// now.
	Started time.Time
	// Send delivers lines while the step runs. Nil: the log isn't sent live. It is called by one
	// goroutine at a time, with lines in order, obeys its context, and doesn't keep the lines. A
	// batch that fails is sent again, so the same line may come twice.
	Send func(ctx context.Context, lines []*drone.Line) error
	// Interval is the least time between two batches; the default is DefaultInterval. The first
	// lines go at once, and so does what a full batch leaves behind. A server that takes long for a
	// batch gets them further apart.
	Interval time.Duration
	// LastTry is how long Wait waits for the last lines to be sent; the default is DefaultLastTry.
	LastTry time.Duration
}

// Defaults of Options.
const (
	DefaultInterval = 250 * time.Millisecond
	DefaultLastTry  = 5 * time.Second
)

// Log is the log of one step: it numbers the lines that an Output puts together, spools them on
// disk, and sends them live. It is used in this order:
//
//  1. Line and Flush, any number of times. They never wait for the server, nor fail because of it,
//     of the limit, or of a full disk: lines that the disk doesn't take are counted in a line of
//     the log.
//  2. Close. Lines that come after it are dropped. Its error says that the disk hasn't taken every
//     line.
//  3. Wait, which gives the live lines a last try.
//  4. Open, any number of times: the whole log, as the server takes it. Shortened is a part of it.
//  5. Remove, which has to be called in any case: it removes the spool.
//
// A live batch is read back from the spool, so a slow server costs no memory. As long as the log is
// within the limit every line is sent in order; beyond it a batch at each interval has the newest
// lines, and says how many were passed over, since the server would keep none of them.
//
// A line has at most MaxLine bytes, or a part of the limit if that is less; a longer one becomes
// several.
//
// All methods may be called concurrently. The log's goroutine, which is there if Send is, ends with
// Wait or Remove.
type Log struct {
	started time.Time

	mu     sync.Mutex
	spool  *spool
	next   int
	closed bool
	result error // of Close
	gone   bool

	sender *sender
}

var _ Sink = (*Log)(nil)

// New makes a log and its spool. The caller calls Close, Wait and Remove.
func New(o Options) (*Log, error) {
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.LastTry <= 0 {
		o.LastTry = DefaultLastTry
	}
	s, err := newSpool(o.Dir, limitOf(o.Limit))
	if err != nil {
		return nil, err
	}
	l := &Log{started: o.Started, spool: s}
	if o.Send != nil {
		l.sender = newSender(o, l.view)
	}
	return l, nil
}

// limitOf is the limit that an option means.
func limitOf(option int64) limit {
	if option == 0 {
		return DefaultLimit
	}
	return limit(max(option, 0))
}

// Line adds a line.
func (l *Log) Line(text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(text) == 0 {
		return
	}
	for longest := l.spool.limit.line(); len(text) > longest; {
		cut := characters(text[:longest])
		l.add(text[:cut])
		text = text[cut:]
	}
	l.add(text)
}

// add spools a line. The caller holds the lock.
func (l *Log) add(text []byte) {
	elapsed := max(time.Since(l.started), 0)
	l.spool.add(&drone.Line{Number: l.next, Message: string(valid(text)), Timestamp: int64(elapsed / time.Second)})
	l.next++
}

// Flush brings the lines so far to disk, and the sender to work.
func (l *Log) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

// flush is Flush for one who holds the lock.
func (l *Log) flush() {
	l.spool.flush()
	if l.sender != nil {
		l.sender.wake()
	}
}

// Close ends the log. A second call has the first one's result.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.flush()
		l.result = l.spool.close()
		if l.sender != nil {
			l.sender.end()
		}
	}
	return l.result
}

// Wait closes the log and waits, at most for LastTry, until the live lines are sent. It returns the
// result of Close.
func (l *Log) Wait() error {
	err := l.Close()
	if l.sender != nil {
		l.sender.wait()
	}
	return err
}

// Lines returns how many lines the log has so far, those that the limit leaves out included.
func (l *Log) Lines() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Path is the folder of the spool.
func (l *Log) Path() string { return l.spool.dir }

// Size returns how many bytes the log takes to be sent, at most.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size := l.spool.size + noticeRoom; l.spool.limit == 0 || size < int64(l.spool.limit) {
		return size
	}
	return int64(l.spool.limit)
}

// Open returns the whole log as a JSON array of lines, read from disk as it goes. It can be opened
// as often as is needed, once the log is closed and until it is removed; the caller closes each.
func (l *Log) Open() (io.ReadCloser, error) {
	return l.open(l.spool.limit, overLimit(l.spool.limit))
}

// Shortened returns an Open for a log that has to be shorter: of at most so many bytes as it is
// sent. A line between its head and its tail says how much is left out, and why.
func (l *Log) Shortened(size int64, why string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return l.openWithin(size, why) }
}

func (l *Log) openWithin(size int64, why string) (io.ReadCloser, error) {
	if own := l.spool.limit; own != 0 && size >= int64(own) {
		return l.Open()
	}
	return l.open(limit(max(size, 1)), why)
}

func (l *Log) open(within limit, why string) (io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		return nil, errors.New("read the log of a step: it isn't closed, and so not complete")
	}
	if l.gone {
		return nil, fmt.Errorf("read the log of a step: it was removed: %w", os.ErrClosed)
	}
	parts, err := l.spool.parts(within, why)
	if err != nil {
		return nil, err
	}
	return openArray(parts)
}

// Remove ends the log, without waiting for live lines, and removes the spool. A log that is open
// can be read to its end. A second call does nothing.
func (l *Log) Remove() error {
	if l.sender != nil {
		l.sender.abort()
	}
	_ = l.Wait() // What was lost no longer matters.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	if err := os.RemoveAll(l.spool.dir); err != nil {
		return fmt.Errorf("remove the spool of a log: %w", err)
	}
	return nil
}

// view is the spool as it is now, for a reader.
func (l *Log) view() view {
	l.mu.Lock()
	defer l.mu.Unlock()
	return view{
		segments: append([]segment(nil), l.spool.segments...),
		exceeded: l.spool.limit.exceeded(l.spool.size),
	}
}

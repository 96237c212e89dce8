package livelog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/drone/drone-go/drone"
)

// What one live batch has at most. The server keeps some thousands of lines of a running step for
// those who come later, and each viewer a queue as long.
const (
	batchLines = 2000
	batchBytes = 256 << 10 // of the spool; a longer line goes alone
)

const (
	// slowest is how many intervals apart tries are when the server doesn't take lines.
	slowest = 64
	// busy is how many times as long as the server took for a batch it is left alone, so that many
	// steps that print at once don't keep it busy with live lines.
	busy = 4
)

var (
	errLastTry = errors.New("the log of the step has ended, and its live lines couldn't be sent in time")
	errRemoved = errors.New("the log of the step was given up")
)

type (
	// sender sends the lines of a spool live. It has one goroutine, from newSender until wait
	// returns.
	sender struct {
		send     func(context.Context, []*drone.Line) error
		view     func() view
		interval time.Duration
		lastTry  time.Duration

		// ctx is Send's, and cancel ends it.
		ctx    context.Context //nolint:containedctx // the sender's goroutine lives as long as it
		cancel context.CancelCauseFunc
		// written has a token when there may be something to send; closing is closed when nothing
		// follows; done when the goroutine has ended.
		written chan struct{}
		closing chan struct{}
		done    chan struct{}
		closed  sync.Once

		// at is what was sent, for the goroutine alone; next the pos after the last line of it.
		at   cursor
		next int
	}

	// view is what of a spool can be read.
	view struct {
		segments []segment
		exceeded bool // by the output so far, the limit
	}

	// cursor is a place in the spool.
	cursor struct {
		segment int // its number
		at      int64
	}
)

// newSender starts a sender. It has to be ended and waited for.
func newSender(o Options, v func() view) *sender {
	s := &sender{
		send:     o.Send,
		view:     v,
		interval: o.Interval,
		lastTry:  o.LastTry,
		written:  make(chan struct{}, 1),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	go s.run()
	return s
}

// wake says that something was written.
func (s *sender) wake() {
	select {
	case s.written <- struct{}{}:
	default:
	}
}

// end says that nothing follows.
func (s *sender) end() { s.closed.Do(func() { close(s.closing) }) }

// wait waits, after end, until everything is sent, or can't be.
func (s *sender) wait() {
	last := time.AfterFunc(s.lastTry, func() { s.cancel(errLastTry) })
	defer last.Stop()
	<-s.done
}

// abort gives up what isn't sent.
func (s *sender) abort() { s.cancel(errRemoved) }

// run sends until everything is sent and nothing follows. After an error it tries again, at longer
// and longer intervals, but once only when nothing follows.
func (s *sender) run() {
	defer close(s.done)
	defer s.cancel(nil)
	pause := s.interval
	for {
		closing := isClosed(s.closing) // Before the spool is looked at, so that what was written before it is seen.
		began := time.Now()
		sent, more, err := s.batch()
		switch {
		case s.ctx.Err() != nil || closing && (err != nil || !more):
			return
		case err != nil:
			pause = min(2*pause, slowest*s.interval)
		case sent:
			pause = min(max(s.interval, busy*time.Since(began)), slowest*s.interval)
		default:
			select {
			case <-s.written:
			case <-s.closing:
			case <-s.ctx.Done():
			}
			continue
		}
		if more {
			continue
		}
		select {
		case <-time.After(pause):
		case <-s.closing:
		case <-s.ctx.Done():
		}
	}
}

// isClosed reports whether c is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// batch sends what is next, and reports whether there was anything, and whether there is more that
// should go at once.
func (s *sender) batch() (sent, more bool, err error) {
	const tries = 3 // The limit may remove a segment before it's read; then there are newer ones.
	var lines []*drone.Line
	var after cursor
	for range tries {
		lines, after, more, err = s.read(s.view())
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil || len(lines) == 0 {
		return false, false, err
	}
	next := lines[len(lines)-1].Number + 1
	if err := s.send(s.ctx, lines); err != nil {
		return false, false, err
	}
	s.at, s.next = after, next
	return true, more, nil
}

// read is the next batch, the cursor after it, and whether there is more that should go at once.
func (s *sender) read(v view) (lines []*drone.Line, after cursor, more bool, err error) {
	if v.exceeded {
		return s.newest(v)
	}
	for i, seg := range v.segments {
		if !s.at.before(seg) {
			continue
		}
		from := int64(0)
		if seg.number == s.at.segment {
			from = s.at.at
		}
		block, from, err := readBlock(seg, from, from, min(from+batchBytes, seg.size))
		if err != nil {
			return nil, s.at, false, err
		}
		block = block[:first(block, batchLines)]
		lines, err = decode(block)
		after = cursor{seg.number, from + int64(len(block))}
		more = after.at < seg.size || i+1 < len(v.segments) && v.segments[i+1].size > 0
		return lines, after, more, err
	}
	return nil, s.at, false, nil
}

// newest is as read, beyond the limit: the last lines that there are, after one that tells how many
// were passed over.
func (s *sender) newest(v view) (lines []*drone.Line, after cursor, more bool, err error) {
	i := len(v.segments) - 1
	for i > 0 && v.segments[i].size == 0 {
		i--
	}
	if i > 0 && v.segments[i].size < batchBytes && s.at.before(v.segments[i-1]) {
		i, more = i-1, true // The last segment has only begun; it comes next.
	}
	seg := v.segments[i]
	if !s.at.before(seg) {
		return nil, s.at, false, nil
	}
	from := int64(0)
	if seg.number == s.at.segment {
		from = s.at.at
	}
	start := max(from, seg.size-batchBytes)
	block, _, err := readBlock(seg, from, start, seg.size)
	if err != nil {
		return nil, s.at, false, err
	}
	at := last(block, batchLines)
	lines, err = decode(block[at:])
	// Lines that the disk didn't take leave a gap as well, but tell of it themselves.
	passed := seg.number != s.at.segment || start > from || at > 0
	if passed && len(lines) > 0 && lines[0].Number > s.next {
		lines = append([]*drone.Line{{
			Number:    s.next,
			Message:   fmt.Sprintf("[%d lines not shown live: the log is longer than its limit]\n", lines[0].Number-s.next),
			Timestamp: lines[0].Timestamp,
		}}, lines...)
	}
	return lines, cursor{seg.number, seg.size}, more, err
}

// before reports whether something of the segment comes after the cursor.
func (c cursor) before(seg segment) bool {
	return seg.number > c.segment && seg.size > 0 || seg.number == c.segment && seg.size > c.at
}

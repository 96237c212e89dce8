package livelog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/docker/go-units"
	"github.com/drone/drone-go/drone"
)

// DefaultLimit is how many bytes of a log are kept, as they are sent: 10 MiB. Drone's own runner
// keeps 5 MiB of text, which take about as much in lines of usual length.
const DefaultLimit = 10 << 20

// limit is how many bytes of a log are kept, as they are sent; 0 keeps all. The text alone wouldn't
// do: a short line is sent as many times its length.
//
// How the head and the tail of a log are kept, without knowing where it ends and without keeping
// more than about one and a half times the limit on disk:
//
//  1. The first segment takes the head, lines of up to half the limit, and stays.
//  2. Each further segment takes half the limit, and a part of a line more, so that the last two of
//     them always hold the tail. Older ones are removed.
//  3. If in the end the whole log is within the limit, nothing was removed, and the log is all
//     segments.
//  4. Otherwise it is the head, one line that says what is missing, and the tail.
//
// Lines keep their pos, so the gap in them is as wide as what is missing.
type limit int64

const (
	// keptSegments are the head, and the two that hold the tail.
	keptSegments = 3
	// noticeRoom is left for the line that says what is missing, or an eighth of a limit that is
	// too small for any log.
	noticeRoom = 512
)

// head is how many bytes the head may have, tail how many the tail.
func (l limit) head() int64 { return int64(l) / 2 }
func (l limit) tail() int64 { return int64(l) - l.head() - min(noticeRoom, int64(l)/8) }

// full reports whether a segment of that size doesn't take a line of n bytes more.
func (l limit) full(number int, size, n int64) bool {
	switch {
	case l == 0:
		return false
	case number == 0:
		return size+n > l.head()
	default:
		return size >= l.tail()
	}
}

// exceeded reports whether lines of that size are more than is kept. A list of lines is sent with
// one byte more than its lines.
func (l limit) exceeded(size int64) bool { return l != 0 && size+1 > int64(l) }

// line is how long a line may be, so that there are lines to keep: at most a quarter of the limit
// when it is sent with six bytes for each of its own.
func (l limit) line() int {
	const least = 256 // For limits that are too small for any log.
	if l == 0 {
		return MaxLine
	}
	return int(min(MaxLine, max(int64(l)/24, least)))
}

// part is a piece of the log: a range of a segment's file, in whole lines, or a line of our own.
type part struct {
	path     string
	from, to int64
	notice   *drone.Line
}

// parts returns the log in order, none of the parts empty: all of it, or its head and its tail,
// with a line between them that says why the rest is left out. The spool must be closed.
func (s *spool) parts(within limit, why string) ([]part, error) {
	var parts []part
	var err error
	if within.exceeded(s.size) {
		parts, err = s.shortened(within, why)
	} else {
		for _, seg := range s.segments {
			parts = appendPart(parts, seg, 0, seg.size)
		}
	}
	if s.lost.lines > 0 {
		parts = append(parts, part{notice: s.lost.line()})
	}
	return parts, err
}

// shortened returns the head and the tail of the log.
func (s *spool) shortened(within limit, why string) ([]part, error) {
	parts, end, err := s.head(within.head())
	if err != nil {
		return nil, err
	}
	tail, err := s.tail(end, within.tail())
	if err != nil {
		return nil, err
	}
	before, err := measure(parts)
	if err != nil {
		return nil, err
	}
	after, err := measure(tail)
	if err != nil {
		return nil, err
	}
	if after.lines == 0 {
		after.first.Number = s.next
		after.first.Timestamp = before.last.Timestamp
	}
	missing := s.text - before.text - after.text
	if s.unknown {
		missing = -1
	}
	next := 0
	if before.lines > 0 {
		next = before.last.Number + 1
	}
	notice := &drone.Line{
		Number:    next,
		Message:   fmt.Sprintf("[%s left out here: %s]\n", amount(after.first.Number-next, missing), why),
		Timestamp: after.first.Timestamp,
	}
	return append(append(parts, part{notice: notice}), tail...), nil
}

// overLimit is why lines are left out that are beyond the operator's limit.
func overLimit(l limit) string {
	return fmt.Sprintf("the log takes more than %s to send, the limit that DRONE_RUNNER_LOG_LIMIT sets", units.BytesSize(float64(l)))
}

// head returns the first lines, of up to room bytes, and where they end.
func (s *spool) head(room int64) (parts []part, end cursor, err error) {
	for i, seg := range s.segments {
		if i > 0 && s.segments[i-1].number+1 != seg.number {
			return parts, end, nil // What comes between was removed.
		}
		to := seg.size
		if to > room {
			if to, err = endBefore(seg, room); err != nil {
				return nil, end, err
			}
		}
		parts = appendPart(parts, seg, 0, to)
		end = cursor{seg.number, to}
		if room -= to; to < seg.size {
			break
		}
	}
	return parts, end, nil
}

// tail returns the last lines, of up to room bytes, that come after a place.
func (s *spool) tail(after cursor, room int64) (parts []part, err error) {
	for i := len(s.segments) - 1; i >= 0 && s.segments[i].number >= after.segment; i-- {
		seg, from := s.segments[i], int64(0)
		if seg.number == after.segment {
			from = after.at
		}
		begin := from
		if seg.size-from > room {
			if begin, err = startAfter(seg, seg.size-room); err != nil {
				return nil, err
			}
		}
		parts = append(appendPart(nil, seg, begin, seg.size), parts...)
		if room -= seg.size - begin; begin > from {
			break
		}
	}
	return parts, nil
}

// appendPart adds a range of a segment, unless it is empty.
func appendPart(parts []part, seg segment, from, to int64) []part {
	if from < to {
		parts = append(parts, part{path: seg.path, from: from, to: to})
	}
	return parts
}

// startAfter returns where the first line begins that begins at or after a place in a segment.
func startAfter(seg segment, at int64) (int64, error) {
	if at <= 0 || at >= seg.size {
		return min(max(at, 0), seg.size), nil
	}
	f, err := os.Open(seg.path)
	if err != nil {
		return 0, fmt.Errorf("read the spool of a log: %w", err)
	}
	defer f.Close()
	at-- // A line begins at the place if the byte before it is the end of one.
	for buffer := make([]byte, 64<<10); at < seg.size; {
		n, err := f.ReadAt(buffer[:min(int64(len(buffer)), seg.size-at)], at)
		if i := bytes.IndexByte(buffer[:n], '\n'); i >= 0 {
			return at + int64(i) + 1, nil
		}
		if err != nil && !errors.Is(err, io.EOF) || n == 0 {
			return 0, fmt.Errorf("read the spool of a log: %w", err)
		}
		at += int64(n)
	}
	return seg.size, nil
}

// endBefore returns where the last line ends that ends at or before a place in a segment; 0 if
// there is none.
func endBefore(seg segment, at int64) (int64, error) {
	f, err := os.Open(seg.path)
	if err != nil {
		return 0, fmt.Errorf("read the spool of a log: %w", err)
	}
	defer f.Close()
	for buffer := make([]byte, 64<<10); at > 0; {
		from := max(at-int64(len(buffer)), 0)
		block := buffer[:at-from]
		if _, err := f.ReadAt(block, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read the spool of a log: %w", err)
		}
		if i := bytes.LastIndexByte(block, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		at = from
	}
	return 0, nil
}

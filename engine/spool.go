package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// spoolMemory is what a spool holds in memory before it takes a file.
const spoolMemory = 1 << 20

// spool is a pipe whose writer never waits for its reader. It stands between the daemon and a
// step's log because the daemon doesn't wait long either: when a container ends while the stream is
// jammed, the daemon drops after two seconds what it hasn't got rid of. What the reader hasn't
// taken is held in memory up to 1 MB, and beyond that in a file without a name.
//
// One goroutine writes, one reads.
type spool struct {
	mu     sync.Mutex
	more   sync.Cond
	memory []byte   // the oldest bytes
	file   *os.File // the bytes after them, from read to written
	read   int64
	wrote  int64
	ended  bool
	broken bool // the reader has given up; what is written is thrown away
}

func newSpool() *spool {
	s := &spool{}
	s.more.L = &s.mu
	return s
}

// Write takes all of p. It fails when there is no room on the disk.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.more.Signal()
	if s.broken {
		return len(p), nil
	}
	if s.wrote == s.read && len(s.memory)+len(p) <= spoolMemory {
		s.memory = append(s.memory, p...)
		return len(p), nil
	}
	if s.file == nil {
		file, err := unnamedFile()
		if err != nil {
			return 0, fmt.Errorf("hold output that its log is too slow for: %w", err)
		}
		s.file = file
	}
	n, err := s.file.WriteAt(p, s.wrote)
	s.wrote += int64(n)
	if err != nil {
		return n, fmt.Errorf("hold output that its log is too slow for: %w", err)
	}
	return n, nil
}

// end says that nothing more will be written.
func (s *spool) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.more.Signal()
}

// errSpent says that a spool has ended and is empty. It isn't io.EOF, which a file that was cut
// short gives.
var errSpent = errors.New("the spool has ended")

// copyTo writes everything to w, and returns when the spool has ended and is empty, or when w
// fails: what is written from then on is thrown away, for whoever writes must not jam.
func (s *spool) copyTo(w io.Writer) error {
	defer s.close()
	buffer := make([]byte, 0, 32<<10)
	for {
		chunk, err := s.next(buffer)
		if errors.Is(err, errSpent) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(chunk); err != nil {
			return fmt.Errorf("write the output to its log: %w", err)
		}
		buffer = chunk[:0]
	}
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
	if s.file != nil {
		_ = s.file.Close() // it has no name: nothing is left of it
	}
}

// next waits for bytes and takes them: all that are in memory, or a part of the file. It may return
// buffer's memory, and keep it.
func (s *spool) next(buffer []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.memory) == 0 && s.read == s.wrote && !s.ended {
		s.more.Wait()
	}
	switch {
	case len(s.memory) > 0:
		out := s.memory
		s.memory = buffer[:0]
		return out, nil
	case s.read < s.wrote:
		out := buffer[:cap(buffer)]
		if rest := s.wrote - s.read; int64(len(out)) > rest {
			out = out[:rest]
		}
		n, err := s.file.ReadAt(out, s.read)
		if n == 0 {
			return nil, fmt.Errorf("read back output that its log was too slow for: %w", err)
		}
		if s.read += int64(n); s.read == s.wrote {
			s.read, s.wrote = 0, 0
			if err := s.file.Truncate(0); err != nil {
				return nil, fmt.Errorf("empty the file of output that its log was too slow for: %w", err)
			}
		}
		return out[:n], nil
	}
	return nil, errSpent
}

// unnamedFile is a temporary file that goes when it is closed, however the process ends.
func unnamedFile() (*os.File, error) {
	file, err := os.CreateTemp("", "drone-runner-sysbox-output-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

package rpc

import (
	"errors"
	"io"
	"os"
	"sync"
)

// expectAbove is the size from which a body asks for leave first: the default limit of nginx.
const expectAbove = 1 << 20

// stream is the body of one attempt. It tells of progress, keeps the source's own errors apart from
// the network's, and announces when the transport, which may outlive the attempt, has let go of the
// source.
type stream struct {
	source io.ReadCloser
	moved  func()
	closed chan struct{}

	once sync.Once
	mu   sync.Mutex
	err  error
}

func newStream(source io.ReadCloser, moved func()) *stream {
	return &stream{source: source, moved: moved, closed: make(chan struct{})}
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.source.Read(p)
	if n > 0 {
		s.moved()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}
	return n, err
}

func (s *stream) Close() (err error) {
	s.once.Do(func() {
		err = s.source.Close()
		close(s.closed)
	})
	return err
}

// failure is the error of the source, as against one of the network. Call it after closed.
func (s *stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// length is the size in bytes where the source tells it (a buffer, a file), else -1: the body is
// then sent in chunks.
func (s *stream) length() int64 {
	switch r := s.source.(type) {
	case interface{ Len() int }:
		return int64(r.Len())
	case *os.File:
		info, err := r.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return -1
		}
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return -1
		}
		return info.Size() - at
	}
	return -1
}

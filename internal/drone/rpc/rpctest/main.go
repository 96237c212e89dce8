package rpctest

import (
	"fmt"
	"io"
	"sync"
)

// Main is a TB for programs, a demo for one, that are no tests:
//
//	m := &rpctest.Main{Out: os.Stderr}
//	defer m.Close()
//	server := rpctest.NewServer(m, rpctest.WithAddress("127.0.0.1:8080"))
type Main struct {
	// Out gets what would fail a test.
	Out io.Writer

	mu       sync.Mutex
	cleanups []func()
	failed   bool
}

// Helper does nothing.
func (m *Main) Helper() {}

// Errorf writes a line to Out and remembers that something failed.
func (m *Main) Errorf(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = true
	fmt.Fprintf(m.Out, format+"\n", args...)
}

// Cleanup registers what Close does, last first.
func (m *Main) Cleanup(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cleanups = append(m.cleanups, f)
}

// Close does the cleanups and reports whether all went well.
func (m *Main) Close() bool {
	m.mu.Lock()
	cleanups := m.cleanups
	m.cleanups = nil
	m.mu.Unlock()
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.failed
}

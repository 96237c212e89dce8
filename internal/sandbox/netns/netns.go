// Package netns does things in another network namespace: a cell's, where the networks of its
// stages are. What is opened there, a listener for one, belongs to that namespace, whoever uses it.
//
// The one rule to keep: a thread that can't come back is never used again.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls f in the network namespace at a path such as /proc/PID/ns/net; empty is this process's
// own. f starts no goroutine: namespaces are a thread's.
func Do(path string, f func() error) error {
	if path == "" {
		return f()
	}
	there, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	defer there.Close()
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("look at the network namespace: %w", err)
	}
	defer here.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the network namespace %s: %w", path, err)
	}
	err = f()
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, and ends with its goroutine.
		return errors.Join(err, fmt.Errorf("leave the network namespace %s: %w", path, back))
	}
	runtime.UnlockOSThread()
	return err
}

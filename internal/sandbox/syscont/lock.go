package syscont

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockName is the file in the daemon's data folder whose flock means that a live runner uses it. flock (not a pid in a file) because the kernel lets go
// of it however the holder dies, and because it holds between containers that share a volume.
const lockName = "drone-runner-sysbox.lock"

// Lock is the hold on a data folder. Close lets go.
type Lock struct{ f *os.File }

// LockData takes the data folder (made if absent) for this process, or says at once who has it: two daemons on one folder would hang on containerd's own lock and
// end with a broken cache.
func LockData(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o710); err != nil {
		return nil, fmt.Errorf("make the daemon's data folder: %w", err)
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the daemon's data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, fmt.Errorf("%s is in use by another live runner (%s): give each runner a volume of its own for %s, or stop the other one first", dir, holder(f), dir)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	// The name is for the other one's error message; the lock doesn't depend on it.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(host+"\n"), 0)
	return &Lock{f}, nil
}

// Close lets go of the folder.
func (l *Lock) Close() error { return l.f.Close() }

// holder is what the live holder wrote of itself.
func holder(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, 256))
	if name := strings.TrimSpace(string(b)); err == nil && name != "" {
		return "container " + name
	}
	return "of unknown name"
}

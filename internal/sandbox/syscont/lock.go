package syscont

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// LockName is the file in the daemon's data folder whose flock means that a live runner uses it. A
// flock, not a pid in a file: the kernel releases it however the holder dies, and it holds between
// containers that share a volume.
const LockName = "drone-runner-sysbox.lock"

// Lock is the hold on a data folder.
type Lock struct{ flock *flock.Flock }

// LockData takes the data folder (made if absent) for this process, or returns an error at once
// that names the holder: two daemons on one folder would hang on containerd's own lock and end with
// a broken cache.
func LockData(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o710); err != nil {
		return nil, fmt.Errorf("make the daemon's data folder: %w", err)
	}
	path := filepath.Join(dir, LockName)
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the daemon's data folder: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("%s is in use by another live runner (%s): give each runner a volume of its own for %s, "+
			"or stop the other one first", dir, holder(path), dir)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	// The name is for the other one's error message; the lock doesn't depend on it.
	_ = os.WriteFile(path, []byte(host+"\n"), 0o600)
	return &Lock{lock}, nil
}

// Close gives up the folder.
func (l *Lock) Close() error { return l.flock.Close() }

// holder returns what the live holder wrote about itself.
func holder(path string) string {
	b, err := os.ReadFile(path)
	if name := strings.TrimSpace(string(b)); err == nil && name != "" {
		return "container " + name[:min(len(name), 256)]
	}
	return "of unknown name"
}

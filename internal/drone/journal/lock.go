package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// waitForLock is how long Open waits for a process that is about to end.
const waitForLock = 5 * time.Second

// take locks the state folder until the lock is closed, that is, at most for the life of this
// process.
func take(ctx context.Context, state string) (*flock.Flock, error) {
	path := filepath.Join(state, "lock")
	lock := flock.New(path, flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, waitForLock)
	defer cancel()
	_, err := lock.TryLockContext(waiting, 50*time.Millisecond)
	switch {
	case err == nil:
		return lock, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
	case waiting.Err() != nil:
		return nil, fmt.Errorf("another runner uses %s: give each a folder of its own (DRONE_RUNNER_STATE)", state)
	default:
		return nil, fmt.Errorf("lock the folder for what survives a crash (DRONE_RUNNER_STATE): %w", err)
	}
}

// InUse reports whether a runner has the state folder at this moment. A folder that no runner has
// ever had is an error: it is probably the wrong one.
func InUse(state string) (bool, error) {
	lock := flock.New(filepath.Join(state, "lock"), flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryRLock()
	if err != nil {
		return false, fmt.Errorf("see whether a runner uses %s (DRONE_RUNNER_STATE): %w", state, err)
	}
	return !free, lock.Close()
}

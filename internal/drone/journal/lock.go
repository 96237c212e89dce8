package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// waitForLock is how long Open waits for a process that is about to end.
const waitForLock = 5 * time.Second

// take locks the state folder for as long as the file is open, that is, at most for the life of
// this process.
func take(ctx context.Context, state string) (*os.File, error) {
	path := filepath.Join(state, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder for what survives a crash (DRONE_RUNNER_STATE): %w", err)
	}
	deadline := time.Now().Add(waitForLock)
	for {
		err = flock(f, unix.LOCK_EX)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			err = fmt.Errorf("lock %s (DRONE_RUNNER_STATE): %w", path, err)
		case ctx.Err() != nil:
			err = fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		case time.Now().After(deadline):
			err = fmt.Errorf("another runner uses %s: give each a folder of its own (DRONE_RUNNER_STATE)", state)
		default:
			_ = pause.For(ctx, 50*time.Millisecond) // The next turn of the loop looks at the context.
			continue
		}
		return nil, errors.Join(err, f.Close())
	}
}

// InUse reports whether a runner has the state folder at this moment. A folder that none has ever
// had is an error: it is likely the wrong one.
func InUse(state string) (bool, error) {
	f, err := os.Open(filepath.Join(state, "lock"))
	if err != nil {
		return false, fmt.Errorf("see whether a runner uses %s (DRONE_RUNNER_STATE): %w", state, err)
	}
	defer f.Close()
	switch err := flock(f, unix.LOCK_SH); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("see whether a runner uses %s (DRONE_RUNNER_STATE): %w", state, err)
	}
	return false, nil
}

// flock tries to lock the file.
func flock(f *os.File, how int) error {
	return unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
}

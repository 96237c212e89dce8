package local

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// OwnerPrefix begins the names of the owners that calls of exec are.
const OwnerPrefix = "exec on "

// Runs are the stages that run without a server on this machine, of one user. They share a folder,
// which has a file for each run, locked while its process lives: so the next call removes what a
// killed one left in the daemon, and nothing of one that is still running.
type Runs struct {
	dir string
	// owner has the folder's random part: a process that doesn't see the folder, such as one in a
	// container with the same host name, is another owner and is left alone.
	owner string
}

// OpenRuns opens the folder $XDG_STATE_HOME/drone-runner-sysbox/exec, by default below
// ~/.local/state, and creates it if need be.
func OpenRuns(machine string) (*Runs, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the specification of these folders has relative ones ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the folder for what survives a crash: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	r := &Runs{dir: filepath.Join(state, "drone-runner-sysbox", "exec")}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for what survives a crash: %w", err)
	}
	id, err := r.id()
	if err != nil {
		return nil, fmt.Errorf("make the folder for what survives a crash: %w", err)
	}
	r.owner = fmt.Sprintf("%s%s (%s)", OwnerPrefix, machine, id)
	return r, nil
}

// Owner returns the name that everything in the daemon carries that these runs make.
func (r *Runs) Owner() string { return r.owner }

// id returns the folder's random name; the first caller chooses it.
func (r *Runs) id() (string, error) {
	path := filepath.Join(r.dir, "id")
	data, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return strings.TrimSpace(string(data)), err
	}
	// A link, unlike a rename, leaves an id that another process has chosen in the meantime.
	beside, err := r.beside([]byte(strings.ToLower(rand.Text()[:12]) + "\n"))
	if err != nil {
		return "", err
	}
	err = os.Link(beside, path)
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	if err = errors.Join(err, os.Remove(beside)); err != nil {
		return "", err
	}
	data, err = os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

// beside makes a file in the folder under a name that nobody looks for.
func (r *Runs) beside(data []byte) (path string, err error) {
	f, err := os.CreateTemp(r.dir, ".new-")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// Enter notes that the run of a spec has begun, until leave is called or this process ends. Call it
// before anything of the run is made.
func (r *Runs) Enter(spec string) (leave func(), err error) {
	beside, err := r.beside(nil)
	if err != nil {
		return nil, fmt.Errorf("keep account of the run: %w", err)
	}
	// Locked before it has its name: an unlocked file is that of a dead process.
	lock := flock.New(beside)
	if _, err = lock.TryLock(); err == nil {
		err = os.Rename(beside, r.path(spec))
	}
	if err != nil {
		return nil, fmt.Errorf("keep account of the run: %w", errors.Join(err, lock.Close(), os.Remove(beside)))
	}
	return func() {
		_ = os.Remove(r.path(spec)) // the next call takes one that stays for a killed one's, and removes it
		_ = lock.Close()
	}, nil
}

// Running reports whether the run of a spec has not ended.
func (r *Runs) Running(spec string) (bool, error) {
	lock := flock.New(r.path(spec), flock.SetFlag(os.O_RDONLY))
	dead, err := lock.TryRLock()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return !dead, lock.Close()
}

// Forget removes the files of runs whose processes are dead. Call it once nothing else is left of
// them.
func (r *Runs) Forget() error {
	found, err := filepath.Glob(filepath.Join(r.dir, "*.run"))
	for _, path := range found {
		running, lookErr := r.Running(strings.TrimSuffix(filepath.Base(path), ".run"))
		if lookErr == nil && !running {
			lookErr = os.Remove(path)
		}
		if !errors.Is(lookErr, os.ErrNotExist) {
			err = errors.Join(err, lookErr)
		}
	}
	return err
}

func (r *Runs) path(spec string) string { return filepath.Join(r.dir, spec+".run") }

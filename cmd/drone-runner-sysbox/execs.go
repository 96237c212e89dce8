package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// execs are the calls of exec that share a folder: those of one user on one machine. The folder has a file for each run that is under way, locked for as long as its process lives. So what a
// killed one has left in the daemon can be told from what a living one uses, and the next one removes it.
type execs struct {
	dir string
	// owner is the name that everything in the daemon carries which these calls make. It has the folder's own random part: whoever doesn't see the folder, in a container with the
	// same host name for one, is another owner, and is left alone.
	owner string
}

// openExecs makes the folder if need be: $XDG_STATE_HOME/drone-runner-sysbox/exec, ~/.local/state by default.
func openExecs() (*execs, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the specification of these folders has relative ones ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the folder for what survives a crash: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	e := &execs{dir: filepath.Join(state, "drone-runner-sysbox", "exec")}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for what survives a crash: %w", err)
	}
	id, err := e.id()
	if err != nil {
		return nil, fmt.Errorf("make the folder for what survives a crash: %w", err)
	}
	e.owner = fmt.Sprintf("exec on %s (%s)", hostname(), id)
	return e, nil
}

// id is the folder's random name; the first call chooses it.
func (e *execs) id() (string, error) {
	path := filepath.Join(e.dir, "id")
	data, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return strings.TrimSpace(string(data)), err
	}
	// Whole before it has its name, and the first one wins.
	beside, err := e.beside([]byte(strings.ToLower(rand.Text()[:12]) + "\n"))
	if err != nil {
		return "", err
	}
	err = os.Link(beside.Name(), path)
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	if err = errors.Join(err, beside.Close(), os.Remove(beside.Name())); err != nil {
		return "", err
	}
	data, err = os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

// beside is a new file of the folder's that nobody looks for, open.
func (e *execs) beside(data []byte) (*os.File, error) {
	f, err := os.CreateTemp(e.dir, ".new-")
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// enter says that the run of that spec is under way, until leave is called or this process ends. It comes before anything of the run is made.
func (e *execs) enter(spec string) (leave func(), err error) {
	f, err := e.beside(nil)
	if err != nil {
		return nil, fmt.Errorf("keep account of the run: %w", err)
	}
	// Locked before it has its name: whoever finds it unlocked knows that its process is dead.
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = os.Rename(f.Name(), e.path(spec))
	}
	if err != nil {
		return nil, fmt.Errorf("keep account of the run: %w", errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	return func() {
		_ = os.Remove(e.path(spec)) // one that stays is taken for a killed one's, and removed by the next call
		_ = f.Close()
	}, nil
}

// runs tells whether the run of that spec is under way.
func (e *execs) runs(spec string) (bool, error) {
	f, err := os.Open(e.path(spec))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// forget removes the file of a run whose process is dead, once nothing else is left of it.
func (e *execs) forget() error {
	found, err := filepath.Glob(filepath.Join(e.dir, "*.run"))
	for _, path := range found {
		alive, lookErr := e.runs(strings.TrimSuffix(filepath.Base(path), ".run"))
		if lookErr == nil && !alive {
			lookErr = os.Remove(path)
		}
		if !errors.Is(lookErr, os.ErrNotExist) {
			err = errors.Join(err, lookErr)
		}
	}
	return err
}

func (e *execs) path(spec string) string { return filepath.Join(e.dir, spec+".run") }

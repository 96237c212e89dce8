package cell

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/atomicwriter"
)

// useFile is beside the data of a cell, where the cell can't reach it.
const useFile = "cell.json"

// use is what is known of a cell that doesn't run.
type use struct {
	Domain string    `json:"domain"`
	Used   time.Time `json:"used"`
}

func writeUse(folder, domain string, at time.Time) error {
	raw, err := json.Marshal(use{domain, at.UTC()})
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(filepath.Join(folder, useFile), raw, 0o600)
}

// Stored is the data of a cell, whether it runs or not.
type Stored struct {
	Name string
	// Domain is whose it is, "" if that isn't known any more.
	Domain string
	// Used is when a stage last had it, zero if that isn't known.
	Used time.Time
}

// ListStored lists the data of cells in a folder, but the shared one's, the longest unused first.
func ListStored(folder string) ([]Stored, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the data of cells: %w", err)
	}
	var out []Stored
	for _, e := range entries {
		if !e.IsDir() || e.Name() == SharedName || !validName.MatchString(e.Name()) {
			continue
		}
		s := Stored{Name: e.Name()}
		var u use
		if raw, err := os.ReadFile(filepath.Join(folder, e.Name(), useFile)); err == nil && json.Unmarshal(raw, &u) == nil {
			s.Domain, s.Used = u.Domain, u.Used
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b Stored) int { return a.Used.Compare(b.Used) })
	return out, nil
}

// Evict removes the data of the cell that has been unused for longest, before a moment at least,
// and doesn't run. None is no error.
func (m *Manager) Evict(before time.Time) (gone Stored, ok bool, err error) {
	list, err := ListStored(m.o.Data)
	if err != nil {
		return Stored{}, false, err
	}
	for _, s := range list {
		if !s.Used.Before(before) {
			continue
		}
		taken, doomed, err := m.doom(s.Name)
		if taken {
			continue
		}
		if err == nil {
			err = os.RemoveAll(doomed)
		}
		if err != nil {
			return s, false, fmt.Errorf("remove the data of the cell %s (%s): %w", s.Name, s.Domain, err)
		}
		return s, true, nil
	}
	return Stored{}, false, nil
}

// doom renames the data of a cell that doesn't run, so that one that starts now begins with none.
func (m *Manager) doom(name string) (taken bool, doomed string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries[name] != nil {
		return true, "", nil
	}
	doomed = filepath.Join(m.o.Data, name+doomedSuffix)
	if err := os.RemoveAll(doomed); err != nil {
		return false, "", err
	}
	return false, doomed, os.Rename(filepath.Join(m.o.Data, name), doomed)
}

// doomedSuffix makes a name that no cell has.
const doomedSuffix = ".removed"

// AdoptData moves what a daemon has in its data folder, before there were cells, to the data folder
// of the shared cell, below it: the cache stays. keep are names in the folder that aren't the
// daemon's. It goes on where a runner that was killed had stopped.
func AdoptData(folder, cells string, keep ...string) error {
	target := filepath.Join(cells, SharedName, "data")
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	half := target + ".adopting"
	if err := os.MkdirAll(half, 0o710); err != nil {
		return fmt.Errorf("make the data folder of the shared cell: %w", err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("list what the daemon has: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if path == cells || e.Name() == "lost+found" || slices.Contains(keep, e.Name()) {
			continue
		}
		if err := os.Rename(path, filepath.Join(half, e.Name())); err != nil {
			return fmt.Errorf("move what the daemon has to the shared cell: %w", err)
		}
	}
	return os.Rename(half, target)
}

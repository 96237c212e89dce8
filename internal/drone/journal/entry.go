package journal

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/atomicwriter"
)

// Entry is the entry of one stage. A nil one is that of a stage that isn't written down, and does
// nothing. It may be used concurrently.
type Entry struct {
	journal *Journal
	path    string

	mu     sync.Mutex
	record Record
	gone   bool
}

// Record is what the entry says.
func (e *Entry) Record() Record {
	if e == nil {
		return Record{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.record.clone()
}

// Update changes the entry. When it returns nil the change is on disk, and with it all those before
// that couldn't be written. An error changes nothing about what Record says.
func (e *Entry) Update(change func(*Record)) error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return nil
	}
	change(&e.record)
	return e.save(false)
}

// Note is Update where nothing can be done about an error but to tell the operator.
func (e *Entry) Note(change func(*Record)) {
	if err := e.Update(change); err != nil {
		e.journal.log.WithError(err).WithField("stage.id", e.Record().Stage.ID).Warn("should the runner be killed now, its next start would know less of this stage")
	}
}

// Spool is the path of a step's spool, "" if it has none.
func (e *Entry) Spool(step Step) string {
	if e == nil || step.Spool == "" {
		return ""
	}
	return filepath.Join(e.journal.logs, step.Spool)
}

// Remove ends the entry: the server knows all there is to know. The spools that it points at go
// with it.
func (e *Entry) Remove() {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	for _, step := range e.record.Steps {
		if path := e.Spool(step); path != "" {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	// Last: as long as the entry is there somebody knows of the spools.
	if gone := os.Remove(e.path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		e.journal.log.WithError(err).Warn("an entry of the journal can't be removed: the next start will look into it again")
	}
	e.gone = true
	e.journal.forget(e, false)
}

// Abandon leaves the entry to what looks after orphans: the server doesn't know yet how the
// stage ended.
func (e *Entry) Abandon() {
	if e == nil {
		return
	}
	e.journal.forget(e, true)
}

// save replaces the entry's file by the record, as a whole. The caller holds the lock.
func (e *Entry) save(created bool) error {
	data, err := json.Marshal(e.record)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := atomicwriter.WriteFile(e.path, data, 0o600); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if !created {
		return nil
	}
	// The name has to survive a power cut as well. Later ones replace it, and then either will do.
	dir, err := os.Open(filepath.Dir(e.path))
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// random makes names unique: a stage may be offered again while an older entry of it is still
// there.
func random() string { return strings.ToLower(rand.Text()[:8]) }

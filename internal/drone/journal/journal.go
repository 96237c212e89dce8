// Package journal keeps on disk what the runner has accepted, so that a runner that is killed
// finds, when it starts again, what it was doing: which containers to remove, which logs to
// deliver, and which stages to end on the server.
//
// The one rule to keep: the journal runs ahead of the world. What is going to happen (an accept,
// the making of containers, the telling of a state) is on disk before it happens, and an entry goes
// when the server knows how its stage ended, and not before. So after a crash at any moment the
// entry says at least as much as was done.
//
// A state folder holds
//
//	lock                     held by the one runner that uses the folder
//	journal/STAGE-XXXX.json  one entry, always whole: it is written beside and renamed into place
//	logs/log-XXXX            the spools of package livelog that entries point at
//	lost/STAGE-STEP.log      logs that the server refused for good, as text, for the operator
package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/drone/drone-go/drone"
	"github.com/gofrs/flock"
	"github.com/sirupsen/logrus"
)

// Journal is the journal of one runner. It may be used concurrently.
type Journal struct {
	owner string
	dir   string // of the entries
	logs  string
	log   logrus.FieldLogger
	lock  *flock.Flock

	mu sync.Mutex
	// live are the entries of stages that run here, orphans those that nothing looks after.
	live    map[*Entry]bool
	orphans map[*Entry]bool
	// abandoned has a value when there may be a new orphan.
	abandoned chan struct{}
}

// Open makes the state folder, if need be, and takes it for the runner of that name. Another
// process that has it is waited for, for a moment; then it is an error. Entries that are there are
// the orphans of an earlier process. The spools that none of them points at are removed. A nil log
// is logrus's standard logger.
func Open(ctx context.Context, state, owner string, log logrus.FieldLogger) (*Journal, error) {
	if log == nil {
		log = logrus.StandardLogger()
	}
	j := &Journal{
		owner: owner, dir: entriesOf(state), logs: filepath.Join(state, "logs"), log: log,
		live: map[*Entry]bool{}, orphans: map[*Entry]bool{}, abandoned: make(chan struct{}, 1),
	}
	for _, dir := range []string{j.dir, j.logs} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder for what survives a crash (DRONE_RUNNER_STATE): %w", err)
		}
	}
	var err error
	if j.lock, err = take(ctx, state); err != nil {
		return nil, err
	}
	found, err := j.read()
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	for _, e := range found {
		j.orphans[e] = true
	}
	j.tidy(found)
	return j, nil
}

// Close gives the state folder back. Entries that are there stay.
func (j *Journal) Close() error { return j.lock.Close() }

// Logs is the folder for the spools that entries point at.
func (j *Journal) Logs() string { return j.logs }

// Begin writes the entry of a stage that is about to be accepted, for the machine that the stage
// names. Its error says that it isn't on disk: such a stage must not be accepted.
func (j *Journal) Begin(stage drone.Stage) (*Entry, error) {
	e := &Entry{journal: j, record: Record{Format: format, Runner: j.owner, Stage: stage}}
	e.record.Stage.Steps = nil
	e.path = filepath.Join(j.dir, fmt.Sprintf("%d-%s%s", stage.ID, random(), suffix))
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.save(true); err != nil {
		_ = os.Remove(e.path) // It may be there without being sure to stay.
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live[e] = true
	return e, nil
}

// Orphans are the entries that nothing looks after: those of an earlier process, and those that
// were abandoned in this one.
func (j *Journal) Orphans() []*Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []*Entry
	for e := range j.orphans {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Entry) int { return strings.Compare(a.path, b.path) })
	return out
}

// Abandoned has a value when there may be new orphans. It is for one receiver.
func (j *Journal) Abandoned() <-chan struct{} { return j.abandoned }

// Running is the number of stages that run here.
func (j *Journal) Running() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.live)
}

// Runs reports whether the spec of that id runs here.
func (j *Journal) Runs(spec string) bool {
	return spec != "" && j.any(func(r *Record) bool { return r.Spec == spec })
}

// Lives reports whether a stage of that id runs here.
func (j *Journal) Lives(stage int64) bool {
	return j.any(func(r *Record) bool { return r.Stage.ID == stage })
}

func (j *Journal) any(is func(*Record) bool) bool {
	j.mu.Lock()
	var live []*Entry
	for e := range j.live {
		live = append(live, e)
	}
	j.mu.Unlock()
	return slices.ContainsFunc(live, func(e *Entry) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return is(&e.record)
	})
}

// read loads the entries. What is there and is none is logged and left alone; what a crash left of
// the writing of one is removed.
func (j *Journal) read() ([]*Entry, error) {
	names, err := list(j.dir)
	if err != nil {
		return nil, err
	}
	var out []*Entry
	for _, name := range names {
		path := filepath.Join(j.dir, name)
		if strings.HasPrefix(name, unfinished) {
			if err := os.Remove(path); err != nil {
				j.log.WithError(err).Warn("a half-written entry of the journal can't be removed")
			}
			continue
		}
		record, err := load(path)
		if err != nil {
			j.log.WithError(err).Warn("passing over a file of the journal; remove it if it isn't yours")
			continue
		}
		out = append(out, &Entry{journal: j, path: path, record: record})
	}
	return out, nil
}

// tidy removes the spools of which no entry speaks: of steps whose stage was told, or that a crash
// caught before they were written down.
func (j *Journal) tidy(entries []*Entry) {
	names, err := list(j.logs)
	if err != nil {
		j.log.WithError(err).Warn("old logs can't be removed")
		return
	}
	wanted := map[string]bool{}
	for _, e := range entries {
		for _, step := range e.record.Steps {
			wanted[step.Spool] = true
		}
	}
	for _, name := range names {
		if isSpool(name) && !wanted[name] {
			if err := os.RemoveAll(filepath.Join(j.logs, name)); err != nil {
				j.log.WithError(err).Warn("an old log can't be removed")
			}
		}
	}
}

// forget takes an entry off the books; orphan says whether somebody still has to look after it.
func (j *Journal) forget(e *Entry, orphan bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.live, e)
	delete(j.orphans, e)
	if !orphan {
		return
	}
	j.orphans[e] = true
	select {
	case j.abandoned <- struct{}{}:
	default: // somebody is to look already
	}
}

// Records are those in a state folder, whoever has it: those of stages that run, if InUse, and of
// interrupted ones otherwise. Files that aren't records are passed over. No folder is none.
func Records(state string) ([]Record, error) {
	names, err := list(entriesOf(state))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out []Record
	for _, name := range names {
		if record, err := load(filepath.Join(entriesOf(state), name)); err == nil {
			out = append(out, record)
		}
	}
	return out, err
}

func entriesOf(state string) string { return filepath.Join(state, "journal") }

// list are the names in a folder, sorted.
func list(dir string) ([]string, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Name())
	}
	return names, nil
}

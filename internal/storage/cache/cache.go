// Package cache is what the runner knows of the images and volumes that its Docker daemon keeps
// from build to build: when each was last used, which are about to be, and who may have them. The
// engine and the guards tell it and ask it; the janitor decides by it what goes first.
//
// The one rule to keep: a private image is handed to nobody who hasn't shown, with credentials that
// its registry takes, that they may have it.
package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/sys/atomicwriter"
	"github.com/sirupsen/logrus"
)

// fileName is the ledger's file in the state folder.
const fileName = "cache.json"

// format is the version of the file: one of another version is as good as none.
const format = 1

// largest is how long the file may be, in bytes; one line for each of ten thousand images is far
// below it.
const largest = 16 << 20

// saveInterval is how old a change may get before it is written. A crash loses no more than that of
// what is for guidance only.
const saveInterval = 5 * time.Second

// book is the content of the file.
type book struct {
	Format int `json:"format"`
	// Images and Volumes are when each was last used, by an image's id and a volume's name.
	Images  map[string]time.Time `json:"images"`
	Volumes map[string]time.Time `json:"volumes"`
	// Public is when a registry last gave an image ("repository@digest") to somebody without
	// credentials. What concerns credentials never gets here.
	Public map[string]time.Time `json:"public"`
}

// Ledger keeps when images and volumes were last used, over restarts, and which images are about to
// be used. A nil one knows nothing and forgets all. It may be used concurrently.
type Ledger struct {
	path string
	log  logrus.FieldLogger

	mu      sync.Mutex
	book    book
	changed bool
	held    map[string]int       // by name
	recent  map[string]time.Time // by id: until when
}

// Open reads the ledger in a state folder. One that can't be read is told of and begun anew: it is
// for guidance only. A nil log is logrus's standard logger.
func Open(state string, log logrus.FieldLogger) *Ledger {
	if log == nil {
		log = logrus.StandardLogger()
	}
	l := &Ledger{path: filepath.Join(state, fileName), log: log, held: map[string]int{}, recent: map[string]time.Time{}}
	var err error
	if l.book, err = read(l.path); err != nil {
		log.WithError(err).Warn("when images were last used isn't known any more: the oldest go first")
	}
	return l
}

// Read is the ledger of a runner that may be running, to look things up in. It writes nothing.
func Read(state string) (*Ledger, error) {
	b, err := read(filepath.Join(state, fileName))
	return &Ledger{log: logrus.StandardLogger(), book: b, held: map[string]int{}, recent: map[string]time.Time{}}, err
}

// read reads a ledger's file; no file is an empty ledger. The book is usable with an error as well.
func read(path string) (book, error) {
	b := book{Format: format, Images: map[string]time.Time{}, Volumes: map[string]time.Time{}, Public: map[string]time.Time{}}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return b, nil
	case err != nil:
		return b, fmt.Errorf("read what is known of the cache: %w", err)
	case !info.Mode().IsRegular() || info.Size() > largest:
		return b, fmt.Errorf("read what is known of the cache: %s is no file of the runner's", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return b, fmt.Errorf("read what is known of the cache: %w", err)
	}
	var found book
	if err := json.Unmarshal(data, &found); err != nil {
		return b, fmt.Errorf("read what is known of the cache: %s: %w", path, err)
	}
	if found.Format != format {
		return b, fmt.Errorf("read what is known of the cache: %s: its format is %d, and this version reads %d", path, found.Format, format)
	}
	// What is written there may be null.
	maps.Copy(b.Images, found.Images)
	maps.Copy(b.Volumes, found.Volumes)
	maps.Copy(b.Public, found.Public)
	return b, nil
}

// Run writes what changes, until ctx ends, and then once more. It is called once.
func (l *Ledger) Run(ctx context.Context) {
	tick := time.NewTicker(saveInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.save()
			return
		}
		l.save()
	}
}

func (l *Ledger) save() {
	l.mu.Lock()
	if !l.changed {
		l.mu.Unlock()
		return
	}
	l.changed = false
	data, err := json.Marshal(l.book)
	l.mu.Unlock()
	if err == nil {
		err = atomicwriter.WriteFile(l.path, data, 0o600)
	}
	if err != nil {
		l.log.WithError(err).Warn("when images were last used can't be written down; the next change tries again")
	}
}

package cache

import (
	"time"

	"github.com/distribution/reference"
)

// settle is how long an image that somebody asked for stays even if nothing uses it yet: a client
// that has looked it up, or pulled it, is about to make a container of it.
const settle = time.Minute

// Builder is a name for Hold that stands for all images which nobody but the daemon's classic
// builder has a use for: hold it while one builds, since it goes from one such image to the next.
const Builder = "<builder>"

// UsedImage notes that the image of that id is used, or is about to be.
func (l *Ledger) UsedImage(id string) {
	if l == nil || id == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.book.Images[id] = time.Now()
	l.changed = true
}

// AboutToUse is UsedImage for somebody whose container the runner doesn't see coming: the image is
// Busy for a minute.
func (l *Ledger) AboutToUse(id string) {
	if l == nil || id == "" {
		return
	}
	l.UsedImage(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recent[id] = time.Now().Add(settle)
}

// UsedVolume notes that the volume of that name is used.
func (l *Ledger) UsedVolume(name string) {
	if l == nil || name == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.book.Volumes[name] = time.Now()
	l.changed = true
}

// ImageUse is when an image was last used; zero if that isn't known.
func (l *Ledger) ImageUse(id string) time.Time {
	if l == nil {
		return time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.Images[id]
}

// VolumeUse is when a volume was last used; zero if that isn't known.
func (l *Ledger) VolumeUse(name string) time.Time {
	if l == nil {
		return time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.Volumes[name]
}

// Hold makes the image of that name Busy until release is called, which may be more than once: a
// step is going to need it.
func (l *Ledger) Hold(name string) (release func()) {
	if l == nil {
		return func() {}
	}
	name = full(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name]++
	done := false
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if done {
			return
		}
		done = true
		if l.held[name]--; l.held[name] == 0 {
			delete(l.held, name)
		}
	}
}

// Busy reports whether an image, by its id and all its names, is about to be used, though no
// container may use it yet.
func (l *Ledger) Busy(id string, names []string) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.recent[id]) {
		return true
	}
	for _, name := range names {
		if l.held[full(name)] > 0 {
			return true
		}
	}
	return false
}

// Retain forgets the images and volumes that the daemon no longer has: all but those of these ids,
// "repository@digest"s and names.
func (l *Ledger) Retain(ids, digests, volumes map[string]bool) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, kind := range []struct {
		book map[string]time.Time
		keep map[string]bool
	}{{l.book.Images, ids}, {l.book.Public, digests}, {l.book.Volumes, volumes}} {
		for key, at := range kind.book {
			if !kind.keep[key] && now.Sub(at) > settle { // what was noted after the daemon was asked may be there
				delete(kind.book, key)
				l.changed = true
			}
		}
	}
	for id, until := range l.recent {
		if now.After(until) {
			delete(l.recent, id)
		}
	}
}

// public is when an image was last found to be anybody's; zero if never.
func (l *Ledger) public(digested string) time.Time {
	if l == nil {
		return time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.Public[digested]
}

// setPublic notes that an image is anybody's, or isn't any longer.
func (l *Ledger) setPublic(digested string, is bool) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = true
	if !is {
		delete(l.book.Public, digested)
		return
	}
	l.book.Public[digested] = time.Now()
}

// full is a name with its registry and tag; what is no name stays as it is.
func full(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.TagNameOnly(named).String()
}

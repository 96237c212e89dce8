package cache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// answers is a registry that says the same to each image and user.
type answers struct {
	mu    sync.Mutex
	err   map[string]error // by image and user
	down  error
	takes time.Duration
	asked int
}

func (a *answers) DistributionInspect(ctx context.Context, image, auth string) (registry.DistributionInspect, error) {
	user := ""
	if auth != "" {
		c, err := registry.DecodeAuthConfig(auth)
		if err != nil {
			return registry.DistributionInspect{}, err
		}
		user = c.Username
	}
	time.Sleep(a.takes)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if a.down != nil {
		return registry.DistributionInspect{}, a.down
	}
	return registry.DistributionInspect{}, a.err[image+" "+user]
}

const (
	private  = "hub.test/team/private@sha256:1111111111111111111111111111111111111111111111111111111111111111"
	public   = "public@sha256:2222222222222222222222222222222222222222222222222222222222222222"
	teamName = "hub.test/team/private:1"
)

var (
	jane   = registry.AuthConfig{Username: "jane", Password: "a", ServerAddress: "hub.test"}
	joe    = registry.AuthConfig{Username: "joe", Password: "b", ServerAddress: "https://hub.test/v2/"}
	stray  = registry.AuthConfig{Username: "jane", Password: "a", ServerAddress: "elsewhere.test"}
	denied = errdefs.ErrUnauthenticated
)

func newAnswers() *answers {
	return &answers{err: map[string]error{
		private + " ":    errors.New("Error response from daemon: no basic auth credentials"),
		private + " joe": denied,
	}}
}

func TestWhoMayHaveWhat(t *testing.T) {
	team := cache.Image{Name: teamName, Tags: []string{teamName}, Digests: []string{private}}
	for _, row := range []struct {
		name  string
		image cache.Image
		as    []registry.AuthConfig
		want  bool
	}{
		{"a private image, nobody", team, nil, false},
		{"a private image, the wrong one", team, []registry.AuthConfig{joe}, false},
		{"a private image, its owner", team, []registry.AuthConfig{jane}, true},
		{"a private image, several credentials", team, []registry.AuthConfig{joe, jane}, true},
		{"a private image, credentials for another registry", team, []registry.AuthConfig{stray}, false},
		{"a public image, nobody", cache.Image{Name: "public", Digests: []string{public}}, nil, true},
		{"a local image", cache.Image{Name: "app:1", Tags: []string{"app:1"}}, nil, true},
		{"a name that the operator gave a private image", cache.Image{Name: "app:1", Tags: []string{"app:1", teamName}, Digests: []string{private}}, nil, true},
		{"the private name of that", cache.Image{Name: teamName, Tags: []string{"app:1", teamName}, Digests: []string{private}}, nil, false},
		{"its id, for the operator shares it", cache.Image{Tags: []string{"app:1", teamName}, Digests: []string{private}}, nil, true},
		{"a private image by its id", cache.Image{Tags: []string{teamName}, Digests: []string{private}}, nil, false},
		{"a private image by its digest", cache.Image{Name: private, Tags: []string{teamName}, Digests: []string{private}}, nil, false},
		{"an image of two registries, by the public name", cache.Image{Name: public, Digests: []string{private, public}}, nil, true},
		{"an image of two registries, by the private name", cache.Image{Name: teamName, Digests: []string{private, public}}, nil, false},
		{"an image of two registries, by its id", cache.Image{Digests: []string{private, public}}, nil, true},
		{"an id without any name", cache.Image{}, nil, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := cache.NewAccess(newAnswers(), nil)
			if may, err := a.May(t.Context(), row.image, row.as...); may != row.want || err != nil {
				t.Errorf("%t, %v", may, err)
			}
		})
	}
}

// What was said counts for a while, a no for a shorter one; what a registry that is away has
// allowed counts on.
func TestAnswersCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := cache.Image{Name: teamName, Digests: []string{private}}
		r := newAnswers()
		ledger := cache.Open(t.TempDir(), nil)
		a := cache.NewAccess(r, ledger)
		expect := func(when string, asked int, want bool, image cache.Image, as ...registry.AuthConfig) {
			t.Helper()
			before := r.asked
			may, err := a.May(t.Context(), image, as...)
			if may != want || r.asked-before != asked {
				t.Errorf("%s: %t after %d questions, want %t after %d (%v)", when, may, r.asked-before, want, asked, err)
			}
		}
		expect("nobody, first", 1, false, team)
		expect("nobody, again", 0, false, team)
		expect("jane, first", 1, true, team, jane)
		expect("jane, again", 0, true, team, jane)
		expect("joe", 1, false, team, joe)
		time.Sleep(2 * time.Minute)
		expect("jane, minutes later", 0, true, team, jane)
		expect("joe, minutes later", 1, false, team, joe)
		time.Sleep(time.Hour)
		r.down = errors.New("connection refused")
		expect("jane, without the registry", 2, true, team, jane)
		expect("joe, without the registry", 2, false, team, joe)
		expect("nobody, without the registry", 1, false, team)

		if !a.Known(team, jane) || a.Known(team, joe) || a.Known(team) || a.Known(team, stray) {
			t.Error("what is known isn't what was said")
		}
		everybodys := cache.Image{Name: "public", Digests: []string{public}}
		expect("an unknown image, without the registry", 1, false, everybodys)
		a.Pulled(everybodys, registry.AuthConfig{})
		expect("after a pull", 0, true, everybodys, joe)
		time.Sleep(48 * time.Hour)
		expect("days later, without the registry", 1, true, everybodys)
		r.down = nil
		r.err[public+" "] = denied
		expect("when it has become private", 1, false, everybodys)
		expect("and for all times", 0, false, everybodys)
	})
}

// The same question is asked once at a time, and the caller that asked it may go.
func TestQuestionsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		team := cache.Image{Name: teamName, Digests: []string{private}}
		r := newAnswers()
		r.takes = time.Second
		a := cache.NewAccess(r, nil)
		a.Pulled(team, jane)
		time.Sleep(time.Hour)
		r.down = errors.New("connection refused")
		began := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if may, err := a.May(t.Context(), team, joe); may || err == nil {
					t.Errorf("%t, %v", may, err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); r.asked != 2 || took != 2*time.Second {
			t.Errorf("%d questions in %s", r.asked, took)
		}
	})
}

func TestLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		l := cache.Open(state, nil)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { l.Run(ctx) })
		l.UsedImage("sha256:a")
		l.UsedVolume("v")
		noted := time.Now()
		time.Sleep(time.Hour)
		l.AboutToUse("sha256:b")
		stop()
		running.Wait()

		again := cache.Open(state, nil)
		if at := again.ImageUse("sha256:a"); !at.Equal(noted) {
			t.Errorf("a was used at %s, want %s", at, noted)
		}
		if at := again.VolumeUse("v"); !at.Equal(noted) {
			t.Errorf("v was used at %s, want %s", at, noted)
		}
		if again.ImageUse("sha256:b").IsZero() || !again.ImageUse("sha256:c").IsZero() {
			t.Error("the end of the former life isn't there, or what never was is")
		}
		again.Retain(map[string]bool{"sha256:b": true}, nil, nil)
		if !again.ImageUse("sha256:a").IsZero() || !again.VolumeUse("v").IsZero() || again.ImageUse("sha256:b").IsZero() {
			t.Error("it retains what it shouldn't, or the other way round")
		}
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := cache.Open(t.TempDir(), nil)
		expect := func(when string, want bool) {
			t.Helper()
			if got := l.Busy("sha256:a", []string{"golang:1.22", "golang@sha256:1111"}); got != want {
				t.Errorf("%s: busy is %t", when, got)
			}
		}
		expect("at first", false)
		first, second := l.Hold("golang:1.22"), l.Hold("docker.io/library/golang:1.22")
		other := l.Hold("golang:1.23")
		defer other()
		expect("held twice", true)
		first()
		first()
		expect("held once", true)
		second()
		expect("held no more", false)
		l.AboutToUse("sha256:a")
		expect("asked for", true)
		time.Sleep(2 * time.Minute)
		expect("asked for long ago", false)
	})
}

// A file that is broken, or another version's, doesn't keep the runner from its work.
func TestLedgerThatCannotBeRead(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "not JSON": "{", "a list": "[]", "another version": `{"format":2,"images":{}}`, "nulls": `{"format":1,"images":null,"volumes":null,"public":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			if err := os.WriteFile(filepath.Join(state, "cache.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			l := cache.Open(state, nil)
			l.UsedImage("sha256:a")
			l.UsedVolume("v")
			ctx, stop := context.WithCancel(t.Context())
			stop()
			l.Run(ctx)
			if got, err := cache.Read(state); err != nil || got.ImageUse("sha256:a").IsZero() {
				t.Errorf("after a new beginning: %v", err)
			}
		})
	}
	var none *cache.Ledger
	none.UsedImage("a")
	none.AboutToUse("a")
	none.UsedVolume("v")
	none.Retain(nil, nil, nil)
	none.Hold("a")()
	if none.Busy("a", nil) || !none.ImageUse("a").IsZero() || !none.VolumeUse("v").IsZero() {
		t.Error("no ledger knows something")
	}
}

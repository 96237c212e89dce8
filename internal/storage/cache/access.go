package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"

	registries "github.com/drone-runner-sysbox/drone-runner-sysbox/internal/registry"
)

// How long what a registry said counts without asking again. When it can't be asked, what it has
// allowed once counts on.
const (
	publicFresh  = 24 * time.Hour   // anybody may have it
	provenFresh  = 10 * time.Minute // these credentials may have it
	secretFresh  = 10 * time.Minute // not everybody may
	refusedFresh = time.Minute      // these credentials may not: a pull, which comes next, decides then
)

// askTimeout bounds a question to a registry.
const askTimeout = 30 * time.Second

// mostAnswers is how many answers of registries are remembered; the oldest give way.
const mostAnswers = 10_000

// Registry asks an image's registry about it. Docker's client does so through the daemon, which
// knows the registry's certificate, proxy and mirror.
type Registry interface {
	// DistributionInspect fails as a pull of that image ("repository@digest") with these
	// credentials would.
	DistributionInspect(ctx context.Context, image, encodedAuth string) (registry.DistributionInspect, error)
}

// Image is one that the daemon has.
type Image struct {
	// Name is what it is asked for by; empty for its id.
	Name string
	// Tags and Digests are its names ("repository:tag", "repository@digest"), as the daemon has
	// them.
	Tags, Digests []string
}

// Access knows who may have which image. It may be used concurrently. A nil one lets everybody have
// all.
//
// The measure is the repository that an image is asked for by, and the digest that it came from
// there: whoever could pull that may have the daemon's copy. An image without a digest for its name
// came from no registry: the operator has built, loaded or named it here, for all.
type Access struct {
	registry Registry
	ledger   *Ledger

	mu      sync.Mutex
	answers map[question]answer
	asking  map[question]*inquiry
}

// question is what a registry is asked: an image, by whom.
type question struct{ digested, who string }

type answer struct {
	may bool
	at  time.Time
}

// inquiry is a question that is under way, for all who have it.
type inquiry struct {
	done chan struct{} // closed after the others were set
	may  bool
	err  error
}

// nobody is who has no credentials.
const nobody = ""

// NewAccess asks registries by r, and keeps what everybody may have in the ledger, which may be
// nil.
func NewAccess(r Registry, ledger *Ledger) *Access {
	return &Access{registry: r, ledger: ledger, answers: map[question]answer{}, asking: map[question]*inquiry{}}
}

// May reports whether somebody with these credentials, or without any, may have an image. Each is
// shown to the registry alone that its ServerAddress names. The registry is asked when it hasn't
// been lately. An error says that it can't be asked, and never allowed this before: then the answer
// is no.
func (a *Access) May(ctx context.Context, image Image, credentials ...registry.AuthConfig) (bool, error) {
	if a == nil {
		return true, nil
	}
	sources, free := image.sources()
	if free {
		return true, nil
	}
	// What is known already costs nothing.
	for _, s := range sources {
		if slices.ContainsFunc(fitting(s, credentials), func(c registry.AuthConfig) bool { return a.fresh(s, who(c)) }) {
			return true, nil
		}
	}
	var errs []error
	for _, s := range sources {
		for _, c := range fitting(s, credentials) {
			may, err := a.ask(ctx, s, c)
			if may {
				return true, nil
			}
			errs = append(errs, err)
		}
	}
	return false, errors.Join(errs...)
}

// Known is May by what is known, however long ago it was said: nobody is asked.
func (a *Access) Known(image Image, credentials ...registry.AuthConfig) bool {
	if a == nil {
		return true
	}
	sources, free := image.sources()
	return free || slices.ContainsFunc(sources, func(s string) bool {
		return slices.ContainsFunc(fitting(s, credentials), func(c registry.AuthConfig) bool {
			got, known := a.answer(question{s, who(c)})
			return known && got.may
		})
	})
}

// Pulled notes that somebody has just pulled an image by that name with these credentials (the zero
// ones: with none), so that they may have it.
func (a *Access) Pulled(image Image, c registry.AuthConfig) {
	if a == nil {
		return
	}
	sources, _ := image.sources()
	for _, s := range sources {
		a.note(question{s, who(c)}, true)
	}
}

// sources are the digests that the image's name stands for; free tells that it's the operator's
// own.
func (i Image) sources() (digests []string, free bool) {
	repositories := map[string]bool{}
	for _, d := range i.Digests {
		repositories[repository(d)] = true
		if i.Name == "" || repository(d) == repository(i.Name) {
			digests = append(digests, d)
		}
	}
	if i.Name != "" {
		return digests, len(digests) == 0
	}
	return digests, len(digests) == 0 || slices.ContainsFunc(i.Tags, func(t string) bool { return !repositories[repository(t)] })
}

// repository is a name without tag and digest, in its long form.
func repository(name string) string {
	name, _, _ = strings.Cut(name, "@")
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return named.Name()
}

// fitting are the credentials to show to an image's registry: none at first, and then those that
// are for it.
func fitting(digested string, credentials []registry.AuthConfig) []registry.AuthConfig {
	out := []registry.AuthConfig{{}}
	host, _, _ := strings.Cut(repository(digested), "/")
	for _, c := range credentials {
		if who(c) != nobody && registries.Host(c.ServerAddress) == host {
			out = append(out, c)
		}
	}
	return out
}

// who identifies credentials without keeping them.
func who(c registry.AuthConfig) string {
	if c.Username == "" && c.Password == "" && c.Auth == "" && c.IdentityToken == "" && c.RegistryToken == "" {
		return nobody
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", c.Username, c.Password, c.Auth, c.IdentityToken, c.RegistryToken))
	return hex.EncodeToString(sum[:])
}

// fresh reports whether it is known, and since not too long ago, that they may have the image.
func (a *Access) fresh(digested, by string) bool {
	got, known := a.answer(question{digested, by})
	return known && got.may && time.Since(got.at) < lasts(got, by)
}

// lasts is how long an answer counts.
func lasts(got answer, by string) time.Duration {
	switch {
	case !got.may && by == nobody:
		return secretFresh
	case !got.may:
		return refusedFresh
	case by == nobody:
		return publicFresh
	}
	return provenFresh
}

func (a *Access) answer(q question) (answer, bool) {
	if q.who == nobody {
		if at := a.ledger.public(q.digested); !at.IsZero() {
			return answer{true, at}, true
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	got, known := a.answers[q]
	return got, known
}

func (a *Access) note(q question, may bool) {
	if q.who == nobody {
		a.ledger.setPublic(q.digested, may)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.answers) >= mostAnswers {
		oldest := question{}
		for k, v := range a.answers {
			if was, ok := a.answers[oldest]; !ok || v.at.Before(was.at) {
				oldest = k
			}
		}
		delete(a.answers, oldest)
	}
	a.answers[q] = answer{may, time.Now()}
}

// ask asks the registry, once for all callers that have the same question.
func (a *Access) ask(ctx context.Context, digested string, c registry.AuthConfig) (bool, error) {
	q := question{digested, who(c)}
	for {
		got, known := a.answer(q)
		if known && time.Since(got.at) < lasts(got, q.who) {
			return got.may, nil
		}
		a.mu.Lock()
		in := a.asking[q]
		if in == nil {
			in = &inquiry{done: make(chan struct{})}
			a.asking[q] = in
			a.mu.Unlock()
			in.may, in.err = a.askNow(ctx, q, c)
			if in.err != nil && known && got.may {
				in.may, in.err = true, nil // it was so when the registry could be asked
			}
			a.mu.Lock()
			delete(a.asking, q)
			a.mu.Unlock()
			close(in.done)
			return in.may, in.err
		}
		a.mu.Unlock()
		select {
		case <-in.done:
			if !errors.Is(in.err, context.Canceled) { // of the caller, who may have gone
				return in.may, in.err
			}
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (a *Access) askNow(ctx context.Context, q question, c registry.AuthConfig) (bool, error) {
	header := ""
	if q.who != nobody {
		var err error
		if header, err = registry.EncodeAuthConfig(c); err != nil {
			return false, fmt.Errorf("encode the credentials for %s: %w", q.digested, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := a.registry.DistributionInspect(ctx, q.digested, header)
	switch {
	case err == nil:
		a.note(q, true)
		return true, nil
	case refused(err):
		a.note(q, false)
		return false, nil
	}
	return false, fmt.Errorf("ask the registry who may have %s: %w", q.digested, err)
}

// refused reports whether a registry has said no, rather than not answered. The daemon passes on
// most of a registry's errors under status 500, so where errdefs has nothing to say the text
// decides; what isn't recognised is no answer.
func refused(err error) bool {
	if errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) || errdefs.IsNotFound(err) {
		return true
	}
	text := strings.ToLower(err.Error())
	return slices.ContainsFunc([]string{
		"unauthorized", "authentication required", "no basic auth credentials", "access denied", "incorrect username or password", "denied:", "403 forbidden",
		"manifest unknown", "name unknown",
	}, func(part string) bool { return strings.Contains(text, part) })
}

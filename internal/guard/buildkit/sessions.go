package buildkit

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// sessions are those that the stage has opened with BuildKit.
type sessions struct {
	mu   sync.Mutex
	seen map[string]chan struct{} // closed when the session is there
	refs map[string]string        // the sessions of builds
	vars map[string]map[string]string
	kept map[string]bool // whether a session's Dockerfiles are rewritten
	// patience is how long a session may come after what is asked of it.
	patience time.Duration
}

func newSessions() *sessions {
	return &sessions{
		seen:     map[string]chan struct{}{},
		refs:     map[string]string{},
		kept:     map[string]bool{},
		vars:     map[string]map[string]string{},
		patience: sessionTime,
	}
}

// build notes which session a build has.
func (s *sessions) build(ref, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs[ref] = id
}

// frontend notes the build arguments of a build's Dockerfile: of the session, as nothing else is
// known when the daemon reads the file.
func (s *sessions) frontend(ref string, attrs map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	args := map[string]string{}
	for k, v := range attrs {
		if name, ok := strings.CutPrefix(k, "build-arg:"); ok {
			args[name] = v
		}
	}
	s.vars[s.refs[ref]] = args
}

// args returns the build arguments of a session.
func (s *sessions) args(id string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vars[id]
}

func (s *sessions) get(id string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[id] == nil {
		s.seen[id] = make(chan struct{})
	}
	return s.seen[id]
}

// open notes a session. One that is opened again, BuildKit takes in place of the first, so it must
// be of the same kind.
func (s *sessions) open(id string, rewritten bool) error {
	c := s.get(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind, again := s.kept[id]; again && kind != rewritten {
		return apierror.BadRequest("the session %s has been opened in another way", apierror.Quote(id))
	}
	s.kept[id] = rewritten
	select {
	case <-c:
	default:
		close(c)
	}
	return nil
}

// rewritten reports whether the Dockerfiles of a session that is open are rewritten on their way.
func (s *sessions) rewritten(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[id]
}

// sessionTime is how long BuildKit itself waits for a session.
const sessionTime = 5 * time.Second

// wait reports whether a session is the stage's. It may be on its way.
func (s *sessions) wait(ctx context.Context, id string) error {
	t := time.NewTimer(s.patience)
	defer t.Stop()
	select {
	case <-s.get(id):
		return nil
	case <-t.C:
		return apierror.Refuse("the session "+apierror.Quote(id), "it is none of this stage's", "")
	case <-ctx.Done():
		return ctx.Err()
	}
}

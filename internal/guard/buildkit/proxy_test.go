package buildkit

import (
	"net/http"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
)

// TestSessionSharesNothing has sessions of two builds with the same key, and with none: what the
// daemon keeps of a folder under a key is files of the client's.
func TestSessionSharesNothing(t *testing.T) {
	for _, key := range []string{"folder", ""} {
		keys := map[string]bool{}
		for _, id := range []string{"drone-a", "drone-b"} {
			p := New(Options{ID: id, Names: names.New(id, id, nil)}, &memory{})
			h := http.Header{}
			if key != "" {
				h.Set(sessionSharedKey, key)
			}
			h.Set(SessionID, "one")
			if err := p.OpenSession(h, true); err != nil {
				t.Fatal(err)
			}
			md := metadata.Pairs(SessionID, "two")
			if key != "" {
				md.Set(sessionSharedKey, key)
			}
			out, _ := p.requestMetadata(controlService+"Session", md)
			got := h.Get(sessionSharedKey)
			if got == "" || got == key || len(out.Get(sessionSharedKey)) != 1 || out.Get(sessionSharedKey)[0] != got {
				t.Errorf("with the key %q, the daemon gets %q by HTTP and %q by gRPC", key, got, out.Get(sessionSharedKey))
			}
			keys[got] = true
		}
		if len(keys) != 2 {
			t.Errorf("with the key %q, two builds share one", key)
		}
	}
}

// TestSessionStaysOfItsKind has a session that is opened a second time, where the guard doesn't
// read what goes by.
func TestSessionStaysOfItsKind(t *testing.T) {
	s := newSessions()
	if err := s.open("s", true); err != nil || !s.rewritten("s") {
		t.Fatalf("open a session: %v", err)
	}
	if err := s.open("s", true); err != nil {
		t.Errorf("open it again: %v", err)
	}
	if err := s.open("s", false); err == nil || !s.rewritten("s") {
		t.Error("the session has been opened in another way")
	}
	if err := s.open("other", false); err != nil || s.rewritten("other") {
		t.Errorf("open a session that isn't rewritten: %v", err)
	}
}

// TestSessionWithoutPolicies has a daemon that takes no source policies: there, only sessions whose
// Dockerfiles the guard reads are built from.
func TestSessionWithoutPolicies(t *testing.T) {
	for version, policies := range map[string]bool{"1.41": false, "1.45": true} {
		p := New(Options{ID: "drone-abc", Names: names.New("drone-abc", "drone-abc", nil)}, &memory{version: version})
		for id, rewritten := range map[string]bool{"read": true, "unread": false} {
			if err := p.sessions.open(id, rewritten); err != nil {
				t.Fatal(err)
			}
			if err := p.ownSession(t.Context(), id); (err == nil) != (rewritten || policies) {
				t.Errorf("with API %s, the session %s: %v", version, id, err)
			}
		}
	}
}

package local

import (
	"os"
	"strings"
	"testing"
)

// All processes that share a folder have one name, also if they come at once; an unlocked file is a
// dead one's.
func TestRuns(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	owners := make(chan string)
	for range 10 {
		go func() {
			e, err := OpenRuns("machine")
			if err != nil {
				t.Error(err)
				owners <- ""
				return
			}
			owners <- e.Owner()
		}()
	}
	first := <-owners
	for range 9 {
		if got := <-owners; got != first || !strings.HasPrefix(got, "exec on ") {
			t.Errorf("owners %q and %q", first, got)
		}
	}
	e, err := OpenRuns("machine")
	if err != nil {
		t.Fatal(err)
	}
	leave, err := e.Enter("alive")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.path("dead"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]bool{"alive": true, "dead": false, "unknown": false} {
		if got, err := e.Running(spec); got != want || err != nil {
			t.Errorf("%s runs: %t, %v; want %t", spec, got, err, want)
		}
	}
	if err := e.Forget(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(e.path("dead")); err == nil {
		t.Error("the file of a dead one is left")
	}
	if alive, err := e.Running("alive"); !alive || err != nil {
		t.Errorf("after the others' removal: %t, %v", alive, err)
	}
	leave()
	if alive, err := e.Running("alive"); alive || err != nil {
		t.Errorf("after its end: %t, %v", alive, err)
	}
}

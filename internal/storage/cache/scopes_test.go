package cache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestScopes(t *testing.T) {
	state := t.TempDir()
	open := func(state string) *Scopes {
		t.Helper()
		s, err := OpenScopes(state)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := open(state)
	a, b := first.Of("octo/a"), first.Of("octo/b")
	if len(a) != 32 || a == b || strings.Contains(a, "octo") {
		t.Errorf("the scopes of two are %q and %q", a, b)
	}
	if again := open(state).Of("octo/a"); again != a {
		t.Errorf("after a restart it is %q, and was %q", again, a)
	}
	if other := open(t.TempDir()).Of("octo/a"); other == a {
		t.Error("who knows the name knows the scope")
	}
	if s := first.Of(""); s != "" {
		t.Errorf("the scope of nobody is %q", s)
	}
	if s := (*Scopes)(nil).Of("octo/a"); s != "" {
		t.Errorf("without scopes it is %q", s)
	}
	info, err := os.Stat(filepath.Join(state, keyName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is kept as %v: %v", info.Mode(), err)
	}

	// A disk that was full once.
	if err := os.WriteFile(filepath.Join(state, keyName), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := open(state).Of("octo/a"); len(s) != 32 || s == a {
		t.Errorf("with a broken key it is %q", s)
	}
	if _, err := OpenScopes(filepath.Join(state, "nowhere")); err == nil {
		t.Error("a folder that isn't there holds a key")
	}
}

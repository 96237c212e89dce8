package names

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzNames: scoping is undone by unscoping, never leaves the stage's own names, and happens once.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"db", "drone-abc.db", "drone-abc.drone-abc.x", "a..b", "/x", "", "\xa4rone-abc.", `\\\ufffdrone-abc.`, "\xff\xffrone-abc.", "\x1drone-abc.", "\x1ddrone-abc."} {
		f.Add(s)
	}
	n := New("drone-abc", "drone-abc")
	f.Fuzz(func(t *testing.T, name string) {
		real := n.Scope(name)
		if !n.Scoped(real) || n.Scope(n.Scope("x"+name)) != n.Scope("x"+name) {
			t.Errorf("%q becomes %q", name, real)
		}
		if Valid(name) && (!Valid(real) && len(real) <= 255 || !strings.Contains(name, n.prefix) && n.Unscope(real) != name) {
			t.Errorf("%q becomes %q becomes %q", name, real, n.Unscope(real))
		}
		text, _ := json.Marshal(map[string]string{"Name": real})
		var back map[string]string
		if err := json.Unmarshal(n.Answer(text), &back); err != nil {
			t.Errorf("%s is no JSON: %v", n.Answer(text), err)
		}
	})
}

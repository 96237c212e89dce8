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
	n := New("drone-abc", "drone-abc", nil)
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

func TestLabelsOfTheRunner(t *testing.T) {
	n := New("drone-abc", "drone-abc", map[string]string{"io.drone-runner-sysbox.spec": "drone-abc", "io.drone.repo.name": "a<b"})
	for _, tt := range []struct{ name, text, want string }{
		{"alone", `{"Labels":{"io.drone.repo.name":"a\u003cb"}}`, `{"Labels":{}}`},
		{"first", `{"Labels":{"io.drone-runner-sysbox.spec":"drone-abc","x":"y"}}`, `{"Labels":{"x":"y"}}`},
		{"last", `{"Labels":{"x":"y","io.drone-runner-sysbox.spec":"drone-abc"}}`, `{"Labels":{"x":"y"}}`},
		{"all", `{"Labels":{"io.drone-runner-sysbox.spec":"drone-abc","io.drone.repo.name":"a\u003cb"},"A":1}`, `{"Labels":{},"A":1}`},
		{"of a step", `{"Labels":{"io.drone-runner-sysbox.step":"a\"b","x":"y"}}`, `{"Labels":{"x":"y"}}`},
		{"in an event", `{"Attributes":{"image":"a","io.drone-runner-sysbox.guard":"g","name":"n"}}`, `{"Attributes":{"image":"a","name":"n"}}`},
		{"of another value", `{"Labels":{"io.drone.repo.name":"other"}}`, `{"Labels":{"io.drone.repo.name":"other"}}`},
		{"within a string", `{"Env":["x\"io.drone-runner-sysbox.spec\":\"drone-abc\""]}`, `{"Env":["x\"io.drone-runner-sysbox.spec\":\"drone-abc\""]}`},
		{"at a string's end", `{"Labels":{"x\"io.drone-runner-sysbox.spec":"drone-abc"}}`, `{"Labels":{"x\"io.drone-runner-sysbox.spec":"drone-abc"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(n.Answer([]byte(tt.text))); got != tt.want {
				t.Errorf("becomes %s, want %s", got, tt.want)
			}
		})
	}
}

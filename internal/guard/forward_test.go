package guard

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every time.Duration // between pieces
		size  int
		rests bool
	}{
		{"a rush of lines", 30 * time.Microsecond, 100, true},
		{"lines of a program at work", 2 * time.Millisecond, 100, false},
		{"an archive", 30 * time.Microsecond, bufferSize, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p pace
				for i := range 100 {
					time.Sleep(tt.every)
					begun := time.Now()
					p.rest(tt.size)
					took := time.Since(begun)
					if want := tt.rests && i > rushLength; (took > 0) != want || took > gatherTime {
						t.Fatalf("piece %d: rests for %v", i, took)
					}
				}
				time.Sleep(time.Second)
				begun := time.Now()
				if p.rest(tt.size); time.Since(begun) > 0 {
					t.Error("the first piece after a silence is held up")
				}
			})
		})
	}
}

func TestLarge(t *testing.T) {
	for _, tt := range []struct {
		outgoing
		want bool
	}{
		{outgoing{method: "GET", path: "/containers/a/archive"}, true},
		{outgoing{method: "HEAD", path: "/containers/a/archive"}, false},
		{outgoing{method: "GET", path: "/containers/a/logs"}, true},
		{outgoing{method: "GET", path: "/images/get"}, true},
		{outgoing{method: "GET", path: "/containers/a/json"}, false},
		{outgoing{method: "GET", path: "/_ping"}, false},
		{outgoing{method: "PUT", path: "/containers/a/archive", body: strings.NewReader(""), length: -1}, true},
		{outgoing{method: "POST", path: "/containers/create", body: strings.NewReader("{}"), length: 2}, false},
	} {
		if got := tt.large(); got != tt.want {
			t.Errorf("%s %s: %t", tt.method, tt.path, got)
		}
	}
}

// A container whose standing is known is asked for once, and is gone when the daemon says so.
func TestInspection(t *testing.T) {
	b := newFake(t, "1.41")
	for range 2 {
		if status, text := b.do(t, http.MethodGet, "/containers/"+idStep+"/json", ""); status != http.StatusOK || strings.Contains(text, "secret") {
			t.Errorf("a step: %d %s", status, text)
		}
		if status, text := b.do(t, http.MethodGet, "/containers/"+idForeign+"/json", ""); status != http.StatusNotFound {
			t.Errorf("another's: %d %s", status, text)
		}
	}
	b.own.containers[idMade] = ofClient // and removed since
	if status, text := b.do(t, http.MethodGet, "/containers/"+idMade+"/json", ""); status != http.StatusNotFound || text != "No such container: "+idMade {
		t.Errorf("one that is gone: %d %s", status, text)
	}
}

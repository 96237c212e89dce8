package dockerd

import (
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
		{"an archive", 30 * time.Microsecond, BufferSize, false},
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
		Request
		want bool
	}{
		{Request{Method: "GET", Path: "/containers/a/archive"}, true},
		{Request{Method: "HEAD", Path: "/containers/a/archive"}, false},
		{Request{Method: "GET", Path: "/containers/a/logs"}, true},
		{Request{Method: "GET", Path: "/images/get"}, true},
		{Request{Method: "GET", Path: "/containers/a/json"}, false},
		{Request{Method: "GET", Path: "/_ping"}, false},
		{Request{Method: "PUT", Path: "/containers/a/archive", Body: strings.NewReader(""), Length: -1}, true},
		{Request{Method: "POST", Path: "/containers/create", Body: strings.NewReader("{}"), Length: 2}, false},
	} {
		if got := tt.large(); got != tt.want {
			t.Errorf("%s %s: %t", tt.Method, tt.Path, got)
		}
	}
}

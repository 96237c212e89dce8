package fairshare

import "testing"

func TestScore(t *testing.T) {
	for own, want := range map[string]int{
		"0\n": 500, "-500\n": 500, // a daemon that the system protects
		"2\n": 502, "999\n": 1000, "1000\n": 1000, // pods of Kubernetes
		"": 500,
	} {
		if got := score(own); got != want {
			t.Errorf("%q: %d, want %d", own, got, want)
		}
	}
	if got := OOMScore(); got < 500 || got > 1000 {
		t.Errorf("%d", got)
	}
}

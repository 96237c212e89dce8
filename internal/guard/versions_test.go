package guard

import (
	"net/http"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
)

// Clients are told of the versions that both sides speak, wherever they look for them, and neither
// they nor the guard use another.
func TestVersions(t *testing.T) {
	for _, tt := range []struct{ daemon, oldest, newest string }{
		{"1.41", "1.24", "1.41"},
		{policy.Versions.Newest, "1.24", policy.Versions.Newest},
		{"1.56", "1.40", policy.Versions.Newest},
	} {
		t.Run(tt.daemon, func(t *testing.T) {
			b := newFake(t, tt.daemon)
			if tt.oldest != "1.24" {
				b.daemon.oldest = tt.oldest
			}
			for _, path := range []string{"/_ping", "/v" + tt.newest + "/info", "/containers/none/json", "/version"} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://docker"+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := b.http.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				if got := resp.Header.Get("Api-Version"); path == "/_ping" && got != tt.newest || got != "" && got != tt.newest {
					t.Errorf("the answer to %s is marked %q, want %s", path, got, tt.newest)
				}
				_ = resp.Body.Close() // only its header was wanted
			}
			_, got := b.do(t, "GET", "/version", "")
			for want, times := range map[string]int{`"ApiVersion":"` + tt.newest + `"`: 2, `"MinAPIVersion":"` + tt.oldest + `"`: 2, `"Version":"20"`: 1, `"GitCommit":"c"`: 1} {
				if strings.Count(got, want) != times {
					t.Errorf("the version is %s, want the daemon's with %s in %d places", got, want, times)
				}
			}
			if status, message := b.do(t, "GET", "/v1.99/info", ""); status != http.StatusBadRequest || !strings.Contains(message, "Maximum supported API version is "+tt.newest) {
				t.Errorf("a newer client is answered %d %s", status, message)
			}
			if status, message := b.do(t, "POST", "/containers/create", `{"Image":"img"}`); status != http.StatusCreated {
				t.Errorf("create is answered %d %s", status, message)
			}
			b.daemon.mu.Lock()
			defer b.daemon.mu.Unlock()
			for _, s := range b.daemon.seen {
				if !strings.HasPrefix(s.Path, "/v"+tt.newest+"/") {
					t.Errorf("the daemon is asked for %s", s.Path)
				}
			}
		})
	}
}

// A daemon that not any more speaks what the guard does is no daemon for it, and the error says
// what is to do.
func TestVersionsTooFarApart(t *testing.T) {
	b := newFake(t, "1.99")
	b.daemon.oldest = "1.90"
	status, message := b.do(t, "GET", "/info", "")
	if status != http.StatusBadGateway || !strings.Contains(message, "1.90 to 1.99") || !strings.Contains(message, "1.24 to "+policy.Versions.Newest) {
		t.Errorf("answered %d %s", status, message)
	}
}

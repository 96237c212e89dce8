package guard

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/docker/docker/api/types"
)

// TestVersions has daemons of all ages: a client is told of no version that the guard doesn't judge, in any of the places where clients look for it.
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                   string
		newest, oldest         string // the daemon's
		wantNewest, wantOldest string
	}{
		{"an old daemon", "1.41", "1.12", "1.41", "1.24"},
		{"a daemon of the guard's age", newestVersion, "1.24", newestVersion, "1.24"},
		{"a newer daemon", "1.99", "1.44", newestVersion, "1.44"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newFake(t, row.newest)
			b.daemon.oldest = row.oldest
			for _, path := range []string{"/_ping", "/version", "/v" + row.wantNewest + "/version", "/containers/json"} {
				header, text := get(t, b, path)
				if got := header.Get("Api-Version"); got != row.wantNewest {
					t.Errorf("the header of %s tells the version %q, want %s", path, got, row.wantNewest)
				}
				if !strings.HasSuffix(path, "/version") {
					continue
				}
				var v types.Version
				if err := json.Unmarshal(text, &v); err != nil {
					t.Fatalf("%s answers %s: %v", path, text, err)
				}
				engine := v.Components[0].Details
				if v.APIVersion != row.wantNewest || v.MinAPIVersion != row.wantOldest || engine["ApiVersion"] != row.wantNewest || engine["MinAPIVersion"] != row.wantOldest || v.Os != "linux" {
					t.Errorf("%s answers %s, want %s to %s", path, text, row.wantOldest, row.wantNewest)
				}
			}
			if row.newest != row.wantNewest {
				status, message := b.do(t, http.MethodGet, "/v"+row.newest+"/containers/json", "")
				if status != http.StatusBadRequest || !strings.Contains(message, "too new. Maximum supported API version is "+newestVersion) {
					t.Errorf("a client of the daemon's own age is answered %d %s", status, message)
				}
			}
		})
	}
	t.Run("a daemon that has left the guard behind", func(t *testing.T) {
		t.Parallel()
		b := newFake(t, "1.99")
		b.daemon.oldest = "1.90"
		if status, message := b.do(t, http.MethodGet, "/_ping", ""); status != http.StatusBadGateway || !strings.Contains(message, "1.90 to 1.99") || !strings.Contains(message, newestVersion) {
			t.Errorf("answers %d %s", status, message)
		}
	})
}

// get is the header and the body of an answer.
func get(t *testing.T, b *fakeBuild, path string) (http.Header, []byte) {
	t.Helper()
	resp, err := b.http.Get("http://docker" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header, text
}

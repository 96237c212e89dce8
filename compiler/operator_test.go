package compiler

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOperatorAuth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	// jane:s3cret
	if err := os.WriteFile(path, []byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"amFuZTpzM2NyZXQ="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		path, image, user string
	}{
		{path, "golang:1.26", "jane"},
		{path, "registry.example.com/golang:1.26", ""},
		{"", "golang:1.26", ""},
	} {
		auth, err := OperatorAuth(t.Context(), row.path, row.image)
		switch {
		case err != nil:
			t.Errorf("%s: %v", row.image, err)
		case row.user == "" && auth != nil:
			t.Errorf("%s: credentials of %q", row.image, auth.Username)
		case row.user != "" && (auth == nil || auth.Username != row.user || auth.Password != "s3cret"):
			t.Errorf("%s: the wrong credentials, or none", row.image)
		}
	}
	if _, err := OperatorAuth(t.Context(), "/nowhere/config.json", "golang"); err == nil {
		t.Error("a file that isn't there is no error")
	}
}

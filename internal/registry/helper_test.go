package registry

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// helper is a program that knows one user for each of some registries.
const helper = `#!/bin/sh
case $1 in
list) echo '{"https://index.docker.io/v1/": "hub", "gone.example.com": "x"}' ;;
get)
  read -r address
  case $address in
  https://index.docker.io/v1/) echo '{"Username": "hub", "Secret": "hub-secret"}' ;;
  token.example.com) echo '{"Username": "<token>", "Secret": "t0ken"}' ;;
  broken.example.com) echo 'the key ring is locked'; exit 1 ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
  esac ;;
esac
`

func TestHelped(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	hub, token := Credentials{HubServer, "hub", "hub-secret"}, Credentials{"token.example.com", TokenUser, "t0ken"}
	for name, row := range map[string]struct {
		config string
		want   []Credentials
		err    string
	}{
		"no helpers":               {`{"auths": {"quay.io": {"auth": "YTpi"}}}`, nil, ""},
		"one for a registry":       {`{"credHelpers": {"token.example.com": "test"}}`, []Credentials{token}, ""},
		"one that knows nothing":   {`{"credHelpers": {"quay.io": "test"}}`, nil, ""},
		"a store":                  {`{"credsStore": "test"}`, []Credentials{hub}, ""},
		"both":                     {`{"credsStore": "test", "credHelpers": {"token.example.com": "test"}}`, []Credentials{token, hub}, ""},
		"one that fails":           {`{"credHelpers": {"broken.example.com": "test"}}`, nil, "the key ring is locked"},
		"one that isn't installed": {`{"credsStore": "nowhere"}`, nil, "docker-credential-nowhere"},
		"one by a path":            {`{"credsStore": "../test"}`, nil, "named by what follows"},
		"no JSON":                  {`{`, nil, "config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(path, []byte(row.config), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Helped(t.Context(), path)
			if (err != nil) != (row.err != "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("error %v, want %q", err, row.err)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("%+v, want %+v", got, row.want)
			}
		})
	}
}

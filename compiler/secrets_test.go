package compiler

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/manifest"
	"github.com/drone/runner-go/registry"
	"github.com/drone/runner-go/secret"
	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// values are the secrets of a step by their variables.
func values(s *spec.Step) map[string]string {
	out := map[string]string{}
	for _, secret := range s.Secrets {
		out[secret.Env] = string(secret.Data)
	}
	return out
}

// encrypt does what `drone encrypt` does.
func encrypt(t *testing.T, key, text string) string {
	t.Helper()
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	return base64.StdEncoding.EncodeToString(gcm.Seal(nonce, nonce, []byte(text), nil))
}

func TestSecretValues(t *testing.T) {
	c, a := testCompiler(), testArgs()
	a.Manifest = &manifest.Manifest{Resources: []manifest.Resource{
		&manifest.Secret{Kind: "secret", Name: "encrypted", Data: encrypt(t, a.Repo.Secret, "sealed")},
		&manifest.Secret{Kind: "secret", Name: "password", Data: encrypt(t, a.Repo.Secret, "loses")},
		&manifest.Secret{Kind: "secret", Name: "foreign", Data: encrypt(t, strings.Repeat("k", 32), "of another repository")},
		&manifest.Secret{Kind: "secret", Name: "both", Data: encrypt(t, a.Repo.Secret, "the file's")},
	}}
	c.Secret = secret.StaticVars(map[string]string{"static": "operator's", "both": "loses", "empty": "", "filled": "the operator's"})
	a.Secrets = append(a.Secrets, &drone.Secret{Name: "filled"})
	a.Pipeline = pipelineOf(&resource.Step{
		Name: "build", Image: "alpine",
		Environment: fromSecrets("encrypted", "password", "foreign", "both", "static", "empty", "filled", "PassWord"),
		Settings:    map[string]*manifest.Parameter{"token": {Secret: "token"}},
	})
	s, err := c.Compile(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"encrypted": "sealed", "password": "pa55word", "PassWord": "pa55word", "both": "the file's", "static": "operator's", "empty": "",
		"filled": "the operator's", "PLUGIN_TOKEN": "t0ken", "foreign": "",
	}
	if diff := cmp.Diff(want, values(s.Steps[0])); diff != "" {
		t.Error(diff)
	}
	if notes := s.Steps[0].Notes; len(notes) != 1 || !strings.Contains(notes[0], `"foreign": it is encrypted in the file, and this repository's key doesn't decrypt it`) {
		t.Errorf("the notes are %q", notes)
	}
	if slices.Contains(s.Secrets(), "of another repository") {
		t.Error("the secret of another repository is there")
	}
}

func TestEncryptedSecretsStayFromForks(t *testing.T) {
	c, a := testCompiler(), testArgs()
	a.Repo.Private, a.Build.Event, a.Build.Fork = false, "pull_request", "fork/lab"
	a.Manifest = &manifest.Manifest{Resources: []manifest.Resource{&manifest.Secret{Kind: "secret", Name: "encrypted", Data: encrypt(t, a.Repo.Secret, "sealed")}}}
	a.Pipeline = pipelineOf(&resource.Step{Name: "build", Image: "alpine", Environment: fromSecrets("encrypted")})
	s, err := c.Compile(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"encrypted": ""}, values(s.Steps[0])); diff != "" || len(s.Steps[0].Notes) != 1 {
		t.Errorf("secrets %q, notes %q", values(s.Steps[0]), s.Steps[0].Notes)
	}
}

func TestMasksHoldEveryCredential(t *testing.T) {
	c, a := testCompiler(), testArgs()
	c.NetrcCloneOnly = true
	c.Proxy = map[string]string{"http_proxy": "http://user:proxy-password@proxy:8080"}
	c.Registry = registry.Static([]*drone.Registry{{Address: "quay.io", Username: "u", Password: "quay-password"}, {Address: "none"}})
	a.Netrc = &drone.Netrc{Machine: "git.example.com", Login: "scm-token", Password: "x-oauth-basic"}
	a.Pipeline = pipelineOf(&resource.Step{Name: "build", Image: "alpine", Environment: fromSecrets("password")})
	a.Pipeline.PullSecrets = []string{"dockerconfig"}
	s, err := c.Compile(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	got := s.Secrets()
	for _, want := range []string{"proxy-password", "quay-password", "hub-password", "reg-password", "scm-token", "x-oauth-basic", "pa55word"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s isn't masked", want)
		}
	}
	if slices.Contains(got, "") {
		t.Error("nothing is masked")
	}
	a.Netrc.Login, a.Netrc.Password = "octo", "secret"
	if s, err = c.Compile(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(s.Secrets(), "octo") {
		t.Error("the name of a user is masked, and with it the repository's")
	}
}

package compiler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/manifest"
	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// plugin is a server that answers as an external provider.
func plugin(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

func failing(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, code) }
}

func TestExternalProviders(t *testing.T) {
	c, a := testCompiler(), testArgs()
	c.Environ = ExternalEnviron(plugin(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"name":"PLAIN","data":"plain"},{"name":"HIDDEN","data":"hidden","mask":true}]`)
	}), "token", false)
	c.Secret = ExternalSecret(plugin(t, func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Name, Path string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		if in.Name == "refused" {
			http.Error(w, "access denied: event", http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(drone.Secret{Data: in.Path + "/" + in.Name})
	}), "token", true)
	c.Registry = ExternalRegistry(plugin(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"address":"docker.io","username":"u","password":"p"}]`)
	}), "token", false)
	a.Manifest = &manifest.Manifest{Resources: []manifest.Resource{
		&manifest.Secret{Kind: "secret", Name: "external", Get: manifest.SecretGet{Path: "kv/lab", Name: "key"}},
		&manifest.Secret{Kind: "secret", Name: "denied", Get: manifest.SecretGet{Path: "kv/lab", Name: "refused"}},
	}}
	a.Pipeline = pipelineOf(&resource.Step{Name: "build", Image: "alpine", Environment: fromSecrets("external", "denied", "undeclared")})
	spec, err := c.Compile(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	build := spec.Steps[0]
	if diff := cmp.Diff(map[string]string{"external": "kv/lab/key", "HIDDEN": "hidden", "denied": "", "undeclared": ""}, values(build)); diff != "" {
		t.Error(diff)
	}
	if build.Env["PLAIN"] != "plain" || build.Auth == nil || build.Auth.Password != "p" {
		t.Errorf("PLAIN is %q, the credentials are %+v", build.Env["PLAIN"], build.Auth)
	}
	if len(build.Notes) != 2 || !strings.Contains(build.Notes[0], `the secret plugin answered "access denied: event`) {
		t.Errorf("the notes are %q", build.Notes)
	}
}

// TestFailingProvidersFailTheBuild: the reference says nothing, and runs the build without what it
// needs.
func TestFailingProvidersFailTheBuild(t *testing.T) {
	external := &manifest.Manifest{Resources: []manifest.Resource{&manifest.Secret{Kind: "secret", Name: "external", Get: manifest.SecretGet{Path: "p", Name: "n"}}}}
	for _, tt := range []struct {
		name string
		set  func(c *Compiler, endpoint string)
		want []string
	}{
		{"environment", func(c *Compiler, endpoint string) { c.Environ = ExternalEnviron(endpoint, "t", false) }, []string{"environment plugin at ENDPOINT", "list the variables for build 42 of octo/lab"}},
		{"secret", func(c *Compiler, endpoint string) { c.Secret = ExternalSecret(endpoint, "t", false) }, []string{`step "build": environment: external: get secret "external"`, "secret plugin at ENDPOINT", "for build 42 of octo/lab"}},
		{"registry", func(c *Compiler, endpoint string) { c.Registry = ExternalRegistry(endpoint, "t", false) }, []string{"registry plugin at ENDPOINT", "list the credentials for build 42 of octo/lab"}},
	} {
		compile := func(t *testing.T, ctx context.Context, endpoint string) error {
			c, a := testCompiler(), testArgs()
			tt.set(c, endpoint)
			a.Manifest = external
			a.Pipeline = pipelineOf(&resource.Step{Name: "build", Image: "alpine", Environment: fromSecrets("external")})
			_, err := c.Compile(ctx, a)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if want = strings.ReplaceAll(want, "ENDPOINT", endpoint); !strings.Contains(err.Error(), want) {
					t.Errorf("error %q says nothing of %q", err, want)
				}
			}
			return err
		}
		t.Run(tt.name+" answers 500", func(t *testing.T) {
			if err := compile(t, t.Context(), plugin(t, failing(500, "out of order"))); !strings.Contains(err.Error(), "out of order") {
				t.Errorf("error %q hides the answer", err)
			}
		})
		t.Run(tt.name+" answers nonsense", func(t *testing.T) {
			compile(t, t.Context(), plugin(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
		})
		t.Run(tt.name+" is away", func(t *testing.T) {
			s := httptest.NewServer(failing(500, ""))
			s.Close()
			compile(t, t.Context(), s.URL)
		})
		t.Run(tt.name+" is given up with the build", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			release := make(chan struct{})
			endpoint := plugin(t, func(http.ResponseWriter, *http.Request) { cancel(); <-release })
			defer close(release)
			compile(t, ctx, endpoint)
		})
	}
}

func TestProviderErrorsHideThePassword(t *testing.T) {
	c, a := testCompiler(), testArgs()
	endpoint := strings.Replace(plugin(t, failing(500, "no")), "http://", "http://user:endpoint-password@", 1)
	c.Registry = ExternalRegistry(endpoint, "t", false)
	a.Pipeline = pipelineOf()
	if _, err := c.Compile(t.Context(), a); err == nil || strings.Contains(err.Error(), "endpoint-password") {
		t.Errorf("error %v", err)
	}
}

func TestRegistryFile(t *testing.T) {
	c, a := testCompiler(), testArgs()
	a.Pipeline = pipelineOf(&resource.Step{Name: "hub", Image: "alpine"}, &resource.Step{Name: "other", Image: "quay.io/a/b"})
	file := filepath.Join(t.TempDir(), "config.json")
	c.Registry = RegistryFile(file)
	if _, err := c.Compile(t.Context(), a); err == nil || !strings.Contains(err.Error(), "docker configuration "+file) {
		t.Errorf("a missing file: error %v", err)
	}
	if err := os.WriteFile(file, []byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"Yjpi"},"docker.io":{"auth":"YTph"},"quay.io":{"auth":"broken"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		spec, err := c.Compile(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		hub, other := spec.Steps[0], spec.Steps[1]
		if hub.Auth == nil || hub.Auth.Username != "a" {
			t.Fatalf("the credentials are %+v, not always the same", hub.Auth)
		}
		if other.Auth != nil || len(other.Notes) != 1 {
			t.Errorf("undecodable credentials: %+v, notes %q", other.Auth, other.Notes)
		}
	}
	c.Registry = RegistryFile("")
	if _, err := c.Compile(t.Context(), a); err != nil {
		t.Errorf("no file: %v", err)
	}
}

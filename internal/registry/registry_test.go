package registry

import "testing"

func TestHost(t *testing.T) {
	for address, want := range map[string]string{
		"docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "registry-1.docker.io": "docker.io", "index.docker.io": "docker.io", "hub.docker.com": "docker.io",
		"Registry.Example.com": "registry.example.com", "https://quay.io": "quay.io", "http://localhost:5000/v2/": "localhost:5000", "10.0.0.1:5000": "10.0.0.1:5000",
		"[::1]:5000": "[::1]:5000", " ghcr.io ": "ghcr.io", "": "",
	} {
		if got := Host(address); got != want {
			t.Errorf("%q is %q, want %q", address, got, want)
		}
	}
	for host, want := range map[string]string{"docker.io": HubServer, "index.docker.io": HubServer, "quay.io": "quay.io"} {
		if got := Server(host); got != want {
			t.Errorf("the server of %q is %q, want %q", host, got, want)
		}
	}
}

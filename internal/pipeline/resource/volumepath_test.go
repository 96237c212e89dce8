package resource

import "testing"

func TestClassifyHostPath(t *testing.T) {
	for kind, paths := range map[PathKind][]string{
		PathSocket: {"/var/run/docker.sock", "/run/docker.sock", "//var/run/../run/docker.sock", "/var/run/docker.sock/", "/run/./docker.sock//",
			"/run/user/1000/docker.sock", "/var/lib/../../run/docker.sock", "/proc/1/root/run/docker.sock"},
		PathSocketDir: {"/var/run", "/run", "/run/", "//run", "/var/run/.", "/var/lib/../run"},
		PathForbidden: {"/", "//", "/..", "/proc", "/proc/self/root", "/sys", "/sys/fs/cgroup", "/dev", "/dev/shm", "/dev/kvm", "/var", "/var/", "/var/lib", "/etc",
			"/var/lib/docker", "/var/lib/docker/volumes", "/var/lib/containerd/", "/var/lib/drone-runner/x", "/etc/docker/daemon.json", "/cache/../etc",
			"/run/containerd/containerd.sock", "/run/podman/podman.sock", "/var/run/secrets", "/tmp/podman.sock", "/run/drone", "", " ", "relative", "./a",
			"~/.docker", "../a", `C:\a`, "/a\x00b", "/a\nb"},
		PathHarmless: {"/cache", "/cache/npm", "/var/ci-docker", "/var/lib/docker2", "/var/cache", "/etc/ssl", "/opt", "/tmp", "/runs", "/devices", "/system",
			"/var/lib/cache/../x", "/a b", "/docker.sock.d/x"},
	} {
		for _, p := range paths {
			if got := ClassifyHostPath(p); got != kind {
				t.Errorf("%q is %s, want %s", p, got, kind)
			}
		}
	}
}

func TestHostPathAllowed(t *testing.T) {
	opened := []string{"/srv/data", "/etc/docker/", "relative", "/", ""}
	for _, tt := range []struct {
		path   string
		opened []string
		want   bool
	}{
		{"/srv/data", opened[:1], true},
		{"/srv/data/x/../y", opened[:1], true},
		{"/srv/data/../x", opened[:1], false},
		{"/srv/database", opened[:1], false},
		{"/srv", opened[:1], false},
		{"/etc/docker/certs", opened[:2], true},
		{"relative/x", opened[:3], false},
		{"/anything", opened, true},
		{"/", opened, false},
		{"/var", opened, false},
		{"/run", opened, false},
		{"/run/docker.sock", opened, false},
		{"/proc/1/root", opened, false},
		{"", opened, false},
		{"/cache", nil, false},
	} {
		if got := HostPathAllowed(tt.path, tt.opened); got != tt.want {
			t.Errorf("%q under %q: %v, want %v", tt.path, tt.opened, got, tt.want)
		}
	}
}

package resource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDockerDaemon(t *testing.T) {
	usual := []string{"/var/run/docker.sock"}
	for _, tt := range []struct {
		name string
		step Step
		want *DockerDaemon
	}{
		{"as in Drone's documentation", Step{Image: "docker:dind", Privileged: true}, &DockerDaemon{Sockets: usual}},
		{"of a version", Step{Image: "docker:20.10.7-dind-alpine3.14"}, &DockerDaemon{Sockets: usual}},
		{"rootless", Step{Image: "docker.io/library/docker:24-dind-rootless"}, &DockerDaemon{Sockets: append(usual, "/var/run/user/1000/docker.sock")}},
		{"of a mirror", Step{Image: "mirror.example.com/library/docker:dind@sha256:0000000000000000000000000000000000000000000000000000000000000000"}, &DockerDaemon{Sockets: usual}},
		{"with options", Step{Image: "docker:dind", Command: []string{"--mtu=1400", "--host", "tcp://0.0.0.0:2375", "-Htcp://:4243", "--host=unix:///drone//docker.sock"}},
			&DockerDaemon{Sockets: []string{"/drone/docker.sock"}, Ports: []int{4243}, Options: []string{"--mtu=1400"}}},
		{"with its program", Step{Image: "docker:dind", Command: []string{"dockerd", "--tls=false"}}, &DockerDaemon{Sockets: usual, Options: []string{"--tls=false"}}},
		{"by an entrypoint", Step{Image: "docker:dind", Entrypoint: []string{"dockerd"}, Commands: []string{"--dns=8.8.8.8"}}, &DockerDaemon{Sockets: usual, Options: []string{"--dns=8.8.8.8"}}},
		{"by an entrypoint of the image", Step{Image: "docker", Entrypoint: []string{"/usr/local/bin/dockerd-entrypoint.sh"}}, &DockerDaemon{Sockets: usual}},
		{"by a script", Step{Image: "docker:dind", Commands: []string{"mkdir -p /etc/docker", `exec dockerd-entrypoint.sh dockerd -H "unix:///var/run/docker.sock" &`}}, &DockerDaemon{Sockets: []string{"/var/run/docker.sock"}}},
		{"by the image without its own", Step{Image: "docker:cli", Command: []string{"dockerd"}}, &DockerDaemon{Sockets: usual}},
		{"an entrypoint that is switched off", Step{Image: "docker:dind", Entrypoint: []string{""}}, &DockerDaemon{Sockets: usual}},
		{"a host that is none", Step{Image: "docker:dind", Command: []string{"-H", "fd://", "--host"}}, &DockerDaemon{Sockets: usual, Options: []string{"--host"}}},

		{"the command line alone", Step{Image: "docker:cli"}, nil},
		{"the command line of the daemon's image", Step{Image: "docker:dind", Commands: []string{"docker version"}}, nil},
		{"a program of the image", Step{Image: "docker:dind", Command: []string{"sh"}}, nil},
		{"an entrypoint of another kind", Step{Image: "docker:dind", Entrypoint: []string{"sh"}}, nil},
		{"somebody's own image", Step{Image: "octo/docker:dind", Privileged: true}, nil},
		{"an image that is none", Step{Image: "Docker:dind:1"}, nil},
		{"no image", Step{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.step.DockerDaemon(true)); diff != "" {
				t.Error(diff)
			}
			if got := tt.step.DockerDaemon(false); got != nil {
				t.Errorf("a step that others wait for is no daemon: %+v", got)
			}
			tt.step.Detach = true
			if diff := cmp.Diff(tt.want, tt.step.DockerDaemon(false)); diff != "" {
				t.Errorf("detached: %s", diff)
			}
		})
	}
}

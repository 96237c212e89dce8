//go:build !unit

package main

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/engine/standin"
)

// The ways in which public pipelines get Docker. Each test runs one as it is written there: it
// builds an image, pushes it to a registry and runs it.

// loopbackRegistry is the address of a registry that the daemon and the guard reach. What the
// daemon has pulled from there goes with the test.
func loopbackRegistry(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	address := strings.TrimPrefix(s.URL, "http://")
	t.Cleanup(func() {
		s.Close()
		forgetImages(t, address)
	})
	return address
}

// forgetImages takes the names of a registry's images away from the daemon. The images stay if they
// have others.
func forgetImages(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	docker, err := engine.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	list, err := docker.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", address+"/*/*"))})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		for _, name := range i.RepoTags {
			if !strings.HasPrefix(name, address+"/") {
				continue
			}
			if _, err := docker.ImageRemove(ctx, name, image.RemoveOptions{}); err != nil {
				t.Errorf("remove %s: %v", name, err)
			}
		}
	}
}

// appFile is the Dockerfile of what the tests build.
const appFile = "FROM IMAGE\nARG GREETING=hello\nRUN echo $GREETING from the image >/greeting\nCMD cat /greeting\n"

// newPlugin is the name of an image that stands in for plugins/docker.
func newPlugin(t *testing.T) string {
	t.Helper()
	ref := "plugins/docker:" + unique("test")
	standin.Plugin(t, ref)
	return ref
}

func TestPluginForm(t *testing.T) {
	t.Parallel()
	yaml := strings.NewReplacer("PLUGIN", newPlugin(t), "REGISTRY", loopbackRegistry(t)).Replace(`
kind: pipeline
type: docker
name: default
steps:
- name: publish
  image: PLUGIN
  pull: never
  settings:
    repo: REGISTRY/octo/app
    registry: REGISTRY
    username: octo
    password: hush
    tags: [ "1", latest ]
    build_args: [ GREETING=hi ]
    storage_driver: vfs
    purge: true
- name: run
  image: REGISTRY/octo/app:1
`)
	// Without --trusted: as on Drone, every repository may use the plugin.
	r := newJob(t, map[string]string{"Dockerfile": appFile, ".drone.yml": yaml}).run(t)
	r.expect(t, 0, "run     | hi from the image\n", "PLUGIN_PURGE is false here", "without effect here: storage_driver", "pipeline default: success")
}

func TestPluginFormGivesNothingElse(t *testing.T) {
	t.Parallel()
	plugin := newPlugin(t)
	for _, row := range []struct{ name, step, want string }{
		{"commands", "commands: [docker version]", "socket | Cannot connect to the Docker daemon"},
		{"an entrypoint", "entrypoint: [/bin/plugin]", "docker daemon of its own"},
	} {
		t.Run(row.name, func(t *testing.T) {
			yaml := "kind: pipeline\nsteps: [{name: socket, image: '" + plugin + "', pull: never, settings: {repo: a/b}, " + row.step + "}]\n"
			newJob(t, map[string]string{".drone.yml": yaml}).run(t).expect(t, 1, row.want)
		})
	}
}

// TestPluginPoisonsNoOtherBuild has a build that nobody trusts give its image the name of one that
// all use.
func TestPluginPoisonsNoOtherBuild(t *testing.T) {
	t.Parallel()
	base := "standin/victim:" + unique("test")
	standin.Named(t, "busybox", base)
	repo, tag, _ := strings.Cut(base, ":")
	poison := strings.NewReplacer("PLUGIN", newPlugin(t), "REPO", repo, "TAG", tag).Replace(`
kind: pipeline
name: default
steps:
- {name: publish, image: PLUGIN, pull: never, settings: {repo: REPO, tags: TAG, dry_run: true}}
- {name: meet, image: "REPO:TAG", pull: never, commands: [test ! -e /poison]}
`)
	newJob(t, map[string]string{"Dockerfile": "FROM IMAGE\nRUN touch /poison\n", ".drone.yml": poison}).run(t).expect(t, 0, "Successfully tagged")
	// Neither a step nor a build upon that name meets it.
	newJob(t, map[string]string{"Dockerfile": "FROM " + base + "\nRUN test ! -e /poison\n", ".drone.yml": poison}).run(t).expect(t, 0, "Successfully tagged")
}

// newForm is a job of a repository that is trusted, in whose files DOCKER is an image with the
// docker command line and REGISTRY a registry. The job's steps build, push and run with the script
// that WORK stands for; its last line of output is the greeting.
func newForm(t *testing.T, yaml string, args ...string) job {
	t.Helper()
	yaml = strings.NewReplacer(
		"WORK", "sh ./work",
		"DOCKER ", standin.Image(t, "docker")+" ",
		"DOCKER\n", standin.Image(t, "docker")+"\n",
	).Replace(yaml)
	return newJob(t, map[string]string{
		"Dockerfile": appFile,
		"work": strings.ReplaceAll(`set -ex
			docker version >/dev/null
			docker build -t app:ci .
			docker tag app:ci REGISTRY/octo/app:1
			docker push REGISTRY/octo/app:1
			docker rmi app:ci REGISTRY/octo/app:1
			docker run --rm REGISTRY/octo/app:1
			`, "REGISTRY", loopbackRegistry(t)),
		".drone.yml": yaml,
	}, append([]string{"--trusted"}, args...)...)
}

// said is the line that tells of a daemon that isn't started.
const said = "no docker daemon is started here: the pipeline's own answers in its place"

func TestDindForms(t *testing.T) {
	for _, row := range []struct{ name, yaml string }{
		{"the socket in a volume, awaited", `
kind: pipeline
name: default
services:
- name: docker
  image: docker:dind
  privileged: true
  volumes: [{name: dockersock, path: /var/run}]
steps:
- name: wait
  image: DOCKER
  pull: never
  environment: {DOCKER_BUILDKIT: 0}
  commands:
  - while [ ! -e /var/run/docker.sock ]; do sleep 1; done
  - WORK
  - echo kept >/var/run/other
  volumes: [{name: dockersock, path: /var/run}]
- name: share
  image: DOCKER
  pull: never
  commands: ["cat /var/run/other", "docker info >/dev/null"]
  volumes: [{name: dockersock, path: /var/run}]
volumes:
- {name: dockersock, temp: {}}
`},
		{"the socket in memory, elsewhere", `
kind: pipeline
name: default
services:
- name: docker
  image: docker:dind-rootless
  volumes: [{name: outer, path: /var/run}]
steps:
- name: outer
  image: DOCKER
  pull: never
  environment: {DOCKER_HOST: "unix:///var/outer-run/docker.sock"}
  commands:
  - docker run --rm standin/busybox:1 echo hello from the image
  - env -u DOCKER_HOST docker info >/dev/null
  - DOCKER_HOST=unix:///var/outer-run/user/1000/docker.sock docker info >/dev/null
  - test "$BUILDX_BUILDER" = default
  volumes: [{name: outer, path: /var/outer-run}]
volumes:
- {name: outer, temp: {medium: memory}}
`},
		{"over TCP", `
kind: pipeline
name: default
services:
- name: docker
  image: docker:20.10-dind
  privileged: true
  environment: {DOCKER_TLS_CERTDIR: ""}
  command: ["--mtu=1400", "--host=tcp://0.0.0.0:4243"]
steps:
- name: tcp
  image: DOCKER
  pull: never
  environment: {DOCKER_BUILDKIT: 0, DOCKER_HOST: "tcp://docker:2375"}
  commands:
  - WORK
  - echo of the step >file
  - docker run --rm -v "$PWD:/src" standin/busybox:1 cat /src/file
  - docker -H tcp://docker:4243 info >/dev/null
  - docker run --rm -e DOCKER_HOST DOCKER docker info >/dev/null
  - test ! -e /var/run/docker.sock
`},
		{"over TLS", `
kind: pipeline
name: default
services:
- name: docker
  image: docker:dind
  privileged: true
  volumes: [{name: certs, path: /certs}]
steps:
- name: tls
  image: DOCKER
  pull: never
  environment: {DOCKER_BUILDKIT: 0, DOCKER_HOST: "tcp://docker:2376", DOCKER_TLS_VERIFY: 1, DOCKER_CERT_PATH: /certs/client}
  commands:
  - until docker info >/dev/null 2>&1; do sleep 1; done
  - WORK
  - printf 'half-closed' | docker run -i --rm standin/busybox:1 cat
  - env -u DOCKER_TLS_VERIFY -u DOCKER_CERT_PATH docker --tls=false info 2>&1 | grep -i "HTTP request to an HTTPS server"
  volumes: [{name: certs, path: /certs}]
volumes:
- {name: certs, temp: {}}
`},
		{"a detached step", `
kind: pipeline
name: default
steps:
- name: daemon
  image: docker:dind
  detach: true
  volumes: [{name: certs, path: /certs/client}]
- name: tls
  image: DOCKER
  pull: never
  user: nobody
  environment: {DOCKER_HOST: "tcp://daemon:2376", DOCKER_TLS_VERIFY: 1, DOCKER_CERT_PATH: /tls, HOME: /tmp}
  commands:
  - docker run --rm standin/busybox:1 echo hello from the image
  volumes: [{name: certs, path: /tls}]
volumes:
- {name: certs, temp: {}}
`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := newForm(t, row.yaml).run(t)
			r.expect(t, 0, " hello from the image\n", said, "pipeline default: success", "!unprivileged", "!error")
		})
	}
}

func TestSocketForms(t *testing.T) {
	const form = `
kind: pipeline
name: default
steps:
- name: docker
  image: DOCKER
  pull: never
  environment: {DOCKER_BUILDKIT: 0}
  commands:
  - WORK
  volumes: [{name: docker, path: PATH}]
volumes:
- {name: docker, host: {path: PATH}}
`
	for _, path := range []string{"/var/run/docker.sock", "/var/run"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			newForm(t, strings.ReplaceAll(form, "PATH", path)).run(t).expect(t, 0, " hello from the image\n", "pipeline default: success")
		})
	}
}

// dapper stands in for rancher/dapper: it makes the Docker calls of that program, whose image a
// step runs and which builds another from Dockerfile.dapper, with the tools of the project, to run
// the project's own script there. Its work folder is bound into that (--mode bind), or copied there
// and its output back (--mode cp).
const dapper = `set -ex
tag=lab:$DRONE_COMMIT_BRANCH
docker build -t $tag -f Dockerfile.dapper .
workdir=$(docker inspect --type image -f '{{range .Config.Env}}{{println .}}{{end}}' $tag | sed -n 's/^DAPPER_SOURCE=//p')
case $1 in
bind)
  docker run -i --rm --name lab-bind -v /var/run/docker.sock:/var/run/docker.sock -v $PWD:$workdir -e UID=$(id -u) $tag ci
  ;;
cp)
  docker create --name lab-cp -v /var/run/docker.sock:/var/run/docker.sock $tag ci
  docker cp . lab-cp:$workdir
  docker start -a lab-cp
  docker cp lab-cp:$workdir/bin .
  docker rm -fv lab-cp
  ;;
esac
`

func TestDapper(t *testing.T) {
	for _, mode := range []string{"bind", "cp"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			yaml := strings.NewReplacer("MODE", mode, "DAPPER", standin.Image(t, "docker")).Replace(`
kind: pipeline
name: default
steps:
- name: ci
  image: DAPPER
  pull: never
  privileged: true
  environment: {DOCKER_BUILDKIT: 0}
  commands:
  - sh ./dapper MODE
  - cat bin/result
  volumes: [{name: docker, path: /var/run/docker.sock}]
volumes:
- {name: docker, host: {path: /var/run/docker.sock}}
`)
			r := newJob(t, map[string]string{
				".drone.yml": yaml,
				"dapper":     dapper,
				"Dockerfile": appFile,
				// The project's own tools are made here of an image that has docker, since its
				// script builds, pushes and runs its product.
				"Dockerfile.dapper": "FROM " + standin.Image(t, "docker") + "\nENV DAPPER_SOURCE=/go/src/lab DOCKER_BUILDKIT=0\nWORKDIR /go/src/lab\nENTRYPOINT [\"sh\", \"./entry\"]\n",
				"entry": strings.ReplaceAll(`set -ex
					test "$1" = ci
					docker build -t app:ci .
					docker tag app:ci REGISTRY/octo/app:1
					docker push REGISTRY/octo/app:1
					mkdir -p bin
					docker run --rm app:ci >bin/result
					`, "REGISTRY", loopbackRegistry(t)),
			}, "--trusted").run(t)
			r.expect(t, 0, "ci | hello from the image\n", "unprivileged, and has Docker all the same", "pipeline default: success")
		})
	}
}

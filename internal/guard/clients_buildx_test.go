//go:build !unit

package guard_test

import (
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

func TestClientBuildx(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	install(b, clientFolder(t), "cli-plugins/docker-buildx")
	plugins(b, "buildx")
	in := words{"image": guardtest.Image, "registry": loopbackRegistry(t)}
	const push = `printf 'FROM {image}\nRUN echo pushed >/p\n' | docker buildx build -q --push -t {registry}/bk:2 -`
	byBuildx := script{name: "push by buildx", run: push + ` | cut -c1-7; docker rmi {registry}/bk:2 >/dev/null; docker pull -q {registry}/bk:2`, want: "sha256: {registry}/bk:2"}
	if b.ContainerdStore() { // the daemon itself would push, by a name that isn't the client's
		byBuildx = script{name: "push by buildx", run: push, fails: "build with --load, and push then"}
	} else {
		t.Cleanup(func() { b.Host("rmi", in["registry"]+"/bk:2") })
	}
	play(t, b, in, []script{
		{name: "ls", run: `docker buildx ls --format '{{.Name}} {{.DriverEndpoint}}' | head -1`, want: "default docker"},
		{name: "context", run: `mkdir -p ctx/sub && echo data >ctx/d && echo deep >ctx/sub/f && echo ignored >ctx/i && echo i >ctx/.dockerignore && printf 'FROM {image} AS one\nARG A=none\nCOPY . /c\nRUN echo $A >/a && date +%%N >>/n\nFROM one\nRUN --mount=type=secret,id=s cat /run/secrets/s >/s\nRUN --mount=type=cache,target=/cache echo x >>/cache/x && wc -l </cache/x >/w\nCMD cat /c/d /c/sub/f /a /s\n' >ctx/Dockerfile && echo hush >secret`, want: ""},
		{name: "build", run: `docker buildx build -q -t bk:1 --build-arg A=arg --secret id=s,src=secret ctx | cut -c1-7; docker run --rm bk:1`, want: "sha256: data deep arg hush"},
		{name: "docker build", run: `docker build -q -t bk:2 --target one --build-arg A=arg ctx | cut -c1-7; docker run --rm bk:2 cat /a`, want: "sha256: arg"},
		{name: "ignored", run: `docker run --rm bk:1 ls /c`, want: "Dockerfile d sub"},
		{name: "from the cache", run: `docker buildx build --progress plain -t bk:1 --build-arg A=arg --secret id=s,src=secret ctx 2>&1 | grep -c CACHED`, want: "4"},
		{name: "upon one's own", run: `printf 'FROM bk:1\nRUN echo upon >/u\n' | docker buildx build -q -t bk:3 - | cut -c1-7; docker run --rm bk:3 cat /u`, want: "sha256: upon"},
		{name: "copied from one's own", run: `printf 'FROM {image}\nCOPY --from=bk:3 /u /v\n' | docker buildx build -q -t bk:4 - >/dev/null; docker run --rm bk:4 cat /v`, want: "upon"},
		{name: "mounted from one's own", run: `printf 'FROM {image}\nRUN --mount=from=bk:3,target=/m cat /m/u >/v\n' | docker buildx build -q -t bk:4 - >/dev/null; docker run --rm bk:4 cat /v`, want: "upon"},
		{name: "output", run: `printf 'FROM {image}\nRUN echo out >/o\nFROM scratch\nCOPY --from=0 /o /\n' | docker buildx build -q -o type=local,dest=result - && cat result/o`, want: "out"},
		{name: "output of a tar", run: `printf 'FROM scratch\nCOPY --from=bk:3 /u /\n' | docker buildx build -q -o type=tar,dest=- - | tar t`, want: "u"},
		{name: "a failing build", run: `printf 'FROM {image}\nRUN echo no; exit 9\n' | docker buildx build -`, fails: "exit code: 9"},
		{name: "push", run: `printf 'FROM {image}\nRUN echo pushed >/p\n' | docker buildx build -q -t {registry}/bk:1 - | cut -c1-7; docker push -q {registry}/bk:1`, want: "sha256: {registry}/bk:1"},
		byBuildx,
		{name: "bake", run: `printf 'group "default" { targets = ["a", "b"] }\ntarget "a" { tags = ["bake:a"] }\ntarget "b" {\ntarget = "one"\ntags = ["bake:b"]\n}\n' >ctx/docker-bake.hcl && cd ctx && printf 'FROM {image} AS one\nRUN echo baked >/b\n' >Dockerfile && docker buildx bake --progress quiet && docker run --rm bake:a cat /b && docker run --rm bake:b cat /b`, want: "baked baked"},
		{name: "imagetools", run: `docker buildx imagetools inspect {registry}/bk:1 | head -1 | cut -d: -f1`, want: "*"},
		{name: "du shows nothing of others", run: `docker buildx du | tail -1`, want: "*"},
		{name: "prune", run: `docker buildx prune -af | tail -1`, want: "*"},
		{name: "entitlements", run: `printf 'FROM {image}\nRUN --network=host true\n' | docker buildx build --allow network.host -`, fails: "network.host"},
		{name: "host network", run: `printf 'FROM {image}\nRUN true\n' | docker buildx build --network host -`, fails: "network"},
	})
}

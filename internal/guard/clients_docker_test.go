//go:build !unit

package guard_test

import (
	"bufio"
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

func TestClientDocker(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	in := words{"image": guardtest.Image, "registry": loopbackRegistry(t)}
	// What is pulled is everybody's.
	t.Cleanup(func() { _, _ = guardtest.Send(guardtest.Daemon, "DELETE", "/images/"+in["registry"]+"/made:1", nil) })
	play(t, b, in, []script{
		{name: "version", run: `docker version -f '{{.Server.Os}}'`, want: "linux"},
		{name: "info", run: `docker info -f '{{.Containers}} {{.Swarm.LocalNodeState}}'`, want: "0 inactive"},
		{name: "run", run: `docker run --rm {image} echo one`, want: "one"},
		{name: "run with an exit code", run: `docker run --rm {image} sh -c 'exit 7' || echo $?`, want: "7"},
		{name: "run -i", run: `echo input | docker run --rm -i {image} tr a-z A-Z`, want: "INPUT"},
		{name: "run -d", run: `docker run -d --name db -p 8080:80 -v data:/data -e A=b --label l=m --health-cmd 'test -d /data' --health-interval 1s {image} sh -c 'echo begun; mkdir /w; echo page >/w/index.html; httpd -p 80 -h /w; while :; do sleep 0.1; done' | wc -c`, want: "65"},
		{name: "run of a name that is taken", run: `docker run --name db {image} true`, fails: `The container name "/db" is already in use`},
		{name: "run of an image that isn't there", run: `docker run --pull never no-such-image:1`, fails: "No such image: no-such-image:1"},
		{name: "run --privileged", run: `docker run --privileged {image} true`, fails: "HostConfig.Privileged is refused"},
		{name: "run -v $PWD", run: `mkdir -p src/sub && echo here >src/sub/f && docker run --rm -v "$PWD/src:/src" {image} cat /src/sub/f`, want: "here"},
		{name: "run -v $PWD, back", run: `docker run --rm -v "$PWD/src:/src" {image} sh -c 'echo back >/src/g' && cat src/g`, want: "back"},
		{name: "run --mount volume", run: `docker run --rm --mount type=volume,source=data,target=/d {image} ls -d /d`, want: "/d"},
		{name: "run --tmpfs", run: `docker run --rm --tmpfs /t:size=1m {image} sh -c 'df /t | tail -1 | cut -d" " -f1'`, want: "tmpfs"},
		{name: "run --network none", run: `docker run --rm --network none {image} sh -c 'ls /sys/class/net'`, want: "lo"},
		{name: "run -m", run: `docker run --rm -m 32m {image} echo ok`, want: "ok"},
		{name: "run -u", run: `docker run --rm -u 1000:1000 {image} id -u`, want: "1000"},
		{name: "run --init --rm -w --hostname", run: `docker run --init --rm -w /tmp --hostname h {image} sh -c 'pwd; hostname'`, want: "/tmp h"},
		{name: "ps", run: `docker ps --format '{{.Names}} {{.Image}} {{.Ports}}' | sed 's/ [0-9.]*:8080/ X:8080/'`, want: "db {image} X:8080->80/tcp"},
		{name: "ps --filter", run: `docker ps -q --filter name=^db$ --filter label=l=m --filter status=running --filter ancestor={image} --filter volume=data | wc -l; docker ps -q --filter name=no | wc -l`, want: "1 0"},
		{name: "port", run: `docker port db 80/tcp | cut -d: -f2`, want: "8080"},
		{name: "inspect", run: `docker inspect -f '{{.Name}} {{(index .Mounts 0).Name}} {{.HostConfig.NetworkMode}} {{.Config.Image}}' db`, want: "/db data bridge {image}"},
		{name: "exec", run: `docker exec db echo in`, want: "in"},
		{name: "exec -i", run: `echo text | docker exec -i db cat`, want: "text"},
		{name: "exec with an exit code", run: `docker exec db sh -c 'exit 3' || echo $?`, want: "3"},
		{name: "exec -d", run: `docker exec -d db touch /done && timeout 300 sh -c 'until docker exec db ls /done 2>/dev/null; do sleep 0.2; done'`, want: "/done"},
		{name: "exec --privileged", run: `docker exec --privileged db true`, fails: "Privileged is refused"},
		{name: "cp in", run: `echo content >file && docker cp file db:/file && docker exec db cat /file`, want: "content"},
		{name: "cp out", run: `docker cp db:/file out && cat out`, want: "content"},
		{name: "cp of a folder", run: `docker cp src db:/tree && docker exec db cat /tree/sub/f && docker cp db:/tree - | tar t | sort`, want: "here tree/ tree/g tree/sub/ tree/sub/f"},
		{name: "logs", run: `docker logs db`, want: "begun"},
		{name: "logs -f", run: `docker run -d --name talks {image} sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done' >/dev/null; docker logs -f talks; docker wait talks >/dev/null; docker rm talks`, want: "1 2 3 talks"},
		{name: "logs --tail --timestamps", run: `docker logs --tail 1 -t db | cut -d' ' -f2`, want: "begun"},
		{name: "attach", run: `docker run -d -i --name waits {image} sh -c 'read x; echo got $x' >/dev/null; (echo word; sleep 1) | docker attach waits; docker rm waits`, want: "got word waits"},
		{name: "wait", run: `docker run -d --name ends {image} sh -c 'sleep 0.5; exit 4' >/dev/null; docker wait ends; docker rm ends`, want: "4 ends"},
		{name: "stats", run: `docker stats --no-stream --format '{{.Name}}'`, want: "db"},
		{name: "top", run: `docker top db | head -1 | grep -c PID`, want: "1"},
		{name: "diff", run: `docker diff db | grep -c /file`, want: "1"},
		{name: "update", run: `docker update --cpu-shares 512 db && docker inspect -f '{{.HostConfig.CpuShares}}' db`, want: "db 512"},
		{name: "rename", run: `docker rename db base && docker rename base db && docker ps --format '{{.Names}}'`, want: "db"},
		{name: "events of the past", run: `sleep 1; docker events --since 1h --until 0s --filter container=db --filter event=rename --format '{{.Actor.Attributes.name}}' | sort -u`, want: "db"},
		{name: "pause", run: `docker pause db && docker unpause db`, want: "db db"},
		{name: "stop, start, restart", run: `docker stop -t 0 db && docker start db && docker restart -t 0 db && docker kill db && docker start db`, want: "db db db db db"},
		{name: "a health check", run: `for i in $(seq 1000); do s=$(docker inspect -f '{{.State.Health.Status}}' db); [ $s = healthy ] && break; sleep 0.1; done; echo $s`, want: "healthy"},
		{name: "DNS of the step", run: `timeout 300 sh -c 'until wget -qO- http://db/; do sleep 0.2; done'`, want: "page"},
		{name: "DNS of a sibling", run: `docker run --rm {image} wget -qO- http://db/`, want: "page"},
		{name: "a published port", run: `docker run --rm {image} wget -qO- http://host.docker.internal:8080/`, want: "page"},
		{name: "a published port from the step", run: `wget -qO- http://$(docker network inspect -f '{{(index .IPAM.Config 0).Gateway}}' bridge):8080/`, want: "page"},
		{name: "export and import", run: `docker export db | docker import - made:imported | cut -c1-7; docker run --rm made:imported cat /file`, want: "sha256: content"},
		{name: "commit", run: `docker commit -m message db made:committed | cut -c1-7; docker run --rm made:committed cat /file`, want: "sha256: content"},
		{name: "images", run: `docker images --format '{{.Repository}}:{{.Tag}}' made | sort`, want: "made:committed made:imported"},
		{name: "tag", run: `docker tag made:committed {registry}/made:1 && docker image inspect -f '{{index .RepoTags}}' {registry}/made:1 | grep -c '{registry}/made:1'`, want: "1"},
		{name: "history", run: `docker history -q made:committed | head -1 | wc -l`, want: "1"},
		{name: "save and load", run: `docker save -o saved.tar made:committed && docker rmi made:committed >/dev/null && docker load -i saved.tar`, want: "Loaded image: made:committed"},
		{name: "save and load of a pipe", run: `docker save made:committed | docker load -q`, want: "Loaded image: made:committed"},
		{name: "push", run: `docker push -q {registry}/made:1`, want: "{registry}/made:1"},
		{name: "rmi", run: `docker rmi {registry}/made:1 >/dev/null && docker images -q {registry}/made:1`, want: ""},
		{name: "pull", run: `docker pull -q {registry}/made:1 && docker run --rm {registry}/made:1 cat /file`, want: "{registry}/made:1 content"},
		{name: "build, classic", run: `mkdir -p ctx && echo data >ctx/d && printf 'FROM {image}\nCOPY d /d\nRUN cat /d >/e && echo more >>/e\nCMD cat /e\n' >ctx/Dockerfile && DOCKER_BUILDKIT=0 docker build -q -t built:1 ctx 2>/dev/null | cut -c1-7 && docker run --rm built:1`, want: "sha256: data more"},
		{name: "build upon one's own, classic", run: `printf 'FROM built:1\nRUN echo third >>/e\n' | DOCKER_BUILDKIT=0 docker build -q -t built:2 - 2>/dev/null | cut -c1-7 && docker run --rm built:2`, want: "sha256: data more third"},
		{name: "network", run: `docker network create n | wc -c; docker run -d --name peer --network n --network-alias alias {image} sleep 1000 >/dev/null; docker run --rm --network n {image} sh -c 'nslookup peer >/dev/null && nslookup alias >/dev/null && echo found'; docker network ls --format '{{.Name}}' | sort; docker network inspect -f '{{.Name}}' n`, want: "65 found bridge n n"},
		{name: "network connect", run: `docker network connect n db && docker exec db sh -c 'ls /sys/class/net' && docker network disconnect n db`, want: "eth0 eth1 lo"},
		{name: "network rm", run: `docker rm -f peer >/dev/null; docker network rm n`, want: "n"},
		{name: "network --driver host", run: `docker network create -d macvlan m`, fails: "Driver"},
		{name: "volume", run: `docker volume create v2 && docker volume ls -q | sort && docker volume inspect -f '{{.Name}} {{.Driver}}' v2 && docker volume rm v2`, want: "v2 data v2 v2 local v2"},
		{name: "volume --opt", run: `docker volume create --opt type=none --opt o=bind --opt device=/ bad`, fails: "DriverOpts"},
		{name: "system df", run: `docker system df --format '{{.Type}} {{.TotalCount}}' | grep -E 'Containers|Volumes'`, want: "Containers 1 Local Volumes 1"},
		{name: "search for what isn't", run: `docker run --rm -v /etc:/etc2 {image} true`, fails: "HostConfig.Binds"},
		{name: "container prune", run: `docker create --name idle {image} >/dev/null; docker container prune -f | grep -c '^[0-9a-f]\{64\}$'; docker ps -a --format '{{.Names}}'`, want: "1 db"},
		{name: "network and volume prune", run: `docker network create unused >/dev/null; docker volume create unused >/dev/null; docker network prune -f | grep -c unused; docker volume ls -q | sort`, want: "1 data unused"},
		{name: "image prune", run: `docker image prune -f | tail -1`, want: "Total reclaimed space: 0B"},
		{name: "system prune", run: `docker system prune -f --volumes | tail -1 | cut -d: -f1; docker ps --format '{{.Names}}'`, want: "Total reclaimed space db"},
		{name: "rm", run: `docker rm -f db && docker ps -aq`, want: "db"},
	})
}

func TestClientTerminal(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	out, err := terminal(t.Context(), b, "", "docker run --rm -it "+guardtest.Image+` sh -c 'test -t 0 && test -t 1 && stty size && echo terminal'`)
	if err != nil || !strings.Contains(out, "terminal") {
		t.Errorf("run -it prints %q: %v", out, err)
	}
	b.Docker("run", "-d", "--name", "shell", guardtest.Image, "sleep", "1000")
	out, err = terminal(t.Context(), b, "echo typed\nexit 5\n", "docker exec -it shell sh")
	if err == nil || err.Error() != "exit status 5" || !strings.Contains(out, "typed") {
		t.Errorf("exec -it prints %q: %v", out, err)
	}
}

// TestClientEvents follows events while they happen: one's own, and no others.
func TestClientEvents(t *testing.T) {
	t.Parallel()
	b, other := guardtest.Start(t), guardtest.Start(t)
	cmd := exec.CommandContext(t.Context(), "docker", "-H", "unix://"+b.Socket, "events", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	var reading sync.WaitGroup
	reading.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			mu.Lock()
			got = append(got, s.Text())
			mu.Unlock()
		}
	})
	// Events are told to those who listen already, and when that begins can't be seen: so both
	// builds act until one's own come.
	seen := eventually(func() bool {
		other.Docker("create", "--name", "foreign", guardtest.Image)
		b.Docker("create", "--name", "seen", guardtest.Image)
		b.Docker("rm", "seen")
		other.Docker("rm", "foreign")
		mu.Lock()
		defer mu.Unlock()
		return len(got) > 3
	})
	_ = cmd.Process.Kill()
	reading.Wait()
	_ = cmd.Wait() // it was killed
	text := strings.Join(got, ",")
	if !seen || !strings.Contains(text, "container create seen,container destroy seen") || strings.Contains(text, "foreign") {
		t.Errorf("events are %q", got)
	}
}

// TestClientLarge carries more through the guard than any buffer holds, both ways at once.
func TestClientLarge(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	out, err := pipe(t.Context(), b, bytes.NewReader(data), "run", "--rm", "-i", guardtest.Image, "cat")
	if err != nil || out != string(data) {
		t.Errorf("of %d bytes %d come back: %v", len(data), len(out), err)
	}
}

//go:build !unit

package guard_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// TestClientTwoBuilds has two stages that do the same at the same time, with the same names and
// ports.
func TestClientTwoBuilds(t *testing.T) {
	t.Parallel()
	folder := clientFolder(t)
	builds := map[string]*guardtest.Build{"one": guardtest.Start(t), "two": guardtest.Start(t)}
	var both sync.WaitGroup
	for name, b := range builds {
		install(b, folder, "cli-plugins/docker-compose")
		plugins(b, "compose")
		both.Go(func() {
			for _, s := range []script{
				{name: "network create", run: `docker network create n >/dev/null; docker network ls --format '{{.Name}}' | sort`, want: "bridge n"},
				{name: "volume create", run: `docker volume create vol; docker volume inspect -f '{{.Name}}' vol`, want: "vol vol"},
				{name: "run", run: `echo {me} >me; docker run -d --name db -p 8080:80 -v vol:/v -v "$PWD:/www" {image} sh -c 'cp /www/me /v/ && httpd -f -p 80 -h /www' >/dev/null; docker ps --format '{{.Names}}'`, want: "db"},
				{name: "run into the network", run: `docker run -d --name peer --network n {image} sh -c 'echo {me} >me && httpd -f -p 80' >/dev/null; docker run --rm --network n {image} timeout 300 sh -c 'until wget -qO- http://peer/me; do sleep 0.2; done'`, want: "{me}"},
				{name: "volume", run: `docker run --rm -v vol:/v {image} cat /v/me`, want: "{me}"},
				{name: "name from the step", run: `timeout 300 sh -c 'until wget -qO- http://db/me; do sleep 0.2; done'`, want: "{me}"},
				{name: "name from a sibling", run: `docker run --rm {image} wget -qO- http://db/me`, want: "{me}"},
				{name: "port", run: `docker run --rm {image} wget -qO- http://host.docker.internal:8080/me`, want: "{me}"},
				{name: "compose", run: composeFile + ` && sed -i 's/8080:80/8090:80/' compose.yml && echo {me} >www/index.html && docker compose up -d --quiet-pull >/dev/null 2>&1; docker wait src-check-1 >/dev/null; docker run --rm {image} wget -qO- http://host.docker.internal:8090/`, want: "{me}"},
				{name: "list", run: `docker ps --format '{{.Names}}' | sort`, want: "db peer src-db-1 src-web-1"},
				{name: "error", run: `docker run --name db {image} true 2>&1 | grep -o 'name "[^ ]*"'`, want: `name "/db"`},
			} {
				in := words{"image": guardtest.Image, "me": name}
				out, err := b.TryInStep(in.in(s.run))
				if got := strings.Join(strings.Fields(out), " "); err != nil || got != in.in(s.want) {
					t.Errorf("build %s: %s prints %q, want %q: %v", name, s.name, got, in.in(s.want), err)
				}
			}
		})
	}
	both.Wait()

	// What one has, the other doesn't reach: by the name it's its own or nothing, and addresses of
	// containers are behind the daemon's firewall.
	one, two := builds["one"], builds["two"]
	two.Docker("rm", "-f", "db")
	if out, err := two.TryInStep("docker run --rm " + guardtest.Image + " timeout 3 wget -qO- http://host.docker.internal:8080/me"); err == nil {
		t.Errorf("build two gets %q from a port that only build one publishes", out)
	}
	address := strings.TrimSpace(one.Docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "db"))
	if out, err := two.TryInStep("timeout 3 wget -qO- http://" + address + "/me"); err == nil {
		t.Errorf("build two gets %q from a container of build one", out)
	}
}

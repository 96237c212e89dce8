//go:build !unit

package guard_test

import (
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// composeFile has what compose files have: networks, volumes of all kinds, ports, health checks
// that others wait for.
const composeFile = `cat >compose.yml <<'EOF'
services:
  db:
    image: {image}
    command: sh -c 'sleep 1; touch /data/ready; sleep 1000'
    init: true
    volumes: ["data:/data"]
    networks: [back]
    restart: unless-stopped
    healthcheck: {test: ["CMD", "test", "-e", "/data/ready"], interval: 1s, retries: 300}
  web:
    image: {image}
    command: httpd -f -p 80 -h /www
    init: true
    volumes: ["./www:/www:ro"]
    ports: ["8080:80"]
    networks: [front, back]
    depends_on: {db: {condition: service_healthy}}
  check:
    image: {image}
    command: timeout 300 sh -c 'until wget -qO- http://web/; do sleep 0.2; done; nslookup db >/dev/null && echo found'
    networks: [back]
    depends_on: [web]
networks:
  front:
  back:
    internal: true
volumes:
  data:
EOF
mkdir -p www && echo page >www/index.html`

func TestClientCompose(t *testing.T) {
	t.Parallel()
	b := guardtest.Start(t)
	install(b, clientFolder(t), "cli-plugins/docker-compose")
	plugins(b, "compose")
	play(t, b, words{"image": guardtest.Image}, []script{
		{name: "file", run: composeFile, want: ""},
		{name: "config", run: `docker compose config --services | sort`, want: "check db web"},
		{name: "up", run: `docker compose up -d --quiet-pull 2>&1 | tail -1 | grep -c Started`, want: "1"},
		{name: "the check ends", run: `docker wait src-check-1`, want: "0"},
		{name: "ps", run: `docker compose ps --format '{{.Service}} {{.State}}' | sort`, want: "db running web running"},
		{name: "names", run: `docker ps --format '{{.Names}}' | sort`, want: "src-db-1 src-web-1"},
		{name: "logs", run: `docker compose logs --no-log-prefix check | sed "s/.*2K//"`, want: "page found"},
		{name: "exec", run: `docker compose exec -T web cat /www/index.html`, want: "page"},
		{name: "run", run: `docker compose run --rm -T check sh -c 'echo ran' 2>/dev/null`, want: "ran"},
		{name: "a port", run: `docker run --rm {image} wget -qO- http://host.docker.internal:8080/`, want: "page"},
		{name: "port", run: `docker compose port web 80 | cut -d: -f2`, want: "8080"},
		{name: "up again changes nothing", run: `docker compose up -d --quiet-pull 2>&1 | grep -c -E 'Recreate|Creating' || true`, want: "0"},
		{name: "a change", run: `sed -i 's/8080:80/8081:80/' compose.yml && docker compose up -d --quiet-pull >/dev/null 2>&1 && docker compose port web 80 | cut -d: -f2`, want: "8081"},
		{name: "scale", run: `sed -i '/8081:80/d' compose.yml && docker compose up -d --quiet-pull --scale web=2 >/dev/null 2>&1 && docker compose ps -q web | wc -l`, want: "2"},
		{name: "stop and start", run: `docker compose stop -t 1 2>/dev/null && docker compose start 2>/dev/null && docker compose ps -a --format '{{.Service}}' | sort -u`, want: "check db web"},
		{name: "what is refused says so", run: `printf 'services: {a: {image: "{image}", privileged: true}}' | docker compose -p other -f - up -d`, fails: "HostConfig.Privileged is refused"},
		{name: "down", run: `docker compose down -t 1 -v --remove-orphans 2>/dev/null; docker compose -p other down 2>/dev/null; docker ps -aq; docker network ls --format '{{.Name}}'; docker volume ls -q`, want: "bridge"},
	})
}

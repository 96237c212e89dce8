//go:build !unit

package guard_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/guardtest"
)

// TestCacheMounts: what RUN --mount=type=cache keeps is there for the next build of the same scope,
// and for no other, whatever id or namespace it writes. Without scopes one stage finds what any
// other left: that the way is real.
func TestCacheMounts(t *testing.T) {
	t.Parallel()
	scope := func(name string) *guardtest.Build {
		b := guardtest.Start(t, func(o *guard.Options) { o.CacheScope = name })
		install(b, clientFolder(t), "cli-plugins/docker-buildx")
		plugins(b, "buildx")
		return b
	}
	mine, again, other, open, stranger := scope("abc1"), scope("abc1"), scope("abc2"), scope(""), scope("")
	dockerfile := func(id string) string {
		return fmt.Sprintf("FROM %s\nARG WHO\nRUN --mount=type=cache,id=%s,target=/cache echo $WHO >>/cache/log; cp /cache/log /log\n", guardtest.Image, id)
	}
	ways := map[string]func(b *guardtest.Build, who, id, namespace string) (string, error){
		"buildx": func(b *guardtest.Build, who, id, namespace string) (string, error) {
			return b.TryInStep(fmt.Sprintf("printf '%s' | docker buildx build -q -t seen --build-arg WHO=%s --build-arg BUILDKIT_CACHE_MOUNT_NS=%s - >/dev/null",
				strings.ReplaceAll(dockerfile(id), "\n", `\n`), who, namespace))
		},
		"POST build": func(b *guardtest.Build, who, id, namespace string) (string, error) {
			q := url.Values{"version": {"2"}, "t": {"seen"}, "buildargs": {fmt.Sprintf(`{"WHO":%q,"BUILDKIT_CACHE_MOUNT_NS":%q}`, who, namespace)}}
			a, err := guardtest.Send(b.Socket, "POST", "/build?"+q.Encode(), string(pack(entry{name: "Dockerfile", text: dockerfile(id)})))
			return a.Body, err
		},
	}
	for name, build := range ways {
		t.Run(name, func(t *testing.T) {
			id := "cache-" + mine.ID + "-" + strings.Fields(name)[0]
			for _, row := range []struct {
				b                  *guardtest.Build
				who, id, namespace string
				want               string
			}{
				{mine, "one", id, "", "one"},
				{again, "two", id, "", "one two"},
				{other, "three", id, "", "three"},
				{other, "four", "../" + id, "", "four"},
				{other, "five", id, "..", "five"},
				{other, "six", id, "x", "six"},
				{mine, "seven", id, "", "one two seven"},
				{mine, "eight", id, "x", "eight"},
				{again, "nine", id, "x", "eight nine"},
				{open, "ten", "open-" + id, "", "ten"},
				{stranger, "eleven", "open-" + id, "", "ten eleven"},
			} {
				if out, err := build(row.b, row.who, row.id, row.namespace); err != nil {
					t.Fatalf("%s: %v\n%s", row.who, err, out)
				}
				if got := strings.Join(strings.Fields(row.b.Docker("run", "--rm", "seen", "cat", "/log")), " "); got != row.want {
					t.Errorf("%s finds %q, want %q", row.who, got, row.want)
				}
			}
		})
	}
}

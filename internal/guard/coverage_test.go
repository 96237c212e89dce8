package guard

import (
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
)

// mobySource is the folder of the module github.com/docker/docker.
func mobySource(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/docker/docker").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestEveryRouteIsNamed walks the endpoints in the source of moby's routers and in its API's
// description, with their query parameters.
func TestEveryRouteIsNamed(t *testing.T) {
	dir := mobySource(t)
	variable := regexp.MustCompile(`\{[^}]*\}`)
	find := func(method, pattern string) *route {
		p := variable.ReplaceAllString(strings.TrimSuffix(pattern, "/"), "x")
		rt, _ := match(method, strings.Split(strings.TrimPrefix(p, "/"), "/"))
		if rt == nil {
			t.Errorf("no route names %s %s", method, pattern)
		}
		return rt
	}

	files, err := filepath.Glob(filepath.Join(dir, "api/server/router/*/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	routeCall := regexp.MustCompile(`router\.New(Get|Post|Put|Delete|Head|Options)Route\(\s*"([^"]+)"`)
	n := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range routeCall.FindAllStringSubmatch(string(text), -1) {
			if m[1] == "Options" { // answers anything to browsers; no client of the API uses it
				continue
			}
			find(strings.ToUpper(m[1]), m[2])
			n++
		}
	}
	if n < 100 {
		t.Errorf("only %d routes found in moby's source: has it moved?", n)
	}

	text, err := os.ReadFile(filepath.Join(dir, "api/swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
		}
	}
	if err := yaml.Unmarshal(text, &api); err != nil {
		t.Fatal(err)
	}
	for pattern, methods := range api.Paths {
		for method, op := range methods {
			rt := find(strings.ToUpper(method), pattern)
			if rt == nil {
				continue
			}
			for _, p := range op.Parameters {
				if p.In == "query" && !rt.takes(p.Name) {
					t.Errorf("%s %s has the query parameter %q, which its route doesn't name", method, pattern, p.Name)
				}
			}
		}
	}
}

// TestRoutesAreReachable shows that no route hides behind another.
func TestRoutesAreReachable(t *testing.T) {
	for i := range routes {
		p := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(routes[i].pattern, "zz")
		got, _ := match(routes[i].method, strings.Split(p[1:], "/"))
		if got != &routes[i] {
			t.Errorf("%s %s is answered by another route: %+v", routes[i].method, routes[i].pattern, got)
		}
	}
}

func TestSplitPath(t *testing.T) {
	for _, tt := range []struct {
		name, target, version, want string
		bad                         bool
	}{
		{"versioned", "/v1.41/containers/json", "1.41", "containers json", false},
		{"plain", "/containers/json", "", "containers json", false},
		{"escaped letters, once", "/v1.41/%63ontainers/json", "1.41", "containers json", false},
		{"escaped slash", "/images/a%2Fb/json", "", "images a b json", false},
		{"networks with a slash", "/networks/", "", "networks", false},
		{"empty segment", "//containers/json", "", "", true},
		{"empty segment inside", "/containers//json", "", "", true},
		{"slash at the end", "/containers/json/", "", "", true},
		{"dots", "/v1.41/../containers/json", "", "", true},
		{"escaped dots", "/v1.41/%2e%2e/containers/json", "", "", true},
		{"dot", "/./containers/json", "", "", true},
		{"escaped twice", "/containers/%252e%252e/json", "", "", true},
		{"backslash", `/containers\json`, "", "", true},
		{"null", "/containers/%00/json", "", "", true},
		{"line feed", "/containers/%0a/json", "", "", true},
		{"version 2", "/v2.0/containers/json", "", "", true},
		{"version of four digits", "/v1.1234/containers/json", "", "", true},
		{"version with three parts", "/v1.41.0/containers/json", "", "", true},
		{"version with a zero", "/v1.041/containers/json", "", "", true},
		{"version twice", "/v1.41/v1.41/info", "1.41", "v1.41 info", false}, // no route has it
		{"version in capitals", "/V1.41/info", "", "V1.41 info", false},
		{"not UTF-8", "/containers/%ff/json", "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.ParseRequestURI(tt.target)
			if err != nil {
				t.Fatal(err)
			}
			version, segments, err := splitPath(u)
			if (err != nil) != tt.bad {
				t.Fatalf("error %v", err)
			}
			if got := strings.Join(segments, " "); err == nil && (got != tt.want || version != tt.version) {
				t.Errorf("%q %q", version, got)
			}
		})
	}
}

func FuzzRouter(f *testing.F) {
	for _, s := range []string{"/v1.41/containers/json?all=1", "/containers/a/json", "/images/a%2fb:c/json", "//x", "/v1.41/..%2f", "/networks/?filters={}"} {
		f.Add("GET", s)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		version, segments, err := splitPath(u)
		if err != nil {
			return
		}
		if _, ok := apiversion.Minor(version); version != "" && !ok {
			t.Errorf("version %q", version)
		}
		rt, vars := match(method, segments)
		if rt == nil {
			return
		}
		// The path that a handler builds from the parts must be the path that was asked for, and
		// mean the same to every server.
		rebuilt := rt.pattern
		for k, v := range vars {
			if v == "" || strings.Contains("/"+v+"/", "/../") || strings.Contains(v, "//") {
				t.Errorf("variable %s is %q", k, v)
			}
			rebuilt = strings.NewReplacer("{"+k+"}", v, "{"+k+"...}", v).Replace(rebuilt)
		}
		if want := "/" + strings.Join(segments, "/"); rebuilt != want {
			t.Errorf("%s becomes %s", want, rebuilt)
		}
		if q, _, err := checkQuery(u.RawQuery, rt.query); err == nil {
			for _, k := range slices.Collect(maps.Keys(q)) {
				if known := strings.Fields(rt.query); !slices.Contains(known, k) && !slices.Contains(known, k+"+") && !slices.Contains(known, "^"+k) {
					t.Errorf("parameter %q passes", k)
				}
			}
		}
	})
}

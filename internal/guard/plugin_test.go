package guard

import (
	"net/http"
	"strings"
	"testing"
)

// TestImageRoutesExist finds rows of the plugins' table that no request can mean: they would say
// something of the policy that isn't so.
func TestImageRoutesExist(t *testing.T) {
	known := map[string]bool{}
	for _, rt := range routes {
		known[rt.method+" "+rt.pattern] = true
	}
	for row := range imageRoutes {
		if !known[row] {
			t.Errorf("there is no route %q", row)
		}
	}
}

// TestPluginsMakeNothingButImages names what a plugin may change, so that a row more is thought
// about twice.
func TestPluginsMakeNothingButImages(t *testing.T) {
	for row := range imageRoutes {
		method, pattern, _ := strings.Cut(row, " ")
		if method == http.MethodGet || method == http.MethodHead || strings.HasSuffix(pattern, "/prune") {
			continue
		}
		switch {
		case strings.HasPrefix(pattern, "/images/"):
		case pattern == "/build", pattern == "/build/cancel", pattern == "/session", pattern == "/grpc", pattern == "/auth":
		default:
			t.Errorf("%s has nothing to do with images", row)
		}
	}
}

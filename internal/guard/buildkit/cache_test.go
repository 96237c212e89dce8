package buildkit

import (
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
)

// TestSharedCacheIsHonest shows what reaches BuildKit of requests that would leave, in the cache of
// all builds, something else than a step makes.
func TestSharedCacheIsHonest(t *testing.T) {
	p := imageProxy(t)
	entry := []*controlapi.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{"ref": "attack.test/claims:1"}}}
	b, err := solveRequest(t.Context(), &call{p: p}, marshal(t, &controlapi.SolveRequest{
		Ref: "r", Frontend: "dockerfile.v0",
		FrontendAttrs: map[string]string{"cache-imports": `[{"Type":"registry","Attrs":{"ref":"x"}}]`, "cache-from": "x", "build-arg:HTTP_PROXY": "http://proxy.test:1", "add-hosts": "a=1.2.3.4"},
		Cache:         &controlapi.CacheOptions{Imports: entry, Exports: entry, ImportRefsDeprecated: []string{"x"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var m controlapi.SolveRequest
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Cache.Imports)+len(m.Cache.ImportRefsDeprecated) > 0 || m.FrontendAttrs["cache-imports"]+m.FrontendAttrs["cache-from"] != "" || len(m.Cache.Exports) != 1 {
		t.Errorf("a cache is read: %v", &m)
	}
	if hosts := m.FrontendAttrs["add-hosts"]; !strings.HasPrefix(hosts, "a=1.2.3.4,proxy-") || !strings.HasSuffix(hosts, ".invalid=127.0.0.1") {
		t.Errorf("the proxy isn't part of the steps: %q", hosts)
	}
	b, err = bridgeSolve(t.Context(), &call{p: p, ref: "r"}, marshal(t, &gatewayapi.SolveRequest{Frontend: "dockerfile.v0", CacheImports: []*gatewayapi.CacheOptionsEntry{{Type: "registry"}}}))
	if err != nil {
		t.Fatal(err)
	}
	var part gatewayapi.SolveRequest
	if err := proto.Unmarshal(b, &part); err != nil || len(part.CacheImports) > 0 {
		t.Errorf("a frontend reads a cache: %v %v", &part, err)
	}
	proxied := result(t, execOp(&pb.ExecOp{Meta: &pb.Meta{Args: []string{"true"}, ProxyEnv: &pb.ProxyEnv{HttpProxy: "http://proxy.test:1"}}, Mounts: []*pb.Mount{{Dest: "/", Input: -1}}}))
	if err := p.definition(t.Context(), proxied, 0); err == nil || !strings.Contains(err.Error(), "proxy") {
		t.Errorf("a step with a proxy of its own: %v", err)
	}
}

package policy

import "testing"

// TestProxyScope has builds that go through proxies: those with the same share steps.
func TestProxyScope(t *testing.T) {
	scope := func(kv ...string) string {
		args := map[string]*string{}
		for i := 0; i < len(kv); i += 2 {
			args[kv[i]] = &kv[i+1]
		}
		return ProxyScope(args)
	}
	for _, none := range []string{scope(), scope("X", "y"), scope("no_proxy", "y"), scope("http_proxy", "")} {
		if none != "" {
			t.Errorf("a build without a proxy has the scope %q", none)
		}
	}
	one := scope("HTTP_PROXY", "http://proxy.test:1", "X", "y")
	if one == "" || one != scope("HTTP_PROXY", "http://proxy.test:1") {
		t.Errorf("two builds with the same proxy have two scopes: %q", one)
	}
	for _, other := range []string{scope("HTTP_PROXY", "http://proxy.test:2"), scope("https_proxy", "http://proxy.test:1"), scope("HTTP_PROXY", "http://proxy.test:1", "ALL_PROXY", "x")} {
		if other == "" || other == one {
			t.Errorf("another proxy has the scope %q", other)
		}
	}
}

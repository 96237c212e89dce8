package bridge_test

import (
	"strings"
	"testing"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
)

func TestOf(t *testing.T) {
	a, b := bridge.Of("a"), bridge.Of("b")
	const ifnamsiz = 16 // with the zero byte at its end
	if a == b || len(a) != len(b) || len(a)+bridge.MaxSuffix >= ifnamsiz || !strings.HasPrefix(a, bridge.Prefix) {
		t.Errorf("%q %q", a, b)
	}
}

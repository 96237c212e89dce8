package buildkit

import (
	"strings"
	"testing"
)

// TestPanicEndsItsCall has a policy that a message makes panic.
func TestPanicEndsItsCall(t *testing.T) {
	var none map[string]int
	if b, err := judged(func() ([]byte, error) { none["x"] = 1; return []byte("x"), nil }); b != nil || err == nil || !strings.Contains(err.Error(), "can't be read") {
		t.Errorf("the policy says %q, %v", b, err)
	}
	if b, err := judged(func() ([]byte, error) { return []byte("x"), nil }); string(b) != "x" || err != nil {
		t.Errorf("the policy says %q, %v", b, err)
	}
}

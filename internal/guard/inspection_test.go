package guard

import (
	"net/http"
	"strings"
	"testing"
)

// A container whose standing is known is asked for once, and is gone when the daemon says so.
func TestInspection(t *testing.T) {
	b := newFake(t, "1.41")
	for range 2 {
		if status, text := b.do(t, http.MethodGet, "/containers/"+idStep+"/json", ""); status != http.StatusOK || strings.Contains(text, "secret") {
			t.Errorf("a step: %d %s", status, text)
		}
		if status, text := b.do(t, http.MethodGet, "/containers/"+idForeign+"/json", ""); status != http.StatusNotFound {
			t.Errorf("another's: %d %s", status, text)
		}
	}
	b.own.containers[idMade] = ofClient // and removed since
	if status, text := b.do(t, http.MethodGet, "/containers/"+idMade+"/json", ""); status != http.StatusNotFound || text != "No such container: "+idMade {
		t.Errorf("one that is gone: %d %s", status, text)
	}
}

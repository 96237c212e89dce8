package runtime

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTail(t *testing.T) {
	many := ""
	var lastTen, lastNine []string
	for i := range 100 {
		many += fmt.Sprintf("line %d\n", i)
		if i >= 90 {
			lastTen = append(lastTen, fmt.Sprintf("  db: line %d", i))
		}
	}
	lastNine = append(append(lastNine, lastTen[1:]...), "  db: open")
	long := strings.Repeat("x", 10*tailBytes)
	for _, row := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"nothing", nil, nil},
		{"an open line", []string{"a", "b"}, []string{"  db: ab"}},
		{"lines across writes", []string{"a\nb", "c\r\n", "\nd\n"}, []string{"  db: a", "  db: bc", "  db: ", "  db: d"}},
		{"the last of many", []string{many}, lastTen},
		{"the last of many, and an open one", []string{many, "open"}, lastNine},
		{"long lines are cut", []string{long, long + "\n", long}, []string{"  db: " + long[:tailBytes], "  db: " + long[:tailBytes]}},
	} {
		t.Run(row.name, func(t *testing.T) {
			last := &tail{}
			for _, chunk := range row.chunks {
				last.add([]byte(chunk))
			}
			for range 2 {
				if diff := cmp.Diff(row.want, last.of("db")); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
	if got := (*tail)(nil).of("db"); got != nil {
		t.Errorf("no tail has %q", got)
	}
}

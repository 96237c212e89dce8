package livelog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTail(t *testing.T) {
	many := ""
	var lastTen []string
	for i := range 100 {
		many += fmt.Sprintf("line %d\n", i)
		if i >= 90 {
			lastTen = append(lastTen, fmt.Sprintf("line %d", i))
		}
	}
	long := strings.Repeat("x", 10*tailBytes)
	for _, row := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"nothing", nil, nil},
		{"an open line", []string{"a", "b"}, []string{"ab"}},
		{"lines across writes", []string{"a\nb", "c\r\n", "\nd\n"}, []string{"a", "bc", "", "d"}},
		{"the last of many", []string{many}, lastTen},
		{"the last of many, and an open one", []string{many, "open"}, append(slices.Clone(lastTen[1:]), "open")},
		{"long lines are cut", []string{long, long + "\n", long}, []string{long[:tailBytes], long[:tailBytes]}},
		{"a secret", []string{"the s3c", "ret\nan open s3cret, here"}, []string{"the ******", "an open ******, here"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			out := NewOutput(nil, NewMask([]string{"s3cret"}))
			for _, chunk := range row.chunks {
				writeAll(t, out, chunk)
			}
			for range 2 {
				if got := out.Tail(); !slices.Equal(got, row.want) {
					t.Errorf("got %.200q, want %.200q", got, row.want)
				}
			}
		})
	}
	if got := (*Output)(nil).Tail(); got != nil {
		t.Errorf("no output has %q", got)
	}
}

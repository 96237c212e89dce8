package livelog

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSplitter(t *testing.T) {
	for _, tc := range []struct {
		name string
		max  int
		in   string
		want []string
	}{
		{"nothing", 100, "", nil},
		{"one", 100, "a\n", []string{"a\n"}},
		{"no end", 100, "a\nb", []string{"a\n", "b"}},
		{"empty ones", 100, "\n\na\n\n", []string{"\n", "\n", "a\n", "\n"}},
		{"CRLF", 100, "a\r\nb\r\n", []string{"a\r\n", "b\r\n"}},
		{"a progress bar", 100, "1%\r50%\r100%\nb\n", []string{"1%\r50%\r100%\n", "b\n"}},
		{"as long as may be", 4, "abc\nabcd\n", []string{"abc\n", "abcd", "\n"}},
		{"too long", 4, "abcdefghij\n", []string{"abcd", "efgh", "ij\n"}},
		{"too long, no end", 4, "abcdefgh", []string{"abcd", "efgh"}},
		{"cut between characters", 4, "abcédéé\n", []string{"abc", "éd", "éé", "\n"}},
		{"cut between wide characters", 5, "a😀😀b\n", []string{"a😀", "😀b", "\n"}},
		{"not UTF-8", 100, "a\xff\xfeb\xe9\n", []string{"a\xff\xfeb\xe9\n"}},
		{"not UTF-8, too long", 4, "\xff\xff\xff\xff\xff\xff\xff\n", []string{"\xff\xff\xff\xff", "\xff\xff\xff\n"}},
		{"half a character at the cut", 4, "abc\xf0\x9fx\n", []string{"abc", "\xf0\x9fx\n"}},
		{"half a character at the end", 100, "ab\xf0\x9f", []string{"ab\xf0\x9f"}},
		{"NUL", 100, "a\x00b\n", []string{"a\x00b\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, len(tc.in) + 1} {
				if got := split(t, tc.max, tc.in, func() int { return size }); !slices.Equal(got, tc.want) {
					t.Errorf("in writes of %d bytes: got %q, want %q", size, got, tc.want)
				}
			}
		})
	}
}

// FuzzSplitter holds that the lines are the text, valid, no longer than they may be, and the same
// whatever the sizes of the writes.
func FuzzSplitter(f *testing.F) {
	f.Add("a\r\nbé😀\xff\xf0\x9f\n", 4, uint64(1))
	f.Fuzz(func(t *testing.T, text string, limit int, seed uint64) {
		limit = 4 + max(limit, -limit, 0)%50
		rnd := rand.New(rand.NewPCG(seed, 0))
		lines := split(t, limit, text, func() int { return 1 + rnd.IntN(9) })
		if whole := split(t, limit, text, func() int { return len(text) }); !slices.Equal(lines, whole) {
			t.Fatalf("in one write %q, in several %q", whole, lines)
		}
		for i, line := range lines {
			end := strings.IndexByte(line, '\n')
			if line == "" || end >= 0 && end < len(line)-1 || end < 0 && i < len(lines)-1 && len(line) < limit-3 && utf8.ValidString(text) {
				t.Fatalf("%q of %q is no line", line, lines)
			}
			if len(line) > limit {
				t.Fatalf("%q is longer than %d", line, limit)
			}
		}
		if joined := strings.Join(lines, ""); joined != text {
			t.Fatalf("%q became %q", text, joined)
		}
	})
}

func split(t testing.TB, limit int, text string, size func() int) []string {
	t.Helper()
	s := splitter{max: limit}
	var lines []string
	emit := func(line []byte) { lines = append(lines, string(line)) }
	writeChunks(t, emitter{&s, emit}, text, size)
	s.close(emit)
	return lines
}

// emitter is a splitter as a writer.
type emitter struct {
	s    *splitter
	emit func([]byte)
}

func (e emitter) Write(p []byte) (int, error) {
	e.s.write(p, e.emit)
	return len(p), nil
}

// Each byte that isn't UTF-8 becomes one replacement, as in JSON that any other runner makes.
func FuzzValid(f *testing.F) {
	for _, text := range []string{"", "a\xff\xfeb\xe9", "\xf0\x9f", "é😀\xed\xa0\x80", "\ufffd"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var want string
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		if got := string(valid([]byte(text))); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	})
}

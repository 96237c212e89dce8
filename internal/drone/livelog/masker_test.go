package livelog

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

const pem = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n  qrstuvwx  \n\n-----END KEY-----\n"

var maskCases = []struct {
	name    string
	secrets []string
	in      string
	want    string
}{
	{"no secrets", nil, "plain\n", "plain\n"},
	{"none in the text", []string{"s3cret"}, "plain s3cre\n", "plain s3cre\n"},
	{"one", []string{"s3cret"}, "a s3cret b\n", "a ****** b\n"},
	{"at the end of the text", []string{"s3cret"}, "a s3cret", "a ******"},
	{"a beginning at the end of the text", []string{"s3cret"}, "Password: s3c", "Password: s3c"},
	{"prefix of another", []string{"pass", "password"}, "pass password passwor\n", "****** ****** ******wor\n"},
	{"end of another", []string{"word", "password"}, "password sword\n", "****** s******\n"},
	{"within another", []string{"ass", "password"}, "password passwor\n", "****** p******wor\n"},
	{"overlapping", []string{"abcd", "cdef"}, "xabcdefx\n", "x******x\n"},
	{"overlapping itself", []string{"aba"}, "xababax\n", "x******x\n"},
	{"touching", []string{"ab"}, "xababx\n", "x******x\n"},
	{"a long beginning that fails over a short one", []string{"abcdX", "bc"}, "abcdY\n", "a******dY\n"},
	{"a long one around a short one", []string{"abcdX", "bc"}, "abcdX\n", "******\n"},
	{"white space around it", []string{"  s3cret\n"}, "[s3cret]\n", "[******]\n"},
	{"white space within it", []string{"two words"}, "[two words] two\n", "[******] two\n"},
	{"empty, blank and single", []string{"", " ", "\n", "x", " y\n"}, "x y z \n\n", "x y z \n\n"},
	{"two bytes", []string{"ab"}, "ab a b\n", "****** a b\n"},
	{"several lines", []string{pem}, pem, "******\n******\n  ******  \n\n******\n"},
	{"several lines, CRLF out", []string{pem}, strings.ReplaceAll(pem, "\n", "\r\n"), "******\r\n******\r\n  ******  \r\n\r\n******\r\n"},
	{"several lines, CRLF in", []string{strings.ReplaceAll(pem, "\n", "\r\n")}, pem, "******\n******\n  ******  \n\n******\n"},
	{"several lines, CR in", []string{strings.ReplaceAll(pem, "\n", "\r")}, pem, "******\n******\n  ******  \n\n******\n"},
	{"a line of several", []string{pem}, "+ echo MIIEpAIBAAKCAQEA\n", "+ echo ******\n"},
	{"an indented line of several", []string{pem}, "    qrstuvwx\n", "    ******\n"},
	{"several lines, blanks between them", []string{pem}, strings.ReplaceAll(pem, "\n", " "), "****** ******   ******    ****** "},
	{"several lines in JSON", []string{pem}, `{"k":"-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n  qrstuvwx"}`, `{"k":"******\n******\n  ******"}`},
	{"short lines alone", []string{"a\nb"}, "a\nx b\n", "a\nx b\n"},
	{"short lines together", []string{"a\nb"}, "xa\nbx\n", "x******\n******x\n"},
	{"short lines together, CRLF", []string{"a\nb"}, "xa\r\nbx\r\n", "x******\r\n******x\r\n"},
	{"short lines in JSON", []string{"a\nb"}, `"a\nb" "a\r\nb"`, `"******" "******"`},
	{"a JSON document", []string{"{\n  \"k\": \"v\"\n}\n"}, "{\n  \"k\": \"v\"\n}\n", "******\n******\n******\n"},
	{"quotes, in JSON", []string{`a"b\c`}, `x a"b\c y "a\"b\\c"`, `x ****** y "******"`},
	{"markup, in JSON", []string{`a<b&c`}, `a<b&c "a\u003cb\u0026c"`, `****** "******"`},
	{"not ASCII", []string{"pässwörd"}, "pässwörd päss\n", "****** päss\n"},
	{"not UTF-8", []string{"a\xff\xfeb"}, "xa\xff\xfebx \xff", "x******x \xff"},
	{"twice the same", []string{"s3cret", "s3cret"}, "s3cret\n", "******\n"},
}

func TestMasker(t *testing.T) {
	for _, tc := range maskCases {
		t.Run(tc.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, len(tc.in) + 1} {
				var out bytes.Buffer
				m := newMasker(&out, NewMask(tc.secrets))
				writeChunks(t, m, tc.in, func() int { return size })
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				if out.String() != tc.want {
					t.Errorf("in writes of %d bytes: got %q, want %q", size, out.String(), tc.want)
				}
				if got := NewMask(tc.secrets).Text(tc.in); got != tc.want {
					t.Errorf("Mask: got %q, want %q", got, tc.want)
				}
			}
		})
	}
}

// What can't become a secret any more is there at once, and what is masked already as well.
func TestMaskerHoldsBackNoMoreThanItMust(t *testing.T) {
	var out bytes.Buffer
	m := newMasker(&out, NewMask([]string{"s3cret", "s3cret-and-more", "line 1\nx\nline 3"}))
	for _, step := range []struct{ write, want string }{
		{"Password: ", "Password: "},
		{"s3", "Password: "},
		{"\n", "Password: s3\n"},
		{"s3cret", "Password: s3\n******"},
		{"-and", "Password: s3\n******"},
		{"\n", "Password: s3\n******-and\n"},
		{"s3cret-and-more.", "Password: s3\n******-and\n******."},
		{"\nline 1", "Password: s3\n******-and\n******.\n******"},
		{"\nx", "Password: s3\n******-and\n******.\n******"},
		{"\nline 2", "Password: s3\n******-and\n******.\n******\nx\nline 2"},
	} {
		writeAll(t, m, step.write)
		if out.String() != step.want {
			t.Fatalf("after %q: got %q, want %q", step.write, out.String(), step.want)
		}
	}
}

func TestMaskerLargeWrites(t *testing.T) {
	const secret = "the-secret-of-the-house"
	text := strings.Repeat("some ordinary text "+secret+"\n", 10000)
	want := strings.ReplaceAll(text, secret, mask)
	var out bytes.Buffer
	m := newMasker(&out, NewMask([]string{secret, "some other"}))
	writeAll(t, m, text)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Error("text in one large write isn't masked as it is in small ones")
	}
	if cap(m.held) > 2*maskChunk {
		t.Errorf("it held %d bytes", cap(m.held))
	}
}

func TestMaskerErrors(t *testing.T) {
	broken := errors.New("broken")
	m := newMasker(writerFunc(func([]byte) (int, error) { return 0, broken }), NewMask([]string{"s3cret"}))
	if _, err := m.Write([]byte("text")); !errors.Is(err, broken) {
		t.Errorf("the writer's error: got %v", err)
	}
	if _, err := m.Write([]byte("text")); !errors.Is(err, broken) {
		t.Errorf("the writer's error, again: got %v", err)
	}
	if err := m.Close(); !errors.Is(err, broken) {
		t.Errorf("Close after the writer's error: got %v", err)
	}
	m = newMasker(writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil }), NewMask([]string{"s3cret"}))
	if _, err := m.Write([]byte("text")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a short write: got %v", err)
	}
	for _, secrets := range [][]string{nil, {"s3cret"}} {
		m = newMasker(io.Discard, NewMask(secrets))
		for range 2 {
			if err := m.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if _, err := m.Write([]byte("text")); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a write after Close: got %v", err)
		}
	}
}

// A secret of the size that an environment allows, and text that is nearly it, over and over: time
// and memory grow with the text alone.
func TestMaskerLargeSecret(t *testing.T) {
	secret := strings.Repeat("a", 128<<10) + "b"
	var out bytes.Buffer
	m := newMasker(&out, NewMask([]string{secret}))
	text := strings.Repeat("a", 300<<10)
	writeAll(t, m, text)
	writeAll(t, m, "b"+text)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("a", 172<<10) + mask + text
	if out.String() != want {
		t.Errorf("got %d bytes, want %d", out.Len(), len(want))
	}
}

// FuzzMasker holds the property against a masker that has the whole text before it.
func FuzzMasker(f *testing.F) {
	for _, tc := range maskCases {
		f.Add(tc.in, strings.Join(tc.secrets, "|"), uint64(1))
	}
	f.Add("aabaabaaab", "aab|aabaa|ba", uint64(2))
	f.Add("a\nb\r\nc a\r\nb", "a\nb|b\r\nc", uint64(3))
	f.Fuzz(func(t *testing.T, text, joined string, seed uint64) {
		secrets := strings.Split(strings.ReplaceAll(joined, "*", "-"), "|")
		rnd := rand.New(rand.NewPCG(seed, 0))
		var out bytes.Buffer
		m := newMasker(&out, NewMask(secrets))
		writeChunks(t, m, text, func() int { return 1 + rnd.IntN(1+rnd.IntN(20)) })
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if want := maskWhole(text, forms(secrets)); out.String() != want {
			t.Fatalf("got %q, want %q", out.String(), want)
		}
		checkNoSecret(t, strings.ReplaceAll(text, "*", "-"), secrets)
		if !strings.Contains(text, "*") {
			for _, secret := range secrets {
				if s := strings.TrimSpace(secret); len(s) > 1 && strings.Contains(out.String(), s) {
					t.Fatalf("%q is in %q", s, out.String())
				}
				for line := range strings.FieldsFuncSeq(secret, func(r rune) bool { return r == '\n' || r == '\r' }) {
					if s := strings.TrimSpace(line); len(s) > 1 && strings.Contains(out.String(), s) {
						t.Fatalf("the line %q is in %q", s, out.String())
					}
				}
			}
		}
	})
}

// checkNoSecret puts every secret into the text, at a place that the text's length gives, and wants
// it masked.
func checkNoSecret(t *testing.T, text string, secrets []string) {
	t.Helper()
	for i, secret := range secrets {
		s := strings.TrimSpace(secret)
		if len(s) < minSecret {
			continue
		}
		at := len(text) * i / len(secrets)
		if out := NewMask(secrets).Text(text[:at] + s + text[at:]); strings.Contains(out, s) {
			t.Fatalf("%q is in %q", s, out)
		}
	}
}

// maskWhole is the masker in its simplest form: every byte of every form that occurs is marked,
// then each run of marked bytes is replaced.
func maskWhole(text string, forms []string) string {
	marked := make([]bool, len(text))
	for _, form := range forms {
		for i := range len(text) {
			if strings.HasPrefix(text[i:], form) {
				for j := range len(form) {
					marked[i+j] = true
				}
			}
		}
	}
	var b strings.Builder
	masked := false
	for i := range len(text) {
		switch {
		case !marked[i], text[i] == '\n', text[i] == '\r':
			masked = false
			b.WriteByte(text[i])
		case !masked:
			masked = true
			b.WriteString(mask)
		}
	}
	return b.String()
}

// BenchmarkMasker is the speed on ordinary text with twenty secrets, one of which occurs now and
// then.
func BenchmarkMasker(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var secrets []string
	for range 20 {
		secret := make([]byte, 24)
		for i := range secret {
			secret[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[rnd.IntN(62)]
		}
		secrets = append(secrets, string(secret))
	}
	words := strings.Fields("the compiler has built package github.com/acme/project/internal/server in 0.42s and linked /usr/lib/libfoo.so.1 with -O2 warning: unused variable")
	var text bytes.Buffer
	for text.Len() < 1<<20 {
		for range 12 {
			text.WriteString(words[rnd.IntN(len(words))] + " ")
		}
		if rnd.IntN(500) == 0 {
			text.WriteString(secrets[rnd.IntN(len(secrets))])
		}
		text.WriteByte('\n')
	}
	m := newMasker(io.Discard, NewMask(secrets))
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		for p := text.Bytes(); len(p) > 0; {
			n := min(len(p), 8<<10)
			if _, err := m.Write(p[:n]); err != nil {
				b.Fatal(err)
			}
			p = p[n:]
		}
	}
}

// writerFunc is a writer of one function.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// writeAll writes text in one piece.
func writeAll(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); err != nil || n != len(text) {
		t.Fatalf("Write: %d of %d bytes: %v", n, len(text), err)
	}
}

// writeChunks writes text in pieces of the sizes that size gives, from a buffer that is overwritten
// after each.
func writeChunks(t testing.TB, w io.Writer, text string, size func() int) {
	t.Helper()
	for len(text) > 0 {
		p := []byte(text[:min(size(), len(text))])
		text = text[len(p):]
		if n, err := w.Write(p); err != nil || n != len(p) {
			t.Fatalf("Write: %d of %d bytes: %v", n, len(p), err)
		}
		clear(p)
	}
}

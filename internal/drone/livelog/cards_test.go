package livelog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/drone/drone-go/drone"
)

// escape is text as a plugin prints a card.
func escape(text string) string {
	return cardBegin + base64.StdEncoding.EncodeToString([]byte(text)) + cardEnd
}

const (
	cardOne = `{"schema":"https://example.com/card.json","data":{"a":1}}`
	cardTwo = `{"schema":"https://example.com/two.json","data":[{"b":"two"}]}`
)

func TestCards(t *testing.T) {
	wrapped := escape(cardOne)[:40] + "\r\n" + escape(cardOne)[40:60] + "\n" + escape(cardOne)[60:]
	for _, tc := range []struct {
		name   string
		in     string
		want   string
		schema string
		data   string
	}{
		{"none", "text\n", "text\n", "", ""},
		{"on a line of its own", "a\n" + escape(cardOne) + "\nb\n", "a\nb\n", "https://example.com/card.json", `{"a":1}`},
		{"on a line of its own, CRLF", "a\r\n" + escape(cardOne) + "\r\nb\r\n", "a\r\nb\r\n", "https://example.com/card.json", `{"a":1}`},
		{"first", escape(cardOne) + "\n\nb\n", "\nb\n", "https://example.com/card.json", `{"a":1}`},
		{"nothing else", escape(cardOne), "", "https://example.com/card.json", `{"a":1}`},
		{"before a CR that ends no line", escape(cardOne) + "\rb", "\rb", "https://example.com/card.json", `{"a":1}`},
		{"before a CR and the end", escape(cardOne) + "\r", "\r", "https://example.com/card.json", `{"a":1}`},
		{"within a line", "a" + escape(cardOne) + "b\n", "ab\n", "https://example.com/card.json", `{"a":1}`},
		{"at the end of a line", "a" + escape(cardOne) + "\nb\n", "a\nb\n", "https://example.com/card.json", `{"a":1}`},
		{"at the start of a line", escape(cardOne) + "b\n", "b\n", "https://example.com/card.json", `{"a":1}`},
		{"the last of two", escape(cardOne) + "\n" + escape(cardTwo) + "\nb\n", "b\n", "https://example.com/two.json", `[{"b":"two"}]`},
		{"the last good one", escape(cardOne) + "\n" + escape("{") + "\n", escape("{") + "\n", "https://example.com/card.json", `{"a":1}`},
		{"wrapped", wrapped + "\nb\n", "b\n", "https://example.com/card.json", `{"a":1}`},
		{"after an unended one", cardBegin + "YWJj" + escape(cardOne) + "\nb\n", cardBegin + "YWJj\nb\n", "https://example.com/card.json", `{"a":1}`},
		{"after half a beginning", cardBegin[:4] + escape(cardOne), cardBegin[:4], "https://example.com/card.json", `{"a":1}`},
		{"after a beginning and half an end", cardBegin + "YWJj" + cardEnd[:2] + escape(cardOne)[2:], cardBegin + "YWJj", "https://example.com/card.json", `{"a":1}`},
		{"after three quarters of an end", cardBegin + "YWJj" + cardEnd[:3] + escape(cardOne), cardBegin + "YWJj" + cardEnd[:3], "https://example.com/card.json", `{"a":1}`},
		{"colours", "\x1b[1mbold\x1b[0m\n\x1b]0;title\x07\x1b", "\x1b[1mbold\x1b[0m\n\x1b]0;title\x07\x1b", "", ""},
		{"not ended", "a\n" + cardBegin + "YWJj\nb c\n", "a\n" + cardBegin + "YWJj\nb c\n", "", ""},
		{"not ended, at the end", "a\n" + cardBegin + "YWJj", "a\n" + cardBegin + "YWJj", "", ""},
		{"not ended, in the end mark", "a\n" + cardBegin + "YWJj" + cardEnd[:3], "a\n" + cardBegin + "YWJj" + cardEnd[:3], "", ""},
		{"bad base64", cardBegin + "YWJ" + cardEnd + "\n", cardBegin + "YWJ" + cardEnd + "\n", "", ""},
		{"empty", cardBegin + cardEnd + "\n", cardBegin + cardEnd + "\n", "", ""},
		{"bad JSON", escape(`{"schema":`) + "\n", escape(`{"schema":`) + "\n", "", ""},
		{"null", escape(`null`), escape(`null`), "", ""},
		{"no data", escape(`{"schema":"s"}`), escape(`{"schema":"s"}`), "", ""},
		{"null data", escape(`{"schema":"s","data":null}`), escape(`{"schema":"s","data":null}`), "", ""},
		{"no schema", escape(`{"data":{}}`), escape(`{"data":{}}`), "", ""},
		{"too long", cardBegin + strings.Repeat("YWJj", maxCard/4+1) + cardEnd + "\n", cardBegin + strings.Repeat("YWJj", maxCard/4+1) + cardEnd + "\n", "", ""},
		{"the longest", escape(longCard) + "\n", "", "s", longCard[len(`{"schema":"s","data":`) : len(longCard)-1]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sizes := []int{1, 2, 3, 5, 1000, len(tc.in) + 1}
			if len(tc.in) > maxCard {
				sizes = []int{1001, len(tc.in) + 1}
			}
			for _, size := range sizes {
				out, card, ok := throughCards(t, tc.in, nil, func() int { return size })
				if out != tc.want {
					t.Errorf("in writes of %d bytes: got %.200q, want %.200q", size, out, tc.want)
				}
				if ok != (tc.schema != "") {
					t.Fatalf("in writes of %d bytes: a card: %v", size, ok)
				}
				if ok && (card.Schema != tc.schema || string(card.Data) != tc.data) {
					t.Errorf("in writes of %d bytes: got the card %q %.200s", size, card.Schema, card.Data)
				}
			}
		})
	}
}

// longCard is as long as a card may be.
var longCard = `{"schema":"s","data":"` + strings.Repeat("x", maxCard/4*3-len(`{"schema":"s","data":""}`)) + `"}`

func TestCardsAreMasked(t *testing.T) {
	secrets := []string{"s3cret", "12345", "line 1\nline 2", "<b>"}
	in := escape(`{"schema":"https://example.com/s3cret","data":{"k s3cret":["a s3cret b","line 1\nline 2",12345,1,true,null,1e3,"<b>","\u0073\u0033cret"],"n":{"x":"s3cre"}}}`)
	_, card, ok := throughCards(t, in, secrets, func() int { return 10 })
	if !ok {
		t.Fatal("no card")
	}
	if want := "https://example.com/******"; card.Schema != want {
		t.Errorf("schema: got %s, want %s", card.Schema, want)
	}
	want := `{"k ******":["a ****** b","******\n******","******",1,true,null,1e3,"******","******"],"n":{"x":"s3cre"}}`
	if string(card.Data) != want {
		t.Errorf("data: got %s, want %s", card.Data, want)
	}
}

// A secret that an escape splits is one again when the escape is gone.
func TestCardsDontSplitSecrets(t *testing.T) {
	out, _, _ := throughCards(t, "a s3c"+escape(cardOne)+"ret b\n", []string{"s3cret"}, func() int { return 4 })
	if want := "a ****** b\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// Text is passed on as soon as it can't be a card.
func TestCardsHoldBackNoMoreThanTheyMust(t *testing.T) {
	var out bytes.Buffer
	c := newCards(newMasker(&out, NewMask(nil)))
	for _, step := range []struct{ write, want string }{
		{"Name: ", "Name: "},
		{"\x1b]", "Name: "},
		{"0;", "Name: \x1b]0;"},
		{cardBegin + "abc", "Name: \x1b]0;"},
		{" ", "Name: \x1b]0;" + cardBegin + "abc "},
	} {
		writeAll(t, c, step.write)
		if out.String() != step.want {
			t.Fatalf("after %q: got %q, want %q", step.write, out.String(), step.want)
		}
	}
}

func TestCardsErrors(t *testing.T) {
	broken := errors.New("broken")
	c := newCards(newMasker(writerFunc(func([]byte) (int, error) { return 0, broken }), NewMask(nil)))
	if _, err := c.Write([]byte("text")); !errors.Is(err, broken) {
		t.Errorf("the writer's error: got %v", err)
	}
	c = newCards(newMasker(io.Discard, NewMask(nil)))
	for range 2 {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := c.Write([]byte("text")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a write after Close: got %v", err)
	}
}

// FuzzCards holds that the sizes of the writes change nothing, that nothing but cards is taken out,
// and that a card shows no secret.
func FuzzCards(f *testing.F) {
	f.Add("a\n", cardOne, "\nb\n", "s3cret", uint64(1))
	f.Add(cardBegin, `{"schema":"s3cret","data":{"s3cret":"as3cretb"}}`, cardEnd, "s3cret", uint64(2))
	f.Add(cardBegin+"YWJj"+cardEnd[:2], `{"schema":"s","data":"a\"b"}`, "\r\n", `a"b`, uint64(3))
	f.Add("\x1b", `{"schema":"s","data":[1,12,123,"a\nb"]}`, "\r", "12", uint64(4))
	f.Fuzz(func(t *testing.T, before, text, after, secret string, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		in := before + escape(text) + after
		whole, card, ok := throughCards(t, in, nil, func() int { return len(in) })
		chunked, card2, ok2 := throughCards(t, in, nil, func() int { return 1 + rnd.IntN(9) })
		if whole != chunked || ok != ok2 {
			t.Fatalf("in one write %q (%v), in several %q (%v)", whole, ok, chunked, ok2)
		}
		if ok && (card.Schema != card2.Schema || !bytes.Equal(card.Data, card2.Data)) {
			t.Fatalf("in one write %q %s, in several %q %s", card.Schema, card.Data, card2.Schema, card2.Data)
		}
		if !ok && whole != in {
			t.Fatalf("without a card %q became %q", in, whole)
		}
		if ok && len(whole)+len(cardBegin)+len(cardEnd) > len(in) {
			t.Fatalf("a card was found, but not taken out of %q", in)
		}
		secret = strings.TrimSpace(strings.ReplaceAll(secret, "*", "-"))
		if _, card, ok := throughCards(t, strings.ReplaceAll(in, "*", "-"), []string{secret}, func() int { return 7 }); ok && len(secret) >= minSecret {
			var value any
			dec := json.NewDecoder(bytes.NewReader(card.Data))
			dec.UseNumber()
			if err := dec.Decode(&value); err != nil {
				t.Fatalf("the masked card isn't JSON: %v", err)
			}
			if shows(value, secret) || strings.Contains(card.Schema, secret) {
				t.Fatalf("the secret %q is in the card %q %s", secret, card.Schema, card.Data)
			}
		}
	})
}

// shows reports whether a decoded JSON value has the secret in a string, a key or a number.
func shows(value any, secret string) bool {
	switch v := value.(type) {
	case string:
		return strings.Contains(v, secret) && !strings.Contains(v, "*")
	case json.Number:
		return strings.Contains(v.String(), secret)
	case []any:
		for _, e := range v {
			if shows(e, secret) {
				return true
			}
		}
	case map[string]any:
		for k, e := range v {
			if shows(k, secret) || shows(e, secret) {
				return true
			}
		}
	}
	return false
}

// throughCards is the text, masked, without its cards, and the card.
func throughCards(t testing.TB, text string, secrets []string, size func() int) (string, *drone.CardInput, bool) {
	t.Helper()
	var out bytes.Buffer
	m := newMasker(&out, NewMask(secrets))
	c := newCards(m)
	writeChunks(t, c, text, size)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	card, ok := c.Card()
	return out.String(), card, ok
}

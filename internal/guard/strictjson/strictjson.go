// Package strictjson decodes JSON where encoding/json is too lenient for a policy: it refuses known
// names that come twice and differ, and trailing data, and names the fields that the result doesn't
// hold.
//
// The one rule to keep: whatever is accepted means the same to every reader of the result, encoded
// anew.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// Decode decodes b into v, a pointer. dropped are the fields that v has no place for, by their full
// names: clients send what other versions of Docker, or they themselves, have a meaning for. Those
// that are null ask for nothing and aren't among them.
func Decode(b []byte, v any) (dropped []string, err error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, apierror.BadRequest("invalid JSON: got EOF while reading request body")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	s := scanner{Decoder: d, text: b}
	if err := s.value(reflect.TypeOf(v).Elem(), "", 0); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, apierror.BadRequest("invalid JSON: there is more after the request's value")
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, apierror.BadRequest("invalid JSON: %v", err)
	}
	return s.dropped, nil
}

// Has reports whether v, a pointer to a struct, has a place for the field key, in any spelling.
func Has(v any, key string) bool {
	_, ok := jsonField(reflect.TypeOf(v).Elem(), key)
	return ok
}

// scanner walks a JSON text beside the type that it will be decoded into.
type scanner struct {
	*json.Decoder
	text    []byte
	dropped []string
}

// maxFields of an object, and of what is dropped in all: each is named to the client.
const maxFields = 512

// maxDepth of a request: no struct of moby's is half as deep.
const maxDepth = 32

var unmarshalerType = reflect.TypeFor[json.Unmarshaler]()

// value walks one value. A nil type is one whose insides are unknown: there only duplicates are
// looked for.
func (s *scanner) value(t reflect.Type, at string, depth int) error {
	if depth > maxDepth {
		return apierror.BadRequest("invalid JSON: it is nested deeper than %d levels at %s", maxDepth, at)
	}
	tok, err := s.Token()
	if err != nil {
		return apierror.BadRequest("invalid JSON: %v", err)
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t != nil && (t.Kind() == reflect.Interface || reflect.PointerTo(t).Implements(unmarshalerType)) {
		t = nil
	}
	switch tok {
	case json.Delim('{'):
		return s.object(t, at, depth)
	case json.Delim('['):
		var elem reflect.Type
		switch {
		case t == unread:
			elem = unread
		case t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array):
			elem = t.Elem()
		}
		for i := 0; s.More(); i++ {
			if err := s.value(elem, fmt.Sprintf("%s[%d]", at, i), depth+1); err != nil {
				return err
			}
		}
		_, err := s.Token()
		if err != nil {
			return apierror.BadRequest("invalid JSON: %v", err)
		}
	}
	return nil
}

// unread is the type of what is dropped: nothing in it matters but that it is JSON.
var unread = reflect.TypeFor[struct{ unread struct{} }]()

// span is where the value of a field stands in the text.
type span struct {
	key        string
	begin, end int64
}

func (s *scanner) object(t reflect.Type, at string, depth int) error {
	seen := map[string]span{} // by key, in one spelling where case doesn't matter
	for s.More() {
		tok, err := s.Token()
		if err != nil {
			return apierror.BadRequest("invalid JSON: %v", err)
		}
		key, _ := tok.(string)
		place := strings.TrimPrefix(at+"."+key, ".")
		elem, known := field(t, key)
		if !known && !s.nextIsNull() {
			if s.dropped = append(s.dropped, place); len(s.dropped) > maxFields {
				return apierror.BadRequest(
					"invalid JSON: there are more than %d fields that Docker doesn't have",
					maxFields,
				)
			}
		}
		now := span{key: key, begin: s.InputOffset()}
		if err := s.value(elem, place, depth+1); err != nil {
			return err
		}
		if elem == unread {
			continue
		}
		now.end = s.InputOffset()
		one := key
		if t == nil || t.Kind() != reflect.Map { // the keys of a map are data: "a" and "A" are two
			one = fold(key)
		}
		if before, twice := seen[one]; twice && !s.same(before, now) {
			return apierror.BadRequest("invalid JSON: %s comes twice, or in two spellings", apierror.Quote(place))
		}
		if seen[one] = now; len(seen) > maxFields && (t == nil || t.Kind() != reflect.Map) {
			return apierror.BadRequest("invalid JSON: %s has too many fields", apierror.Quote(at))
		}
	}
	if _, err := s.Token(); err != nil {
		return apierror.BadRequest("invalid JSON: %v", err)
	}
	return nil
}

// fold returns one spelling for all that encoding/json takes for the same name: strings.EqualFold's
// notion of it.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, key)
}

// same reports whether a field that comes twice says the same, letter by letter, both times.
func (s *scanner) same(a, b span) bool {
	return a.key == b.key &&
		bytes.Equal(
			bytes.TrimLeft(s.text[a.begin:a.end], ": \t\r\n"),
			bytes.TrimLeft(s.text[b.begin:b.end], ": \t\r\n"),
		)
}

// field returns the type of an object's field by its JSON name. known is false for one that the
// object has no place for.
func field(t reflect.Type, key string) (elem reflect.Type, known bool) {
	switch {
	case t == nil:
		return nil, true
	case t == unread:
		return unread, true
	case t.Kind() == reflect.Map:
		return t.Elem(), true
	case t.Kind() == reflect.Struct:
		f, ok := jsonField(t, key)
		if !ok {
			return unread, false
		}
		return f.Type, true
	}
	return nil, true // which the decoder refuses
}

// nextIsNull looks whether the value that comes is null.
func (s *scanner) nextIsNull() bool {
	return bytes.HasPrefix(bytes.TrimLeft(s.text[s.InputOffset():], ": \t\r\n"), []byte("null"))
}

// jsonField finds a field as encoding/json does: by its tag, else its name, in any case, embedded
// structs' fields included.
func jsonField(t reflect.Type, key string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if name, ok := FieldName(f); ok && strings.EqualFold(name, key) {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// FieldName returns the name of a field in JSON; ok is false for what isn't a field there.
func FieldName(f reflect.StructField) (name string, ok bool) {
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case !f.IsExported() || tag == "-" || (f.Anonymous && tag == ""):
		return "", false
	case tag != "":
		return tag, true
	}
	return f.Name, true
}

// Package strictjson decodes JSON where encoding/json is too lenient for a policy: it refuses unknown fields, names that come twice, and trailing data.
//
// The one rule to keep: whatever is accepted means the same to every reader.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

// Decode is decode of a text.
func Decode(b []byte, v any, ignored ...string) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return apierror.BadRequest("invalid JSON: got EOF while reading request body")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	s := scanner{Decoder: d, text: b, ignored: ignored}
	if err := s.value(reflect.TypeOf(v).Elem(), "", 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return apierror.BadRequest("invalid JSON: there is more after the request's value")
	}
	if err := json.Unmarshal(b, v); err != nil {
		return apierror.BadRequest("invalid JSON: %v", err)
	}
	return nil
}

// scanner walks a JSON text beside the type that it will be decoded into.
type scanner struct {
	*json.Decoder
	text    []byte
	ignored []string
}

// MaxDepth of a request: no struct of moby's is half as deep.
const MaxDepth = 32

var unmarshalerType = reflect.TypeFor[json.Unmarshaler]()

// value walks one value. A nil type is one whose insides are unknown: there only duplicates are looked for.
func (s *scanner) value(t reflect.Type, at string, depth int) error {
	if depth > MaxDepth {
		return apierror.BadRequest("invalid JSON: it is nested deeper than %d levels at %s", MaxDepth, at)
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
		if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
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

func (s *scanner) object(t reflect.Type, at string, depth int) error {
	exact := t != nil && t.Kind() == reflect.Map // the keys of a map are data; "a" and "A" are two
	var seen []string
	known := map[string]bool{}
	for s.More() {
		tok, err := s.Token()
		if err != nil {
			return apierror.BadRequest("invalid JSON: %v", err)
		}
		key, _ := tok.(string)
		place := strings.TrimPrefix(at+"."+key, ".")
		if exact {
			if known[key] {
				return apierror.BadRequest("invalid JSON: %s comes twice", apierror.Quote(place))
			}
			known[key] = true
		} else {
			if slices.ContainsFunc(seen, func(o string) bool { return strings.EqualFold(o, key) }) {
				return apierror.BadRequest("invalid JSON: %s comes twice, or in two spellings", apierror.Quote(place))
			}
			if seen = append(seen, key); len(seen) > 512 {
				return apierror.BadRequest("invalid JSON: %s has too many fields", apierror.Quote(at))
			}
		}
		elem, err := s.field(t, key, place)
		if err != nil {
			return err
		}
		if err := s.value(elem, place, depth+1); err != nil {
			return err
		}
	}
	if _, err := s.Token(); err != nil {
		return apierror.BadRequest("invalid JSON: %v", err)
	}
	return nil
}

// field is the type of a struct's field by its JSON name.
func (s *scanner) field(t reflect.Type, key, place string) (reflect.Type, error) {
	if t == nil {
		return nil, nil
	}
	switch t.Kind() {
	case reflect.Map:
		return t.Elem(), nil
	case reflect.Struct:
		if f, ok := jsonField(t, key); ok {
			return f.Type, nil
		}
		if slices.Contains(s.ignored, key) || s.nextIsNull() {
			return nil, nil
		}
		return nil, apierror.Refuse("the field "+apierror.Quote(place), "the guard knows no such field of this request", "")
	}
	return nil, nil
}

// nextIsNull looks whether the value that comes is null.
func (s *scanner) nextIsNull() bool {
	return bytes.HasPrefix(bytes.TrimLeft(s.text[s.InputOffset():], ": \t\r\n"), []byte("null"))
}

// jsonField finds a field as encoding/json does: by its tag, else its name, in any case, embedded structs' fields included.
func jsonField(t reflect.Type, key string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if name, ok := FieldName(f); ok && strings.EqualFold(name, key) {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// FieldName is the name of a field in JSON; ok is false for what isn't a field there.
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

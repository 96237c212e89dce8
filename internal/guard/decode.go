package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// bodyLimit bounds a JSON body. It is refused whole beyond: a body of which a checker and the daemon read different parts is a way around the checker
// (CVE-2024-41110, CVE-2026-34040).
const bodyLimit = 4 << 20

// decode reads the client's body into v, a pointer to one of moby's structs. It's strict where encoding/json is lenient: a field that v doesn't have, a
// name that comes twice in an object, be it in another case, and anything after the value are refused. Names in ignored (and any unknown field that is
// null) are dropped: clients that exist send them, and they mean nothing to the daemon.
//
// The daemon never sees this body, only v encoded anew; strictness is for the client, who should know what won't be honoured.
func (c *call) decode(v any, ignored ...string) error {
	b, err := c.readBody()
	if err != nil {
		return err
	}
	return decodeStrict(b, v, ignored...)
}

// readBody is the whole body, within bodyLimit.
func (c *call) readBody() ([]byte, error) {
	if ct := c.r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			return nil, badRequest("unsupported Content-Type header (%.100s): must be 'application/json'", ct)
		}
	}
	if c.r.ContentLength > bodyLimit {
		return nil, tooLarge()
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, bodyLimit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case err != nil:
		return nil, badRequest("the request's body broke off: %v", err)
	}
	return b, nil
}

func tooLarge() error {
	return statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request's body is larger than %d bytes", bodyLimit)}
}

// decodeStrict is decode of a text.
func decodeStrict(b []byte, v any, ignored ...string) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return badRequest("invalid JSON: got EOF while reading request body")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	s := scanner{Decoder: d, text: b, ignored: ignored}
	if err := s.value(reflect.TypeOf(v).Elem(), "", 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("invalid JSON: there is more after the request's value")
	}
	if err := json.Unmarshal(b, v); err != nil {
		return badRequest("invalid JSON: %v", err)
	}
	return nil
}

// scanner walks a JSON text beside the type that it will be decoded into.
type scanner struct {
	*json.Decoder
	text    []byte
	ignored []string
}

// maxDepth of a request: no struct of moby's is half as deep.
const maxDepth = 32

var unmarshalerType = reflect.TypeFor[json.Unmarshaler]()

// value walks one value. A nil type is one whose insides are unknown: there only duplicates are looked for.
func (s *scanner) value(t reflect.Type, at string, depth int) error {
	if depth > maxDepth {
		return badRequest("invalid JSON: it is nested deeper than %d levels at %s", maxDepth, at)
	}
	tok, err := s.Token()
	if err != nil {
		return badRequest("invalid JSON: %v", err)
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
			return badRequest("invalid JSON: %v", err)
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
			return badRequest("invalid JSON: %v", err)
		}
		key, _ := tok.(string)
		place := strings.TrimPrefix(at+"."+key, ".")
		if exact {
			if known[key] {
				return badRequest("invalid JSON: %s comes twice", quoted(place))
			}
			known[key] = true
		} else {
			if slices.ContainsFunc(seen, func(o string) bool { return strings.EqualFold(o, key) }) {
				return badRequest("invalid JSON: %s comes twice, or in two spellings", quoted(place))
			}
			if seen = append(seen, key); len(seen) > 512 {
				return badRequest("invalid JSON: %s has too many fields", quoted(at))
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
		return badRequest("invalid JSON: %v", err)
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
		return nil, refuse("the field "+quoted(place), "the guard knows no such field of this request")
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
		if name, ok := jsonName(f); ok && strings.EqualFold(name, key) {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// jsonName is the name of a field in JSON; ok is false for what isn't a field there.
func jsonName(f reflect.StructField) (name string, ok bool) {
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case !f.IsExported() || tag == "-" || (f.Anonymous && tag == ""):
		return "", false
	case tag != "":
		return tag, true
	}
	return f.Name, true
}

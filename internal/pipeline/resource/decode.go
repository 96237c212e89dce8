package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/drone/runner-go/manifest"
)

// decoder turns the tree of one document into values. It notes the place of every key that it
// passes, and a finding for everything that doesn't fit; what doesn't fit keeps its zero value and
// decoding goes on.
type decoder struct {
	pipeline string
	step     string
	// prefix goes before the keys of findings: "volumes[0]." while a volume of the pipeline is
	// decoded, whose own keys are counted from itself.
	prefix string
	keys   map[string]Position
	found  *Collector
	// refuses is set while a finding about Drone's server is added.
	refuses bool
	// patterns is how many bytes of patterns the document's conditions may still have.
	patterns *int
}

// newDecoder returns a decoder that notes places in keys and adds findings to found.
func newDecoder(keys map[string]Position, found *Collector) *decoder {
	return &decoder{keys: keys, found: found, patterns: new(maxPatterns)}
}

// decode reads a value, found under the given key, into wherever it was made for.
type decode func(n *node, key string)

// schema is the keys that a map may have.
type schema map[string]decode

// report adds a finding at the place of the key.
func (d *decoder) report(s Severity, key, format string, args ...any) {
	if d.found.Full(s) {
		d.found.Add(Finding{Severity: s})
		return
	}
	at, ok := d.keys[key]
	if !ok {
		at = place(d.keys, key, Position{})
	}
	d.reportAt(s, at, key, format, args...)
}

func (d *decoder) reportAt(s Severity, at Position, key, format string, args ...any) {
	d.found.Add(Finding{Severity: s, Position: at, Pipeline: d.pipeline, Step: d.step,
		Key: d.prefix + key, Message: fmt.Sprintf(format, args...), Refused: d.refuses})
}

// refused warns of something that is read here as it is meant, and that Drone's server refuses.
func (d *decoder) refused(key, format string, args ...any) {
	d.refuses = true
	d.report(Warning, key, "Drone's server refuses this: "+format, args...)
	d.refuses = false
}

// join is the path of a key inside the map at path. Long keys are cut: the path of each of the
// values below holds them.
func join(path, key string) string {
	key = Cut(key, maxKey)
	if path == "" {
		return key
	}
	return path + "." + key
}

// index is the path of an item of the list at path.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// object reads a map by its schema. Keys outside it are reported as foreign, which says what they
// mean elsewhere, or as unknown.
func (d *decoder) object(n *node, path string, keys schema, foreign map[string]string) {
	for _, f := range d.fields(n, path) {
		key := join(path, f.key)
		if read, ok := keys[f.key]; ok {
			read(f.value, key)
			continue
		}
		d.unknown(f, key, keys, foreign)
	}
}

// fields are the entries of a map, noted with their places. Anything but a map has none.
func (d *decoder) fields(n *node, path string) []field {
	for _, note := range n.notes {
		d.reportAt(Warning, note.at, join(path, note.key), "%s", note.message)
	}
	for _, f := range n.fields {
		d.keys[join(path, f.key)] = f.at
	}
	return n.fields
}

// isObject reports a value that isn't a map; example is what to write.
func (d *decoder) isObject(n *node, key, example string) bool {
	if n.shape != object {
		d.report(Error, key, "needs a map and has a %s: write %s", n.shape, example)
		return false
	}
	return true
}

// text reads a scalar as it is written: 1.10 is "1.10" and yes is "yes". Null is "".
func (d *decoder) text(out *string) decode {
	return func(n *node, key string) { *out, _ = d.textOf(n, key) }
}

func (d *decoder) textOf(n *node, key string) (string, bool) {
	switch {
	case n.shape == object && len(n.fields) == 1 && n.fields[0].value.shape == scalar:
		f := n.fields[0]
		d.report(Error, key, "needs a text and has a map, since an unquoted \": \" makes one: write it in quotes, "+
			"as in '%s'",
			shorten(f.key+": "+f.value.scalar.Value))
		return "", false
	case n.shape != scalar:
		d.report(Error, key, "needs a text and has a %s: write it on one level, in quotes if it holds brackets or "+
			"braces", n.shape)
		return "", false
	case n.null():
		return "", true
	}
	if s, ok := resolve(n.scalar).(string); ok {
		return s, true
	}
	return n.scalar.Value, true
}

// texts reads a list of texts. A single one stands for a list of it.
func (d *decoder) texts(out *[]string) decode {
	read := d.oneOrMore(out)
	return func(n *node, key string) {
		read(n, key)
		if n.shape == scalar && !n.null() {
			d.refused(key, "a list is due here, and it has a text: write %s: %s", lastKey(key), listOf(n.scalar.Value))
		}
	}
}

// lastKey is the key at the end of a path.
func lastKey(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// listOf is YAML for a list that holds a text alone.
func listOf(s string) string {
	switch {
	case strings.Contains(strings.TrimSuffix(s, "\n"), "\n"):
		return "with the text behind a dash, \"- |\", on the next line"
	case strings.ContainsAny(s, ",[]{}:#\"'&*!|>%@`\n "):
		return "['" + strings.ReplaceAll(shorten(strings.TrimSuffix(s, "\n")), "'", "''") + "']"
	}
	return "[" + shorten(s) + "]"
}

// oneOrMore reads a text or a list of texts, as conditions have them.
func (d *decoder) oneOrMore(out *[]string) decode {
	return func(n *node, key string) {
		*out = nil
		if n.shape != list {
			if n.shape == object {
				d.report(Error, key, "needs a list and has a map: write each item behind a dash, in quotes if it "+
					"holds \": \"")
			} else if !n.null() {
				s, _ := d.textOf(n, key)
				*out = []string{s}
			}
			return
		}
		for i, item := range n.items {
			at := index(key, i)
			d.keys[at] = item.at
			if s, ok := d.textOf(item, at); ok {
				*out = append(*out, s)
			}
		}
	}
}

// flag reads a truth value in any spelling of YAML 1.1, quoted or not.
func (d *decoder) flag(out *bool) decode {
	return func(n *node, key string) {
		*out = false
		if n.shape == scalar {
			switch v := resolve(n.scalar).(type) {
			case nil:
				return
			case bool:
				*out = v
				return
			case string:
				if b, ok := boolean(v); ok {
					*out = b
					d.refused(key, "the quotes make a text of it: write %s: %t", lastKey(key), b)
					return
				}
			}
		}
		d.report(Error, key, "needs true or false and has %s", n.describe())
	}
}

// integer reads a whole number, quoted or not.
func (d *decoder) integer(out *int) decode {
	return func(n *node, key string) {
		*out = 0
		if n.shape == scalar {
			switch v := resolve(n.scalar).(type) {
			case nil:
				return
			case int:
				*out = v
				return
			case float64:
				if v == float64(int32(v)) {
					*out = int(v)
					return
				}
			case string:
				if i, err := strconv.Atoi(v); err == nil {
					*out = i
					d.refused(key, "the quotes make a text of it: write %s: %d", lastKey(key), i)
					return
				}
			}
		}
		d.report(Error, key, "needs a whole number and has %s", n.describe())
	}
}

// size reads a number of bytes, or a text with a unit (512m, 2GiB); units are powers of 1024.
func (d *decoder) size(out *manifest.BytesSize) decode {
	return func(n *node, key string) {
		*out = 0
		if n.shape == scalar {
			switch v := resolve(n.scalar).(type) {
			case nil:
				return
			case int:
				*out = manifest.BytesSize(v)
				return
			case float64:
				if v == float64(int64(v)) {
					*out = manifest.BytesSize(v)
					return
				}
			case string:
				if i, err := strconv.ParseInt(v, 10, 64); err == nil {
					*out = manifest.BytesSize(i)
					return
				}
				if b, err := units.RAMInBytes(v); err == nil && b >= 0 {
					*out = manifest.BytesSize(b)
					return
				}
			}
		}
		d.report(Error, key, "needs a size and has %s: write a number of bytes, or one with a unit such as 512m "+
			"or 2g", n.describe())
	}
}

// describe names the value for messages.
func (n *node) describe() string {
	if n.shape == scalar {
		return strconv.Quote(shorten(n.scalar.Value))
	}
	return "a " + n.shape.String()
}

// textMap reads a map of texts.
func (d *decoder) textMap(out *map[string]string) decode {
	return mapOf(d, out, "it as KEY: value", d.textOf)
}

// mapOf reads a map whose values are all of one kind; a value that read doesn't want takes its key
// away. A key that comes again, by << or by a second map of the same name, adds to what is there,
// as in Drone. form is how to write it.
func mapOf[T any](d *decoder, out *map[string]T, form string, read func(n *node, key string) (v T, ok bool)) decode {
	return func(n *node, key string) {
		if n.null() {
			*out = nil
			return
		}
		if !d.isObject(n, key, form) {
			return
		}
		if *out == nil {
			*out = map[string]T{}
		}
		for _, f := range d.fields(n, key) {
			if v, ok := read(f.value, join(key, f.key)); ok {
				(*out)[f.key] = v
			} else if f.value.nothing() {
				delete(*out, f.key)
			}
		}
	}
}

// variables reads an environment: each value a text, or where to take it from.
func (d *decoder) variables(out *map[string]*manifest.Variable) decode {
	read := mapOf(d, out, "each variable as NAME: value", func(n *node, key string) (*manifest.Variable, bool) {
		if n.nothing() { // as with Drone, nothing is no empty text: the image's own value stays
			return nil, false
		}
		v := &manifest.Variable{}
		d.variable(v, n, key)
		return v, true
	})
	return func(n *node, key string) {
		if n.shape == list {
			example := "NAME: value"
			if len(n.items) > 0 && n.items[0].shape == scalar {
				if name, value, ok := strings.Cut(n.items[0].scalar.Value, "="); ok {
					example = shorten(name + ": " + value)
				}
			}
			d.report(Error, key, "needs a map and has a list: write each variable as %q, without a dash", example)
			return
		}
		read(n, key)
	}
}

func (d *decoder) variable(v *manifest.Variable, n *node, key string) {
	switch n.shape {
	case object:
		d.object(n, key, schema{"from_secret": d.text(&v.Secret), "value": d.text(&v.Value)}, nil)
		if n.find("from_secret") == nil && n.find("value") == nil {
			d.report(Warning, key, "the variable is empty: its map has neither from_secret nor value; write "+
				"from_secret: NAME, or put a text in quotes")
		}
	case list:
		d.report(Error, key, "an environment variable needs a text and has a list: write one text, such as \"a,b\"")
	default:
		v.Value, _ = d.textOf(n, key)
	}
}

// parameters reads the settings of a plugin: any value, or the name of a secret.
func (d *decoder) parameters(out *map[string]*manifest.Parameter) decode {
	return mapOf(d, out, "each setting as name: value", func(n *node, key string) (*manifest.Parameter, bool) {
		if n.nothing() {
			return nil, false
		}
		if secret := n.text("from_secret"); secret != "" {
			d.fields(n, key)
			return &manifest.Parameter{Secret: secret}, true
		}
		return &manifest.Parameter{Value: n.generic()}, true
	})
}

// conditions reads when and trigger.
func (d *decoder) conditions(out *manifest.Conditions) decode {
	return func(n *node, key string) {
		if n.null() {
			*out = manifest.Conditions{}
			return
		}
		if !d.isObject(n, key, "for example "+key+": {branch: main}") {
			return
		}
		d.object(n, key, schema{
			"action": d.condition(&out.Action), "cron": d.condition(&out.Cron), "ref": d.condition(&out.Ref),
			"repo":     d.condition(&out.Repo),
			"instance": d.condition(&out.Instance), "target": d.condition(&out.Target),
			"event":  d.condition(&out.Event),
			"branch": d.condition(&out.Branch), "status": d.condition(&out.Status), "paths": d.condition(&out.Paths),
		}, foreignConditions)
	}
}

// condition reads one condition: a pattern, a list of them, or what to include and exclude.
func (d *decoder) condition(out *manifest.Condition) decode {
	return func(n *node, key string) {
		*out = manifest.Condition{}
		if n.shape == object {
			d.object(n, key, schema{"include": d.listed(&out.Include), "exclude": d.listed(&out.Exclude)}, nil)
		} else {
			d.oneOrMore(&out.Include)(n, key)
		}
		for _, pattern := range slices.Concat(out.Include, out.Exclude) {
			*d.patterns -= 1 + len(pattern)
		}
		if *d.patterns < 0 {
			*out = manifest.Condition{}
			d.report(Error, key, "the conditions of this pipeline have patterns of more than %d KiB: write fewer, "+
				"with * or {one,other}", maxPatterns>>10)
		}
	}
}

// listed reads the patterns of include or exclude. A text is read as a list of it, as its author
// means it; Drone overlooks it, and so the whole condition.
func (d *decoder) listed(out *[]string) decode {
	read := d.oneOrMore(out)
	return func(n *node, key string) {
		read(n, key)
		if n.shape == scalar && !n.null() {
			d.report(Warning, key, "a list is due here, and Drone's own server and runner overlook a text: write "+
				"%s: %s",
				lastKey(key), listOf(n.scalar.Value))
		}
	}
}

// oneOf reports whether the value is one of a fixed set, in any case, or empty. Another one is
// reported; the default is taken for it, as in Drone.
func (d *decoder) oneOf(key, value string, known ...string) bool {
	if value == "" || slices.Contains(known, strings.ToLower(value)) {
		return true
	}
	d.report(Warning, key, "%q is none of %s%s: the default is taken", value, strings.Join(known, ", "),
		didYouMean(value, known))
	return false
}

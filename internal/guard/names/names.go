// Package names translates between the names that a client gives to its objects (containers,
// networks, volumes, images) and those that the shared Docker daemon knows them by.
//
// The one rule to keep: no name that a stage makes is ever a name that another stage could mean,
// and the daemon's names never reach a client.
package names

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/docker/docker/pkg/namesgenerator"
)

// Names translates between what a client calls its containers, networks and volumes and what the
// daemon does. Two stages may both have a "db": the daemon knows them as "ID.db", ID being each
// stage's own.
//
// The prefix is so unlike anything else that it may be cut out of every text that goes to a client,
// wherever it stands: in lists, inspections, events and errors. Streams of the client's own data
// (logs, archives) aren't touched.
type Names struct {
	prefix  string // "ID."
	network string // the stage's network in the daemon
	Tags    Tags   // what images are called
	// labels are the pieces of JSON that are labels of the runner's own.
	labels [][]byte
}

// New are the names of the build of that id, whose network the daemon knows by that name, and whose
// objects carry labels that their clients don't see.
func New(id, network string, labels map[string]string) Names {
	n := Names{prefix: id + ".", network: network, Tags: NewTags(id)}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		k, _ := json.Marshal(key) // strings always encode
		v, _ := json.Marshal(labels[key])
		n.labels = append(n.labels, capitals(slices.Concat(k, []byte(":"), v)))
	}
	return n
}

// Strip takes the prefix off a name, if the client wrote it with one.
func (n Names) Strip(name string) string { return strings.TrimPrefix(name, n.prefix) }

// Bridge is what a client knows the stage's network as: Docker's default network, which it stands
// in for.
const Bridge = "bridge"

// Valid reports whether s could be the name of a container, a network or a volume, or an id.
func Valid(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return true
}

// ValidNetwork reports whether s could be the name of a network, in which daemons before Docker 28
// take blanks and most else.
func ValidNetwork(s string) bool {
	return s != "" && len(s) <= 255 && strings.TrimSpace(s) == s && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == 0x7f || strings.ContainsRune(`/\%:"'<>&`, r)
	}) && strings.Trim(s, ".") != ""
}

// Scope is the daemon's name for the client's name. A scoped name stays as it is.
func (n Names) Scope(name string) string { return n.prefix + strings.TrimPrefix(name, n.prefix) }

// Scoped reports whether a name in the daemon is one that this guard has given.
func (n Names) Scoped(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, "/"), n.prefix)
}

// Unscope takes the prefix out of a text.
func (n Names) Unscope(text string) string {
	return strings.ReplaceAll(n.Tags.ShowName(text), n.prefix, "")
}

// escape is a character of JSON that is written as a number, whose last digit may look like the
// first letter of a prefix. An escaped backslash is matched so that what comes behind it isn't.
var escape = regexp.MustCompile(`\\\\|\\u[0-9a-f]{4}`)

// Answer makes an answer of the daemon's (compact JSON) one for the client: names without prefix,
// and the stage's network under the name of the one that it stands in for.
func (n Names) Answer(b []byte) []byte {
	b = n.withoutLabels(capitals(b))
	b = bytes.ReplaceAll(n.Tags.Show(b), []byte(n.prefix), nil)
	quoted := strconv.Quote(n.network)
	b = bytes.ReplaceAll(b, []byte(`"NetworkMode":`+quoted), []byte(`"NetworkMode":"bridge"`))
	return bytes.ReplaceAll(b, []byte(quoted+`:{`), []byte(`"bridge":{`))
}

// capitals writes escapes in capitals: it means the same, and no prefix has any.
func capitals(b []byte) []byte {
	if !bytes.Contains(b, []byte(`\u`)) {
		return b
	}
	return escape.ReplaceAllFunc(b, func(match []byte) []byte { return append(match[:2:2], bytes.ToUpper(match[2:])...) })
}

// space begins the keys of labels that are the runner's alone, and spaced finds them with their
// values.
const space = `"io.drone-runner-sysbox.`

var spaced = regexp.MustCompile(`"io\.drone-runner-sysbox\.[^"\\]*":"(?:[^"\\]|\\.)*"`)

// withoutLabels takes the runner's own labels out of JSON: a key with its value, with quotes that
// stand bare, can be nothing else.
func (n Names) withoutLabels(b []byte) []byte {
	for _, label := range n.labels {
		b = cut(b, label)
	}
	if bytes.Contains(b, []byte(space)) {
		for _, label := range spaced.FindAll(b, -1) {
			b = cut(b, label)
		}
	}
	return b
}

// cut takes a field out of all objects, with the comma that parts it from another.
func cut(b, field []byte) []byte {
	for from := 0; ; {
		i := bytes.Index(b[from:], field)
		if i < 0 {
			return b
		}
		begin, end := from+i, from+i+len(field)
		if begin == 0 || end == len(b) || b[begin-1] != '{' && b[begin-1] != ',' || b[end] != '}' && b[end] != ',' {
			from = begin + 1 // it begins within a string, or is no field
			continue
		}
		switch {
		case b[end] == ',':
			end++
		case b[begin-1] == ',':
			begin--
		}
		b, from = slices.Concat(b[:begin], b[end:]), begin
	}
}

// Random is a name like those that the daemon gives. The guard names what the client doesn't: a
// name with the prefix is half of the proof of ownership.
func (n Names) Random() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b) // never fails
	return n.prefix + namesgenerator.GetRandomName(0) + "_" + hex.EncodeToString(b)
}

// IsHex reports whether s is all lower-case hexadecimal digits, as ids are.
func IsHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// IsID reports whether s is a full id.
func IsID(s string) bool { return len(s) == 64 && IsHex(s) }

package guard

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/docker/docker/pkg/namesgenerator"
)

// names translates between what a client calls its containers, networks and volumes and what the daemon does. Two builds may both have a "db": the daemon
// knows them as "ID.db", ID being each build's own.
//
// The prefix is so unlike anything else that it may be cut out of every text that goes to a client, wherever it stands: in lists, inspections, events and errors. Streams
// of the client's own data (logs, archives) aren't touched.
type names struct {
	prefix  string // "ID."
	network string // the build's network in the daemon
	tags    tags   // what images are called
}

// bridge is what a client knows the build's network as: Docker's default network, which it stands in for.
const bridge = "bridge"

// nameable tells whether s could be the name of a container, a network or a volume, or an id.
func nameable(s string) bool {
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

// scope is the daemon's name for the client's name. A scoped name stays as it is.
func (n names) scope(name string) string { return n.prefix + strings.TrimPrefix(name, n.prefix) }

// scoped tells whether a name in the daemon is one that this guard has given.
func (n names) scoped(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, "/"), n.prefix)
}

// unscope takes the prefix out of a text.
func (n names) unscope(text string) string {
	return strings.ReplaceAll(n.tags.showName(text), n.prefix, "")
}

// escape is a character of JSON that is written as a number, whose last digit may look like the first letter of a prefix. An escaped backslash is matched so that what comes
// behind it isn't.
var escape = regexp.MustCompile(`\\\\|\\u[0-9a-f]{4}`)

// answer makes an answer of the daemon's (compact JSON) one for the client: names without prefix, and the build's network under the name of the one that it stands in for.
func (n names) answer(b []byte) []byte {
	if bytes.Contains(b, []byte(`\u`)) {
		// In capitals it means the same, and no prefix has any.
		b = escape.ReplaceAllFunc(b, func(match []byte) []byte { return append(match[:2:2], bytes.ToUpper(match[2:])...) })
	}
	b = bytes.ReplaceAll(n.tags.show(b), []byte(n.prefix), nil)
	quoted := strconv.Quote(n.network)
	b = bytes.ReplaceAll(b, []byte(`"NetworkMode":`+quoted), []byte(`"NetworkMode":"bridge"`))
	return bytes.ReplaceAll(b, []byte(quoted+`:{`), []byte(`"bridge":{`))
}

// random is a name like those that the daemon gives. The guard names what the client doesn't: a name with the prefix is half of the proof of ownership.
func (n names) random() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b) // never fails
	return n.prefix + namesgenerator.GetRandomName(0) + "_" + hex.EncodeToString(b)
}

// isHex tells whether s is all lower-case hexadecimal digits, as ids are.
func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// isID tells whether s is a full id.
func isID(s string) bool { return len(s) == 64 && isHex(s) }

// quoted is a client's text in a message.
func quoted(s string) string { return fmt.Sprintf("%.200q", s) }

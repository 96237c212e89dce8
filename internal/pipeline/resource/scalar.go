package resource

import (
	"encoding/base64"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// resolve gives a scalar the type that Drone's runners give it, which is YAML 1.1's as go-yaml v2
// reads it: yes and on are true, 0777 and 0o777 are octal, a date stays text. Without a type it is
// text, quoted it always is. The result is nil, bool, int, uint64, float64 or string.
func resolve(n *yaml.Node) any {
	tagged := n.Style&yaml.TaggedStyle != 0
	switch {
	case tagged && n.ShortTag() == "!!binary":
		if data, err := base64.StdEncoding.DecodeString(n.Value); err == nil {
			return string(data)
		}
		return n.Value
	case tagged && n.ShortTag() == "!!float":
		v := plain(n.Value)
		if i, ok := v.(int); ok {
			return float64(i)
		}
		return v
	case tagged:
		switch n.ShortTag() {
		case "!!null", "!!bool", "!!int":
			return plain(n.Value)
		}
		return n.Value
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return n.Value
	}
	return plain(n.Value)
}

// float is a number with a fraction or an exponent, the sign of the exponent required (YAML 1.1).
var float = regexp.MustCompile(`^[-+]?[0-9]*\.?[0-9]+([eE][-+][0-9]+)?$`)

// plain types a text that has neither quotes nor a tag.
func plain(s string) any {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil
	case ".nan", ".NaN", ".NAN":
		return math.NaN()
	case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF":
		return math.Inf(1)
	case "-.inf", "-.Inf", "-.INF":
		return math.Inf(-1)
	}
	if b, ok := boolean(s); ok {
		return b
	}
	switch c := s[0]; {
	case c == '.':
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f
		}
	case c == '-' || c == '+' || '0' <= c && c <= '9':
		digits := strings.ReplaceAll(s, "_", "")
		if i, err := strconv.ParseInt(digits, 0, 64); err == nil {
			return int(i)
		}
		if u, err := strconv.ParseUint(digits, 0, 64); err == nil {
			return u
		}
		if float.MatchString(digits) {
			if f, err := strconv.ParseFloat(digits, 64); err == nil {
				return f
			}
		}
	}
	return s
}

// boolean reads the words that YAML 1.1 takes for true and false.
func boolean(s string) (value, ok bool) {
	switch s {
	case "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true, true
	case "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

// generic is a value of settings: nil, a scalar of resolve, []any, or map[string]any.
func (n *node) generic() any {
	switch n.shape {
	case list:
		out := make([]any, len(n.items))
		for i, item := range n.items {
			out[i] = item.generic()
		}
		return out
	case object:
		out := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			out[keyText(f.name)] = f.value.generic()
		}
		return out
	}
	return resolve(n.scalar)
}

// keyText is a key inside settings as JSON, which plugins get, writes it: typed first, so that 0x10
// is 16 and yes is true.
func keyText(n *yaml.Node) string {
	switch v := resolve(n).(type) {
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		return v
	}
	return "null"
}

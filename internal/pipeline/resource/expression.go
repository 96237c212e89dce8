package resource

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/drone/envsubst/parse"
	"github.com/drone/envsubst/path"
)

// maxWork is how many bytes the evaluation of a file's expressions may look at, repeated looks
// included. It is a second or less.
const maxWork = 256 << 20

// Errors of what an expression costs.
var (
	errWork = errors.New("the expressions of this file take too long: remove some, or those that trim or " +
		"replace in long values")
	errResult = sizeError(" after substitution")
)

// evaluator evaluates expressions that Drone's library has parsed, with its results. The library
// itself bounds neither the result nor the time: ${DRONE_COMMIT_MESSAGE//a/…} is as long as both of
// its parts multiplied.
type evaluator struct {
	lookup func(string) string
	// work and room are what is left of maxWork and MaxFile.
	work, room int
}

// spend takes work from what is left.
func (e *evaluator) spend(n int) error {
	if e.work -= n; e.work < 0 {
		return errWork
	}
	return nil
}

// evaluate returns the value of a text that is one expression or begins with one. Panics of the
// library are errors of the expression.
func (e *evaluator) evaluate(text string) (out string, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = "", fmt.Errorf("bad expression (%v)", r)
		}
	}()
	// The library copies the whole text at each character that a backslash or a dollar escapes.
	if err := e.spend(len(text) * (1 + strings.Count(text, `\`) + strings.Count(text, "$$"))); err != nil {
		return "", err
	}
	tree, err := parse.Parse(text)
	if err != nil {
		return "", err
	}
	return e.node(tree.Root)
}

// node returns the value of a part of an expression, which is no longer than the file may become.
func (e *evaluator) node(n parse.Node) (string, error) {
	switch n := n.(type) {
	case *parse.TextNode:
		return n.Value, nil
	case *parse.ListNode:
		return e.join(n.Nodes)
	case *parse.FuncNode:
		args := make([]string, len(n.Args))
		for i, arg := range n.Args {
			var err error
			if args[i], err = e.node(arg); err != nil {
				return "", err
			}
		}
		value := e.lookup(n.Param)
		size := len(value)
		for _, arg := range args {
			size += len(arg)
		}
		if err := e.spend(size); err != nil {
			return "", err
		}
		out, err := e.call(n.Name, value, args)
		if err == nil && len(out) > e.room {
			err = errResult
		}
		return out, err
	}
	return "", nil
}

func (e *evaluator) join(nodes []parse.Node) (string, error) {
	var out strings.Builder
	for _, n := range nodes {
		value, err := e.node(n)
		if err != nil {
			return "", err
		}
		if out.Len()+len(value) > e.room {
			return "", errResult
		}
		out.WriteString(value)
	}
	return out.String(), nil
}

// call applies the function of an expression: ${value<name><args>}. One that the library doesn't
// know is a default.
func (e *evaluator) call(name, value string, args []string) (string, error) {
	switch name {
	case ",":
		return first(value, unicode.ToLower), nil
	case ",,":
		return strings.ToLower(value), nil
	case "^":
		return first(value, unicode.ToUpper), nil
	case "^^":
		return strings.ToUpper(value), nil
	case "#", "##":
		if len(args) == 0 {
			if name == "#" {
				return strconv.Itoa(len(value)), nil
			}
			return value, nil
		}
		return e.trim(value, args[0], name == "##")
	case "%", "%%":
		if len(args) == 0 {
			return value, nil
		}
		out, err := e.trim(reverse(value), reverse(args[0]), name == "%%")
		return reverse(out), err
	case ":":
		return substring(value, args), nil
	case "/#":
		if len(args) == 2 && strings.HasPrefix(value, args[0]) {
			return args[1] + value[len(args[0]):], nil
		}
		return value, nil
	case "/%":
		if len(args) == 2 && strings.HasSuffix(value, args[0]) {
			return value[:len(value)-len(args[0])] + args[1], nil
		}
		return value, nil
	case "/":
		return e.replace(value, args, 1)
	case "//":
		return e.replace(value, args, -1)
	}
	if value == "" {
		return strings.Join(args, ""), nil
	}
	return value, nil
}

// replace replaces the first argument by the second, or by nothing.
func (e *evaluator) replace(value string, args []string, times int) (string, error) {
	var old, by string
	switch len(args) {
	case 0:
		return value, nil
	case 1:
		old = args[0]
	default:
		old, by = args[0], args[1]
	}
	if times < 0 && len(value)+strings.Count(value, old)*(len(by)-len(old)) > e.room {
		return "", errResult
	}
	return strings.Replace(value, old, by, times), nil
}

// trim cuts off the shortest or the longest beginning that matches a pattern. A malformed pattern
// matches nothing.
func (e *evaluator) trim(value, pattern string, longest bool) (string, error) {
	shortest := 0
	for end := len(value); end > 0; end-- {
		if err := e.spend(end*strings.Count(pattern, "*")*len(pattern) + len(pattern)); err != nil {
			return "", err
		}
		matched, err := path.Match(pattern, value[:end])
		switch {
		case err != nil:
			return value, nil
		case matched && longest:
			return value[end:], nil
		case matched:
			shortest = end
		}
	}
	return value[shortest:], nil
}

// substring is ${value:position:length} in bytes. A number that can't be read leaves the value.
func substring(value string, args []string) string {
	if len(args) == 0 {
		return value
	}
	at, err := strconv.Atoi(args[0])
	if err != nil {
		return value
	}
	if at < 0 {
		at = max(0, len(value)+at)
	}
	if len(args) == 1 {
		return value[min(at, len(value)):]
	}
	length, err := strconv.Atoi(args[1])
	if err != nil {
		return value
	}
	if at+length >= len(value) {
		return value[min(at, len(value)):]
	}
	return value[at : at+length]
}

// first changes the first character of a text.
func first(text string, change func(rune) rune) string {
	if text == "" {
		return text
	}
	r, size := utf8.DecodeRuneInString(text)
	return string(change(r)) + text[size:]
}

// reverse returns the characters of a text in the opposite order.
func reverse(text string) string {
	runes := []rune(text)
	for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
		runes[i], runes[j] = runes[j], runes[i]
	}
	return string(runes)
}

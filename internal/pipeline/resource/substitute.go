package resource

import (
	"errors"
	"fmt"
	"strings"
)

// Substitute evaluates the ${VAR} expressions of a .drone.yml before it is parsed, as Drone does:
// over the whole text, comments included. An unknown variable is empty; $${VAR} is left for the
// shell, as ${VAR}; \/ and \\ lose their first backslash. A value of several lines comes in as one
// quoted text.
//
// The expressions are those of bash that Drone's library evaluates (${VAR:0:8}, ${VAR##*/},
// ${VAR:-default}, …); finding them is ours, since the library names no line, takes quadratic time
// for $$, and cuts the file off at a NUL. The result has at most MaxFile bytes, and the time is
// bounded by maxWork. Substitute never panics.
func Substitute(data []byte, env map[string]string) ([]byte, error) {
	if len(data) > MaxFile {
		return nil, sizeError("")
	}
	text := string(data)
	if i := strings.IndexByte(text, 0); i >= 0 {
		return nil, fmt.Errorf("line %d: the file holds a NUL character: remove it", lineAt(text, i))
	}
	if !strings.ContainsAny(text, `$\`) {
		return data, nil
	}
	quoted := map[string]string{}
	eval := &evaluator{work: maxWork, lookup: func(name string) string {
		v := env[name]
		if !strings.Contains(v, "\n") {
			return v
		}
		if quoted[name] == "" {
			quoted[name] = fmt.Sprintf("%q", v)
		}
		return quoted[name]
	}}
	var out strings.Builder
	out.Grow(len(text))
	for i := 0; i < len(text); {
		next := strings.IndexAny(text[i:], `$\`)
		if next < 0 {
			out.WriteString(text[i:])
			break
		}
		out.WriteString(text[i : i+next])
		i += next
		switch rest := text[i:]; {
		case strings.HasPrefix(rest, "${"):
			eval.room = MaxFile - out.Len()
			value, length, err := eval.expression(rest)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", lineAt(text, i), err)
			}
			out.WriteString(value)
			i += length
		case strings.HasPrefix(rest, "$$"), strings.HasPrefix(rest, `\/`), strings.HasPrefix(rest, `\\`):
			out.WriteByte(rest[1])
			i += 2
		default:
			out.WriteByte(rest[0])
			i++
		}
		if out.Len() > MaxFile {
			return nil, fmt.Errorf("line %d: %w", lineAt(text, i), errResult)
		}
	}
	if out.Len() > MaxFile {
		return nil, errResult
	}
	return []byte(out.String()), nil
}

func lineAt(text string, i int) int { return 1 + strings.Count(text[:i], "\n") }

// Bounds of one expression; Drone's own are a line long and hold a few others.
const (
	maxExpression = 16 << 10
	maxBraces     = 64
)

// expression evaluates the ${…} that the text begins with, and returns its length. Expressions may
// hold others, so the one that ends first is tried first: the library reads from left to right, and
// so a beginning that it takes for an expression is the expression.
func (e *evaluator) expression(text string) (value string, length int, err error) {
	if len(text) > maxExpression {
		text = text[:maxExpression]
	}
	first := errors.New("missing closing brace")
	for braces := 0; braces < maxBraces; braces++ {
		next := strings.IndexByte(text[length:], '}')
		if next < 0 {
			break
		}
		length += next + 1
		value, err = e.evaluate(text[:length])
		switch {
		case err == nil:
			return value, length, nil
		case errors.Is(err, errWork), errors.Is(err, errResult):
			return "", 0, err
		case braces == 0:
			first = err
		}
	}
	line, _, _ := strings.Cut(text, "\n")
	end := strings.IndexByte(line, '}') + 1
	if end == 0 {
		end = len(line)
	}
	return "", 0, fmt.Errorf("substitute %q: %w: write $${…} if the shell, not the runner, is to expand it, and "+
		"${…} with a variable's name if the runner is",
		shorten(line[:end]), first)
}

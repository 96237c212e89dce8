package rpc

import (
	"strings"
	"unicode/utf8"

	"github.com/drone/drone-go/drone"
)

// maxError is how many bytes of an error the server keeps. It cuts longer ones without a look at
// the characters, and PostgreSQL refuses half a character, each time.
const maxError = 500

// clip returns an error's text as every database takes it: valid UTF-8 without NUL, of at most
// maxError bytes.
func clip(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), string(utf8.RuneError))
	if len(text) <= maxError {
		return text
	}
	const mark = "…"
	cut := maxError - len(mark)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}

// clipped returns the steps with errors that every database takes. Steps that change are copies.
func clipped(steps []*drone.Step) []*drone.Step {
	for i, step := range steps {
		if text := clip(step.Error); text != step.Error {
			short := *step
			short.Error = text
			steps[i] = &short
		}
	}
	return steps
}

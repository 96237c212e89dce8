package config

import (
	"fmt"
	"io"
)

// Secret is a value that no log shows: it prints and encodes as asterisks, however it is printed.
// Convert it to string to use it.
type Secret string

const redacted = "******"

// Format prints asterisks for every verb; a Stringer alone wouldn't do for %d and its like.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// String is asterisks, or nothing where there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// MarshalText is String, for JSON and its like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the value as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

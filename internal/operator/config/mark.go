package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Mark is how full a disk may be: a part of it in percent, or a number of bytes. The zero one is
// none.
type Mark struct {
	Percent int
	Bytes   int64
}

// UnmarshalText parses 80%, 200GB, 0.
func (m *Mark) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if number, is := strings.CutSuffix(s, "%"); is {
		percent, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || percent < 0 || percent > 99 {
			return fmt.Errorf("%q is not a part of a disk: write one from 1%% to 99%%", s)
		}
		*m = Mark{Percent: percent}
		return nil
	}
	var b Bytes
	if err := b.UnmarshalText([]byte(s)); err != nil || b < 0 {
		return fmt.Errorf("%q is neither a part of a disk nor a number of bytes: write one such as 80%% or 200GB, "+
			"or 0 for none", s)
	}
	*m = Mark{Bytes: int64(b)}
	return nil
}

// String is the mark as it is written.
func (m Mark) String() string {
	if m.Percent > 0 {
		return strconv.Itoa(m.Percent) + "%"
	}
	return Bytes(m.Bytes).String()
}

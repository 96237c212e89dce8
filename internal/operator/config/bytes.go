package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// Bytes is a number of bytes, written plainly or with a unit; units are powers of 1024, as Docker's
// are. -1 is for the one variable that knows it.
type Bytes int64

// UnmarshalText parses 5242880, 5m, 5MB, 5MiB.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n, err = units.RAMInBytes(s)
	}
	if err != nil || n < -1 {
		return fmt.Errorf("%q is not a number of bytes: write one such as 5242880, 5MB or 2GB", s)
	}
	*b = Bytes(n)
	return nil
}

// String is the number with the largest unit that is near it: 5MiB.
func (b Bytes) String() string { return units.BytesSize(float64(b)) }

package config

import (
	"fmt"
	"slices"
	"strings"
)

// Pairs are written KEY:value,KEY:value. Values can hold colons, which envconfig's own maps don't
// allow.
type Pairs[V ~string] map[string]V

// Decode is called by envconfig. Its error doesn't quote a pair, which may be a secret.
func (p *Pairs[V]) Decode(text string) error {
	pairs := Pairs[V]{}
	for i, pair := range slices.Collect(strings.SplitSeq(text, ",")) {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, ":")
		if key = strings.TrimSpace(key); !ok || key == "" {
			return fmt.Errorf("its pair no. %d is not KEY:value: write KEY:value,KEY:value (a value can hold "+
				"colons but no commas)", i+1)
		}
		pairs[key] = V(value)
	}
	*p = pairs
	return nil
}

package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"
)

// keyName is the file in the state folder that the scopes are made of.
const keyName = "cache.key"

// keySize is the key's length in bytes.
const keySize = 32

// Scopes keep apart what builds have in caches that are found by a name that anybody may write,
// those of RUN --mount=type=cache: a scope goes before the name, and nobody guesses another's. A
// nil one has no scopes. It may be used concurrently.
type Scopes struct{ key []byte }

// OpenScopes reads the key in a state folder, or makes one: without it, what was cached isn't found
// any more.
func OpenScopes(state string) (*Scopes, error) {
	path := filepath.Join(state, keyName)
	key, err := os.ReadFile(path)
	switch {
	case err == nil && len(key) == keySize:
		return &Scopes{key}, nil
	case err == nil, errors.Is(err, fs.ErrNotExist):
	default:
		return nil, fmt.Errorf("read the key of the build cache: %w", err)
	}
	key = make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	if err := atomicwriter.WriteFile(path, key, 0o600); err != nil {
		return nil, fmt.Errorf("keep the key of the build cache: %w", err)
	}
	return &Scopes{key}, nil
}

// Of returns the scope of a name: the same over restarts, for that name alone. It is 32
// hexadecimal digits; "" for no name, and without scopes.
func (s *Scopes) Of(name string) string {
	if s == nil || name == "" {
		return ""
	}
	sum := hmac.New(sha256.New, s.key)
	sum.Write([]byte(name))
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

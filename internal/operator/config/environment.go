package config

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// environment is held by whoever changes the process's, so that two calls of Load don't read each other's values.
var environment sync.Mutex

// inEnvironment calls f while the process's environment holds values, and none of the names that values lacks; then those names are as they were. envconfig reads
// no other environment.
func inEnvironment(names []string, values map[string]string, f func() error) (err error) {
	environment.Lock()
	defer environment.Unlock()
	for _, name := range names {
		before, was := os.LookupEnv(name)
		value, is := values[name]
		if was == is && before == value {
			continue
		}
		defer func() { err = errors.Join(err, put(name, before, was)) }()
		if err := put(name, value, is); err != nil {
			return err
		}
	}
	return f()
}

// put sets a variable of the process, or removes it. Its error doesn't quote the value.
func put(name, value string, set bool) error {
	if !set {
		return os.Unsetenv(name)
	}
	if err := os.Setenv(name, value); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

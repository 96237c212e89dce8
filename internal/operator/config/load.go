package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/joho/godotenv"
)

// prefix of every variable that is ours or Drone's.
const prefix = "DRONE_"

// Load reads the variables of environ, a list of KEY=value as os.Environ gives it. An empty value
// counts as absent, since that is what compose files make of one that isn't set.
//
// The notices are for the log: old names, what was mended, what is ignored. The error holds
// everything that is wrong, one line each; the notices are there with it.
func Load(environ []string) (*Config, []string, error) {
	l := &loader{env: fromEnviron(environ)}
	l.applyLegacy()
	l.sortOut()

	cfg := &Config{}
	l.decode(cfg)
	l.fillIn(cfg)
	l.check(cfg)
	if err := errors.Join(l.errs...); err != nil {
		return nil, l.notices, err
	}
	return cfg, l.notices, nil
}

// LoadFile is Load with the KEY=value lines of a file (the form of docker's --env-file and of .env)
// added to environ, whose own values win. The variables in it that aren't Drone's go into the
// process's environment, unless they are set there: DOCKER_HOST, HTTPS_PROXY and their like, which
// libraries read.
func LoadFile(path string, environ []string) (*Config, []string, error) {
	file, err := readEnvFile(path)
	if err != nil {
		return nil, nil, err
	}
	set := fromEnviron(environ)
	for _, key := range sortedNames(file) {
		if _, ok := set[key]; ok {
			continue
		}
		if strings.HasPrefix(key, prefix) {
			environ = append(slices.Clip(environ), key+"="+file[key])
		} else if err := os.Setenv(key, file[key]); err != nil {
			return nil, nil, fmt.Errorf("take %q from the environment file %s: %w", key, path, err)
		}
	}
	return Load(environ)
}

// loader is one call of Load: the variables as they are left by the steps so far, and what there is
// to say.
type loader struct {
	env     map[string]string
	notices []string
	errs    []error
}

func (l *loader) notice(format string, args ...any) {
	l.notices = append(l.notices, fmt.Sprintf(format, args...))
}

func (l *loader) fail(format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf(format, args...))
}

// fromEnviron leaves out empty values. The last of several is the one that counts.
func fromEnviron(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		if value == "" {
			delete(env, key)
			continue
		}
		env[key] = value
	}
	return env
}

// fillIn sets the defaults that depend on the machine, and adds what the environment file holds.
func (l *loader) fillIn(cfg *Config) {
	if cfg.Runner.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			l.fail("DRONE_RUNNER_NAME: the host name, which is its default, can't be read: %w: set a name", err)
		}
		cfg.Runner.Name = name
	}
	if cfg.Platform.Arch == "" {
		cfg.Platform.Arch = runtime.GOARCH
	}
	if cfg.Runner.EnvFile == "" {
		return
	}
	file, err := readEnvFile(cfg.Runner.EnvFile)
	if err != nil {
		l.fail("DRONE_RUNNER_ENV_FILE: %w", err)
		return
	}
	if cfg.Runner.Environ == nil {
		cfg.Runner.Environ = map[string]string{}
	}
	maps.Copy(cfg.Runner.Environ, file)
}

// readEnvFile reads KEY=value lines. Its errors name the line and don't quote it, since such files
// hold secrets.
func readEnvFile(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the environment file: %w", err)
	}
	values, err := godotenv.UnmarshalBytes(data)
	if err == nil {
		return values, nil
	}
	// The parser's error quotes the rest of the file. The line that it stumbled over follows the
	// longest beginning that is well-formed.
	lines := strings.SplitAfter(string(data), "\n")
	good := len(lines) - 1
	for ; good > 0; good-- {
		if _, err := godotenv.Unmarshal(strings.Join(lines[:good], "")); err == nil {
			break
		}
	}
	return nil, fmt.Errorf("read the environment file: %s:%d: this is not KEY=value: write one variable a line, "+
		"and quote values that hold quotes or #", path, good+1)
}

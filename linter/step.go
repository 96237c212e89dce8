package linter

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/drone/drone-go/drone"
	"github.com/drone/runner-go/manifest"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/glob"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// Values of conditions that can occur at all.
var (
	events   = []string{"cron", "custom", "promote", "pull_request", "push", "rollback", "tag"}
	statuses = []string{"success", "failure"}
)

// checkStep holds the rules for the values of a step that are the same for everybody.
func (c *checker) checkStep(s subject) {
	if s.Image == "" {
		c.at(s, resource.Error, "image", "the step has no image: write image: NAME:TAG")
	} else if _, err := reference.ParseNormalizedNamed(s.Image); err != nil {
		severity := c.ifRun(s)
		if onFailureAlone(s.When.Status) {
			severity = resource.Warning // a build in which this step fails has failed already
		}
		c.at(s, severity, "image", "%q is no image (%v): write REGISTRY/NAME:TAG, in lower case up to the tag",
			s.Image, err)
	}
	c.checkPlugin(s)
	if s.Shell != "" && len(s.Commands) > 0 && !resource.IsShell(s.Shell) {
		c.at(s, resource.Warning, "shell", "%q can't run the commands, and /bin/sh does: write %s, or the "+
			"absolute path of one of them", s.Shell, strings.Join(resource.Shells, ", "))
	}
	c.checkSizes(s)
	for i, host := range s.ExtraHosts {
		if name, ip, ok := strings.Cut(strings.Replace(host, "=", ":", 1), ":"); !ok || name == "" || ip == "" {
			c.at(s, c.ifRun(s), fmt.Sprintf("extra_hosts[%d]", i), "%q is no host: write \"NAME:ADDRESS\"", host)
		}
	}
	for i, server := range s.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			c.at(s, c.ifRun(s), fmt.Sprintf("dns[%d]", i), "%q is no IP address: write the resolver's, such as "+
				"10.0.0.2", server)
		}
	}
	report := func(severity resource.Severity, key, message string) { c.at(s, severity, key, "%s", message) }
	c.checkEnvironment(s.Environment, report)
	c.checkConditions(s.When, "when", report)
}

func (c *checker) checkSizes(s subject) {
	for _, size := range []struct {
		key   string
		value manifest.BytesSize
		least int64
	}{{"mem_limit", s.MemLimit, 0}, {"memswap_limit", s.MemSwap, -1}, {"shm_size", s.ShmSize, 0}} {
		if int64(size.value) < size.least {
			c.at(s, resource.Warning, size.key, "%d is negative and has no effect: write a size such as 512m, or "+
				"remove the key", int64(size.value))
		}
	}
	if s.MemSwap > 0 && s.MemLimit > s.MemSwap {
		c.at(s, c.ifRun(s), "memswap_limit", "the limit is that of memory and swap together, and is less than "+
			"mem_limit: write at least %s", s.MemLimit)
	}
}

// onFailureAlone reports whether a step runs in builds alone that have failed already.
func onFailureAlone(status manifest.Condition) bool {
	return len(status.Include)+len(status.Exclude) > 0 && !glob.Condition(status, drone.StatusPassing)
}

// checkEnvironment requires names that a process can be given.
func (c *checker) checkEnvironment(env map[string]*manifest.Variable, report func(resource.Severity, string, string)) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		short, rest, equals := strings.Cut(name, "=")
		switch {
		case equals && short != "" && env[name] != nil && env[name].Secret == "" && !strings.Contains(name, "\x00"):
			report(resource.Warning, "environment."+name, fmt.Sprintf("the name of a variable ends at the =, so "+
				"this one is %s: %s=…: write %s: '%s…'", short, rest, short, rest+"="))
		case equals || name == "" || strings.Contains(name, "\x00"):
			report(resource.Error, "environment."+name, fmt.Sprintf("%q is no name of a variable: write NAME: "+
				"value", name))
		}
	}
}

// checkConditions warns of patterns that can't match: the step or pipeline would run, or not run,
// without a word.
func (c *checker) checkConditions(when manifest.Conditions, key string, report func(resource.Severity, string,
	string)) {
	for _, condition := range []struct {
		name  string
		value manifest.Condition
		known []string
	}{
		{"action", when.Action, nil}, {"cron", when.Cron, nil}, {"ref", when.Ref, nil}, {"repo", when.Repo, nil},
		{"instance", when.Instance, nil}, {"target", when.Target, nil}, {"event", when.Event, events}, {"branch",
			when.Branch, nil},
		{"status", when.Status, statuses}, {"paths", when.Paths, nil},
	} {
		for _, pattern := range slices.Concat(condition.value.Include, condition.value.Exclude) {
			switch {
			case len(pattern) > glob.MaxPattern:
				report(resource.Warning, key+"."+condition.name, fmt.Sprintf(
					"the pattern has %d bytes and matches nothing: write at most %d", len(pattern), glob.MaxPattern))
			case malformed(pattern):
				report(resource.Warning, key+"."+condition.name, fmt.Sprintf(
					"the pattern %q is malformed and matches nothing: close its brackets and braces, or put a "+
						"backslash in front of them", pattern))
			case condition.known != nil && !strings.ContainsAny(pattern, `*?[{\`) && !slices.Contains(condition.known, pattern):
				report(resource.Warning, key+"."+condition.name, fmt.Sprintf(
					"%q never occurs: write one of %s", pattern, strings.Join(condition.known, ", ")))
			}
		}
	}
}

// malformed reports whether Drone's matcher can't read the pattern.
func malformed(pattern string) bool {
	if _, err := path.Match(pattern, ""); err != nil {
		return true
	}
	open := 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '{':
			open++
		case '}':
			open = max(0, open-1)
		}
	}
	return open > 0
}

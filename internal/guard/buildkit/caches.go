package buildkit

import (
	"maps"
	"path"
)

// cacheNamespace is the build argument by which BuildKit's Dockerfile frontends put something
// before the ids of cache mounts
// (https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args).
//
// A cache mount is a folder that every stage that names its id may read and write. Without a
// namespace, what one stage leaves in /root/.cache/go-build another one compiles into what it
// releases.
const cacheNamespace = "BUILDKIT_CACHE_MOUNT_NS"

// scopeOf returns the namespace of the stage's cache mounts, with the client's own ("") in it.
func (p *Proxy) scopeOf(own string) string { return path.Join(p.options.CacheScope, own) }

// scoped adds the namespace to the parameters of a frontend. A definition of the client's names the
// ids of its mounts itself, and can't guess one of a scope.
func (p *Proxy) scoped(frontend string, attrs map[string]string) map[string]string {
	const key = "build-arg:" + cacheNamespace
	if frontend == "" || p.options.CacheScope == "" {
		return attrs
	}
	out := map[string]string{}
	maps.Copy(out, attrs)
	out[key] = p.scopeOf(attrs[key])
	return out
}

// ScopeArgs is scoped for the arguments of POST /build. It changes none of what it gets.
func (p *Proxy) ScopeArgs(args map[string]*string) map[string]*string {
	if p.options.CacheScope == "" {
		return args
	}
	out := map[string]*string{}
	maps.Copy(out, args)
	own := ""
	if v := out[cacheNamespace]; v != nil {
		own = *v
	}
	scope := p.scopeOf(own)
	out[cacheNamespace] = &scope
	return out
}

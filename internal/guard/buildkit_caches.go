package guard

import (
	"encoding/json"
	"maps"
	"path"
)

// cacheNamespace is the build argument by which BuildKit's Dockerfile frontends put something before the ids of cache mounts
// (https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args).
//
// A cache mount is a folder that whoever names its id may read and write. Without a namespace, what one build leaves in /root/.cache/go-build another one compiles into
// what it releases.
const cacheNamespace = "BUILDKIT_CACHE_MOUNT_NS"

// scopeOf is the namespace of the build's cache mounts, with the client's own ("") in it.
func (g *Guard) scopeOf(own string) string { return path.Join(g.opts.CacheScope, own) }

// scoped gives a frontend the namespace. A definition of the client's names the ids of its mounts itself, and can't guess one of a scope.
func (o solveOpts) scoped(frontend string, attrs map[string]string) map[string]string {
	const key = "build-arg:" + cacheNamespace
	if frontend == "" || o.g.opts.CacheScope == "" {
		return attrs
	}
	out := map[string]string{}
	maps.Copy(out, attrs)
	out[key] = o.g.scopeOf(attrs[key])
	return out
}

// scope is scoped for POST /build.
func (b *buildRequest) scope() error {
	if b.g.opts.CacheScope == "" {
		return nil
	}
	args := map[string]*string{}
	maps.Copy(args, b.args)
	own := ""
	if v := args[cacheNamespace]; v != nil {
		own = *v
	}
	scope := b.g.scopeOf(own)
	args[cacheNamespace] = &scope
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	b.query.Set("buildargs", string(text))
	return nil
}

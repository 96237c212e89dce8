package guard

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerfile"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/tarfile"
	registries "github.com/drone-runner-sysbox/drone-runner-sysbox/internal/registry"
)

// buildContext puts the rewritten Dockerfile into a build's context, beside the client's, and into
// the list of what isn't part of it: no COPY ever meets it. ours is its name.
func buildContext(ctx context.Context, path string, file *dockerfile.Classic) (edit tarfile.Edit, ours string) {
	ours = ".dockerfile." + strings.ToLower(rand.Text())
	wanted := cleanFile(path)
	lower := wanted
	if wanted == "Dockerfile" {
		lower = "dockerfile" // the daemon's own fallback
	}
	edit.Wanted = func(name string) bool { return name == wanted || name == lower || name == dockerfile.IgnoreFile }
	edit.Rest = func(taken []tarfile.File) ([]tarfile.File, error) {
		var src, other, ignore *tarfile.File
		for i := range taken { // the last one counts, as if the archive had been unpacked
			switch f := &taken[i]; f.Name {
			case dockerfile.IgnoreFile:
				ignore = f
			case wanted:
				src = f
			default:
				other = f
			}
		}
		if src == nil {
			src, other = other, nil
		}
		if src == nil {
			return nil, apierror.BadRequest("Cannot locate specified Dockerfile: %s", path)
		}
		text, err := file.Rewrite(ctx, src.Data)
		if err != nil {
			return nil, err
		}
		if ignore == nil {
			ignore = &tarfile.File{Name: dockerfile.IgnoreFile, Data: []byte(dockerfile.IgnoreFile)}
		}
		patterns, err := ignorefile.ReadAll(bytes.NewReader(ignore.Data))
		if err != nil {
			return nil, apierror.BadRequest("failed to read %s: %v", dockerfile.IgnoreFile, err)
		}
		var out []tarfile.File
		excluded, err := patternmatcher.Matches(src.Name, patterns)
		if err != nil {
			return nil, apierror.BadRequest("failed to read %s: %v", dockerfile.IgnoreFile, err)
		}
		if !excluded {
			out = append(out, *src)
		}
		if other != nil {
			out = append(out, *other)
		}
		ignore.Data = append(slices.Clone(ignore.Data), "\n"+ours+"\n"...)
		return append(out, *ignore, tarfile.File{Name: ours, Data: text}), nil
	}
	return edit, ours
}

// base is an image that a Dockerfile builds upon.
type base struct {
	id      string
	onBuild []string
}

// bases resolves the images of a Dockerfile, and pulls those that are missing, as the builder
// would.
type bases struct {
	*buildRequest
	out   *messages
	pull  bool // all
	auth  map[string]registry.AuthConfig
	found map[string]base
}

// Resolve returns the id of an image, and the instructions that it adds to builds upon it.
func (b *bases) Resolve(ctx context.Context, name, platform string) (string, []string, error) {
	if platform == "" {
		platform = b.query.Get("platform")
	}
	key := name + " " + platform
	if have, ok := b.found[key]; ok {
		return have.id, have.onBuild, nil
	}
	found, err := b.get(ctx, name, platform)
	if err != nil {
		return "", nil, err
	}
	b.g.runner.AboutToUse(ctx, found.id)
	b.found[key] = base{found.id, found.onBuild}
	return found.id, found.onBuild, nil
}

func (b *bases) get(ctx context.Context, name, platform string) (imageFound, error) {
	_, whole := names.ImageID(name)
	if !b.pull || whole {
		found, err := b.g.findImage(ctx, name)
		switch {
		case err == nil:
			fits, err := b.fits(ctx, found, platform)
			if err != nil || fits {
				return found, err
			}
		case !apierror.IsNotFound(err) || whole:
			return found, err
		}
	}
	ref, err := b.g.tags.Parse(name)
	if err != nil {
		return imageFound{}, err
	}
	ref = reference.TagNameOnly(ref)
	header := http.Header{}
	if a, ok := b.auth[reference.Domain(ref)]; ok {
		text, err := registry.EncodeAuthConfig(a)
		if err != nil {
			return imageFound{}, err
		}
		header.Set("X-Registry-Auth", text)
	}
	resp, finish, err := b.g.startPull(ctx, pull{ref: ref, platform: platform, header: header})
	if err != nil {
		return imageFound{}, err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if err == io.EOF {
			break
		}
		if err != nil {
			return imageFound{}, fmt.Errorf("pull %s: %w", name, err)
		}
		if isFailure(raw) {
			var m struct{ Error string }
			_ = json.Unmarshal(raw, &m) // isFailure has done it
			return imageFound{}, apierror.New(http.StatusInternalServerError, m.Error)
		}
		if !b.out.quiet {
			if err := b.out.send(b.g.names.Answer(raw)); err != nil {
				return imageFound{}, err
			}
		}
	}
	if err := finish(ctx); err != nil {
		return imageFound{}, err
	}
	return b.g.findImage(ctx, name)
}

// fits reports whether an image is of the platform that is wanted.
func (b *bases) fits(ctx context.Context, found imageFound, platform string) (bool, error) {
	if platform == "" {
		return true, nil
	}
	foreign, err := b.g.foreign(ctx, platform)
	if err != nil || !foreign {
		return true, err
	}
	os, rest, _ := strings.Cut(strings.ToLower(platform), "/")
	arch, _, _ := strings.Cut(rest, "/")
	return found.platform == os+"/"+arch, nil
}

// registryConfig reads the credentials for all registries that come with a build, by the
// registries' names.
func registryConfig(header string) (map[string]registry.AuthConfig, error) {
	out := map[string]registry.AuthConfig{}
	if header == "" {
		return out, nil
	}
	b, err := base64.URLEncoding.DecodeString(header)
	if err != nil {
		if b, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(header, "=")); err != nil {
			return nil, apierror.BadRequest("invalid X-Registry-Config header: %v", err)
		}
	}
	var in map[string]registry.AuthConfig
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, apierror.BadRequest("invalid X-Registry-Config header: %v", err)
	}
	for key, a := range in {
		host := registries.Host(key)
		if a.ServerAddress == "" {
			a.ServerAddress = host
		}
		out[host] = a
	}
	return out, nil
}

// cleanFile returns a path below a build context, or "" if it leads out.
func cleanFile(name string) string {
	clean := path.Clean("/" + strings.ReplaceAll(name, `\`, "/"))[1:]
	if strings.ContainsAny(name, "\x00\n") {
		return ""
	}
	return clean
}

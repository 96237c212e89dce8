// Package imagetar replaces the names in archives of images (docker load, docker save) on their way
// between a client and the daemon.
//
// The one rule to keep: no archive that goes to the daemon names an image outside of the stage's
// own domain, and none that goes to the client names one inside.
package imagetar

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/tarfile"
)

// The files of an archive of images that hold names: Docker's own, the one of before 1.10, and
// OCI's.
const (
	ManifestFile     = "manifest.json"
	repositoriesFile = "repositories"
	indexFile        = "index.json"
)

// The annotations of OCI indices that hold names.
const (
	annotationName    = "io.containerd.image.name"
	annotationRefName = ocispec.AnnotationRefName
)

func namesFile(name string) bool {
	return name == ManifestFile || name == repositoriesFile || name == indexFile
}

// archivedImage is an entry of manifest.json. It has no Parent: a loaded image that claims to come
// of a shared one would be in the cache of builds upon that one.
type archivedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// hideNames replaces the names in an archive by private ones; what has none gets one. Docker's
// manifest.json is always among what comes out: without it the daemon would look for names
// elsewhere.
func hideNames(t names.Tags, taken []tarfile.File) ([]tarfile.File, error) {
	var out []tarfile.File
	seen := map[string]bool{}
	for _, f := range taken {
		if seen[f.Name] {
			return nil, apierror.BadRequest("the archive has %s twice", f.Name)
		}
		seen[f.Name] = true
		var b []byte
		var err error
		switch f.Name {
		case ManifestFile:
			b, err = hideManifest(t, f.Data)
		case indexFile:
			b, err = hideIndex(t, f.Data)
		default: // repositories says nothing that manifest.json doesn't
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, tarfile.File{Name: f.Name, Data: b})
	}
	if !seen[ManifestFile] && !seen[indexFile] {
		return nil, apierror.BadRequest(
			"the archive is none of images: it has no %s and no %s; archives of Docker before 1.10 must be saved anew",
			ManifestFile,
			indexFile,
		)
	}
	if !seen[ManifestFile] {
		out = append(out, tarfile.File{Name: ManifestFile, Data: []byte("[]")})
	}
	return out, nil
}

func hideManifest(t names.Tags, b []byte) ([]byte, error) {
	var list []archivedImage
	if err := json.Unmarshal(b, &list); err != nil { // the daemon gets what came out, encoded anew
		return nil, apierror.BadRequest("%s of the archive: %v", ManifestFile, err)
	}
	for i := range list {
		names := []string{}
		for _, name := range list[i].RepoTags {
			private, err := t.Target(name)
			if err != nil {
				return nil, err
			}
			names = append(names, private)
		}
		if len(names) == 0 {
			repo, tag := t.Untagged()
			names = append(names, repo+":"+tag)
		}
		list[i].RepoTags = names
	}
	return json.Marshal(list)
}

func hideIndex(t names.Tags, b []byte) ([]byte, error) {
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, apierror.BadRequest("%s of the archive: %v", indexFile, err)
	}
	for i := range index.Manifests {
		a := index.Manifests[i].Annotations
		name := a[annotationName]
		if name == "" {
			name = a[annotationRefName]
		}
		var private string
		if ref, err := reference.ParseNormalizedNamed(name); err == nil &&
			(a[annotationName] != "" || strings.ContainsAny(name, "/:")) {
			if private, err = t.Target(reference.TagNameOnly(reference.TrimNamed(ref)).String()); err != nil {
				return nil, err
			}
			if tagged, ok := ref.(reference.Tagged); ok {
				if private, err = t.Target(ref.Name() + ":" + tagged.Tag()); err != nil {
					return nil, err
				}
			}
		} else {
			repo, tag := t.Untagged()
			private = repo + ":" + tag
		}
		index.Manifests[i].Annotations = map[string]string{
			annotationName:    private,
			annotationRefName: names.MustParse(private).(reference.Tagged).Tag(),
		}
	}
	return json.Marshal(index)
}

// showNames replaces the private names in an archive by the client's.
func showNames(t names.Tags, taken []tarfile.File) ([]tarfile.File, error) {
	for i, f := range taken {
		var err error
		switch f.Name {
		case ManifestFile:
			taken[i].Data, err = showManifest(t, f.Data)
		case repositoriesFile:
			taken[i].Data, err = showRepositories(t, f.Data)
		case indexFile:
			taken[i].Data, err = showIndex(t, f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of the docker daemon's archive: %w", f.Name, err)
		}
	}
	return taken, nil
}

func showManifest(t names.Tags, b []byte) ([]byte, error) {
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	for _, image := range list {
		var shown []string
		if err := json.Unmarshal(image["RepoTags"], &shown); err != nil {
			return nil, err
		}
		shown = slices.DeleteFunc(
			shown,
			func(n string) bool { return t.Anonymous(n) || names.Reserved(n) && !t.Owns(n) },
		)
		for i := range shown {
			shown[i] = t.ShowName(shown[i])
		}
		if len(shown) == 0 {
			shown = nil
		}
		text, err := json.Marshal(shown)
		if err != nil {
			return nil, err
		}
		image["RepoTags"] = text
	}
	return json.Marshal(list)
}

func showRepositories(t names.Tags, b []byte) ([]byte, error) {
	var repos, out map[string]json.RawMessage
	if err := json.Unmarshal(b, &repos); err != nil {
		return nil, err
	}
	out = map[string]json.RawMessage{}
	for name, tags := range repos {
		if names.Reserved(name) && !t.Owns(name) || t.AnonymousRepository(name) {
			continue
		}
		out[t.ShowName(name)] = tags
	}
	return json.Marshal(out)
}

func showIndex(t names.Tags, b []byte) ([]byte, error) {
	var index map[string]json.RawMessage
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, err
	}
	var manifests []map[string]json.RawMessage
	if err := json.Unmarshal(index["manifests"], &manifests); err != nil {
		return nil, err
	}
	for _, m := range manifests {
		var a map[string]string
		if len(m["annotations"]) == 0 {
			continue
		}
		if err := json.Unmarshal(m["annotations"], &a); err != nil {
			return nil, err
		}
		name := a[annotationName]
		switch {
		case name == "":
			continue
		case t.Anonymous(name) || names.Reserved(name) && !t.Owns(name):
			delete(a, annotationName)
			delete(a, annotationRefName)
		default:
			a[annotationName] = string(t.ShowFull([]byte(name)))
		}
		text, err := json.Marshal(a)
		if err != nil {
			return nil, err
		}
		m["annotations"] = text
	}
	text, err := json.Marshal(manifests)
	if err != nil {
		return nil, err
	}
	index["manifests"] = text
	return json.Marshal(index)
}

// Hide replaces the client's names in an archive of images by the stage's private ones.
func Hide(t names.Tags) tarfile.Edit {
	return tarfile.Edit{
		Wanted: namesFile,
		Rest:   func(taken []tarfile.File) ([]tarfile.File, error) { return hideNames(t, taken) },
	}
}

// Show replaces the stage's private names in an archive of images by the client's.
func Show(t names.Tags) tarfile.Edit {
	return tarfile.Edit{
		Wanted: namesFile,
		Rest:   func(taken []tarfile.File) ([]tarfile.File, error) { return showNames(t, taken) },
	}
}

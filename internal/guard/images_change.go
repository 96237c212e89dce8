package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
)

// target is the daemon's name for the image that a client wants to call repo:tag; a name of its own for one that it doesn't name.
func (c *call) target(repo, tag string) (string, error) {
	if repo == "" {
		if tag != "" {
			return "", badRequest("invalid reference format: a tag without a repository")
		}
		r, t := c.g.tags.untagged()
		return r + ":" + t, nil
	}
	if tag != "" {
		if strings.Contains(tag, "@") || strings.Contains(tag, "/") {
			return "", badRequest("invalid tag format: %.200s", tag)
		}
		repo += ":" + tag
	}
	return c.g.tags.target(repo)
}

// target is the daemon's name for an image that a client wants to call name.
func (t tags) target(name string) (string, error) {
	ref, err := t.parse(name)
	if isNotFound(err) {
		return "", refuse("the name "+quoted(name), "names that end a host in "+tagSpace+" are the runner's own")
	}
	if err != nil {
		return "", err
	}
	if _, ok := ref.(reference.Digested); ok {
		return "", badRequest("refusing to create a tag with a digest reference")
	}
	return t.private(reference.TagNameOnly(ref))
}

// repoTag is a name as two query parameters.
func repoTag(q url.Values, name string) url.Values {
	ref := mustNamed(name)
	q.Set("repo", reference.TrimNamed(ref).Name())
	if tagged, ok := ref.(reference.Tagged); ok {
		q.Set("tag", tagged.Tag())
	}
	return q
}

// tagImage gives an image that the client sees another name, of the build's own.
func tagImage(ctx context.Context, c *call) error {
	found, err := c.g.findImage(ctx, c.vars["name"])
	if err != nil {
		return err
	}
	if c.query.Get("repo") == "" {
		return badRequest("repository name must have at least one component")
	}
	to, err := c.target(c.query.Get("repo"), c.query.Get("tag"))
	if err != nil {
		return err
	}
	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	c.g.images.remember(found.id)
	return c.send(ctx, outgoing{method: http.MethodPost, path: "/images/" + found.id + "/tag", query: repoTag(url.Values{}, to)})
}

// deleted is a line of the answer to a removal.
type deleted struct {
	Untagged string `json:",omitempty"`
	Deleted  string `json:",omitempty"`
}

// deleteImage takes names away from an image of the build's. The image itself stays in the daemon without a name: its layers are the cache for the next build.
func deleteImage(ctx context.Context, c *call) error {
	found, err := c.g.findImage(ctx, c.vars["name"])
	if err != nil {
		return err
	}
	if found.tag == "" && len(found.names.own) == 0 {
		return refusal{"removal of image " + quoted(c.vars["name"]), "it is shared by all builds", "the runner removes it when its disk runs short"}
	}
	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	gone := []string{found.tag}
	if found.tag == "" {
		if gone = found.names.own; len(gone) > 1 && !c.flag("force") {
			return statusError{http.StatusConflict, fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", short(found.id))}
		}
	}
	left := slices.DeleteFunc(slices.Clone(found.names.own), func(n string) bool { return slices.Contains(gone, n) || c.g.tags.anonymous(n) })
	last := len(left) == 0
	if last {
		if !c.flag("force") {
			if err := c.g.unused(ctx, found); err != nil {
				return err
			}
		}
		gone = slices.Concat(found.names.own, found.names.ownDigests)
	}
	answer, err := c.g.untag(ctx, found.id, gone)
	if err != nil {
		return err
	}
	if last {
		c.g.images.forget(found.id)
		answer = append(answer, deleted{Deleted: found.id})
	}
	return c.answerJSON(http.StatusOK, answer)
}

// unused is a conflict if a container of the client's was made from the image.
func (g *Guard) unused(ctx context.Context, found imageFound) error {
	users, err := g.users(ctx)
	if err != nil {
		return err
	}
	if id := users[found.id]; id != "" {
		name := short(found.id)
		if found.tag != "" {
			name = strconv.Quote(g.tags.showName(found.tag))
		}
		return statusError{http.StatusConflict, fmt.Sprintf("conflict: unable to remove repository reference %s (must force) - container %s is using its referenced image %s", name, id[:12], short(found.id))}
	}
	return nil
}

// users are the client's containers by their image.
func (g *Guard) users(ctx context.Context) (map[string]string, error) {
	var list []struct {
		ID      string `json:"Id"`
		ImageID string
		Names   []string
		Labels  map[string]string
	}
	if err := g.up.call(ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}, "filters": {g.own.ownerFilter()}}, nil, &list); err != nil {
		return nil, err
	}
	users := map[string]string{}
	for _, o := range list {
		if len(o.Names) > 0 && g.own.judgeContainer(o.Names[0], o.Labels) == ofClient {
			users[o.ImageID] = o.ID
		}
	}
	return users, nil
}

// short is an id as Docker shows it.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// untag takes private names away from an image. If nobody else has a lasting name for it, it's given one that keeps it first: the daemon deletes an image with its last name.
func (g *Guard) untag(ctx context.Context, id string, names []string) ([]deleted, error) {
	var in imageInspection
	if err := g.up.call(ctx, http.MethodGet, "/images/"+id+"/json", nil, nil, &in); err != nil {
		return nil, err
	}
	if len(g.sortNames(in.RepoTags, nil).shared) == 0 {
		if err := g.up.call(ctx, http.MethodPost, "/images/"+id+"/tag", repoTag(url.Values{}, keeper(id)), nil, nil); err != nil {
			return nil, err
		}
	}
	answer := []deleted{}
	for _, name := range names {
		err := g.up.call(ctx, http.MethodDelete, "/images/"+name, url.Values{"noprune": {"1"}}, nil, nil)
		if err != nil && !isNotFound(err) {
			return nil, err
		}
		if !g.tags.anonymous(name) {
			answer = append(answer, deleted{Untagged: g.tags.showName(name)})
		}
	}
	return answer, nil
}

// keeper is the name that keeps an image for the cache.
func keeper(id string) string { return keepName + ":" + strings.TrimPrefix(id, "sha256:") }

// pruneImages untags images of the build's own that no container of it uses: those without a name, or with dangling=false all.
func pruneImages(ctx context.Context, c *call) error {
	up, mine, err := c.rewriteFilters(ctx, map[string]filterRule{"dangling": local, "label": passed, "label!": local, "until": local})
	if err != nil {
		return err
	}
	all := mine.ExactMatch("dangling", "false") && mine.Contains("dangling") || mine.Contains("dangling") && mine.ExactMatch("dangling", "0")
	result := struct {
		ImagesDeleted  []deleted
		SpaceReclaimed uint64
	}{ImagesDeleted: []deleted{}}
	if mine.Contains("label!") || mine.Contains("until") { // all that could be meant is this build's, and young
		return c.answerJSON(http.StatusOK, result)
	}
	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	q, err := encodeFilters(nil, up)
	if err != nil {
		return err
	}
	list, err := c.g.listAll(ctx, q)
	if err != nil {
		return err
	}
	users, err := c.g.users(ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		named := slices.ContainsFunc(i.names.own, func(n string) bool { return !c.g.tags.anonymous(n) })
		if len(i.names.own) == 0 || users[i.ID] != "" || named && !all {
			continue
		}
		gone, err := c.g.untag(ctx, i.ID, slices.Concat(i.names.own, i.names.ownDigests))
		if err != nil {
			return err
		}
		c.g.images.forget(i.ID)
		result.ImagesDeleted = append(append(result.ImagesDeleted, gone...), deleted{Deleted: i.ID})
	}
	return c.answerJSON(http.StatusOK, result)
}

// commit makes an image of one of the client's containers.
func commit(ctx context.Context, c *call) error {
	found, err := c.g.own.container(ctx, c.query.Get("container"))
	if err != nil {
		return err
	}
	if found.standing != ofClient {
		return refuse("commit of container "+quoted(c.query.Get("container")), "it is a step of the pipeline, and may hold secrets")
	}
	to, err := c.target(c.query.Get("repo"), c.query.Get("tag"))
	if err != nil {
		return err
	}
	b, err := c.readBody()
	if err != nil {
		return err
	}
	var config *container.Config
	if text := strings.TrimSpace(string(b)); text != "" && text != "null" {
		config = &container.Config{}
		if err := decodeStrict(b, config, createIgnored...); err != nil {
			return err
		}
		p := &checking{Context: ctx, c: c}
		if err := p.enforce("", reflect.ValueOf(config).Elem(), commitRules()); err != nil {
			return err
		}
	}
	q := url.Values{"container": {found.ID}}
	for _, k := range []string{"comment", "author", "pause", "changes"} {
		if v, ok := c.query[k]; ok {
			q[k] = v
		}
	}
	for _, change := range q["changes"] {
		if err := checkChange(change); err != nil {
			return err
		}
	}
	// The container's labels say whose it is. They can't be taken out of the image, only emptied.
	for _, k := range slices.Sorted(maps.Keys(c.g.labels)) {
		q.Add("changes", "LABEL "+strconv.Quote(k)+`=""`)
	}
	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	body, length, err := jsonBody(config)
	if err != nil {
		return err
	}
	resp, err := c.ask(ctx, outgoing{method: http.MethodPost, path: "/commit", query: repoTag(q, to), header: jsonHeader(), body: body, length: length})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.transform(resp, func(b []byte) ([]byte, error) {
		var made struct{ ID string }
		if err := json.Unmarshal(b, &made); err != nil {
			return nil, err
		}
		c.g.images.remember(made.ID)
		return b, nil
	})
}

// commitRules are configRules for a configuration that becomes an image's: the owner's labels have no place in it.
func commitRules() []fieldRule {
	out := slices.Clone(configRules)
	for i := range out {
		if out[i].field == "Labels" {
			out[i].do = func(_ *checking, at string, v reflect.Value) error {
				labels, _ := v.Interface().(map[string]string)
				return checkLabels(at, labels)
			}
		}
	}
	return out
}

// checkLabels refuses labels that are the runner's own.
func checkLabels(at string, labels map[string]string) error {
	for k := range labels {
		if strings.HasPrefix(k, labelSpace) {
			return refuse(at+" "+quoted(k), "labels that begin with "+labelSpace+" are the runner's own")
		}
	}
	return nil
}

// checkChange judges an instruction that changes an image's configuration. It must be one line: the daemon parses it as a Dockerfile.
func checkChange(change string) error {
	if len(change) > 64<<10 {
		return badRequest("an instruction in changes is too long")
	}
	if strings.Contains(strings.ToLower(change), labelSpace) {
		return refuse("changes "+quoted(change), "labels that begin with "+labelSpace+" are the runner's own")
	}
	return nil
}

package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
)

// target returns the daemon's name for the image that a client wants to call repo:tag; a name of
// its own for one that it doesn't name.
func (c *call) target(repo, tag string) (string, error) {
	if repo == "" {
		if tag != "" {
			return "", apierror.BadRequest("invalid reference format: a tag without a repository")
		}
		r, t := c.g.tags.Untagged()
		return r + ":" + t, nil
	}
	if tag != "" {
		if strings.Contains(tag, "@") || strings.Contains(tag, "/") {
			return "", apierror.BadRequest("invalid tag format: %.200s", tag)
		}
		repo += ":" + tag
	}
	return c.g.tags.Target(repo)
}

// tagImage gives an image that the client sees another name, of the stage's own.
func tagImage(ctx context.Context, c *call) error {
	found, err := c.g.findImage(ctx, c.vars["name"])
	if err != nil {
		return err
	}
	if c.query.Get("repo") == "" {
		return apierror.BadRequest("repository name must have at least one component")
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
	return c.send(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/images/" + found.id + "/tag",
			Query:  names.RepoTag(url.Values{}, to),
		},
	)
}

// deleteImage takes names away from an image of the stage's. The image itself stays in the daemon
// without a name: its layers are the cache for the next stage.
func deleteImage(ctx context.Context, c *call) error {
	found, err := c.g.findImage(ctx, c.vars["name"])
	if err != nil {
		return err
	}
	if found.tag == "" && (len(found.names.Own) == 0 || c.g.namesShared(c.vars["name"], found)) {
		return c.removeShared(ctx, found)
	}
	ctx, done, err := c.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	gone := []string{found.tag}
	if found.tag == "" {
		if gone = found.names.Own; len(gone) > 1 && !c.flag("force") {
			return apierror.New(
				http.StatusConflict,
				fmt.Sprintf(
					"conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories",
					names.Short(found.id),
				),
			)
		}
	}
	left := slices.DeleteFunc(
		slices.Clone(found.names.Own),
		func(n string) bool { return slices.Contains(gone, n) || c.g.tags.Anonymous(n) },
	)
	last := len(left) == 0
	if last {
		if !c.flag("force") {
			if err := c.g.unused(ctx, found); err != nil {
				return err
			}
		}
		gone = slices.Concat(found.names.Own, found.names.OwnDigests)
	}
	answer, err := c.g.images.untag(ctx, found.id, gone)
	if err != nil {
		return err
	}
	if last {
		c.g.images.forget(found.id)
		answer = append(answer, deleted{Deleted: found.id})
	}
	return c.answerJSON(answer)
}

// namesShared reports whether a client means an image by a shared name of it.
func (g *Guard) namesShared(ref string, found imageFound) bool {
	named, err := g.tags.Parse(ref)
	if err != nil {
		return false
	}
	long := reference.TagNameOnly(named).String()
	return slices.ContainsFunc(slices.Concat(found.names.Shared, found.names.SharedDigests), func(n string) bool { return names.Canonical(n) == long })
}

// removeShared takes a shared image away from this build: it isn't listed any more, and to use it
// is to pull it again, which is quick. For others it stays, until the runner's disk runs short.
func (c *call) removeShared(ctx context.Context, found imageFound) error {
	gone := slices.Clone(found.names.Shared)
	if c.g.namesShared(c.vars["name"], found) {
		long := names.Canonical(reference.TagNameOnly(names.MustParse(c.vars["name"])).String())
		gone = slices.DeleteFunc(slices.Concat(gone, found.names.SharedDigests), func(n string) bool { return names.Canonical(n) != long })
	} else if len(gone) > 1 && !c.flag("force") {
		return apierror.New(http.StatusConflict, fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", names.Short(found.id)))
	}
	last := len(gone) >= len(found.names.Shared) && len(found.names.Own) == 0
	if last && !c.flag("force") {
		found.tag = slices.Concat(gone, []string{""})[0]
		if err := c.g.unused(ctx, found); err != nil {
			return err
		}
	}
	if last {
		gone = slices.Concat(gone, found.names.SharedDigests)
	}
	answer := []deleted{}
	var long []string
	for _, name := range gone {
		long = append(long, names.Canonical(name))
		answer = append(answer, deleted{Untagged: reference.FamiliarString(names.MustParse(name))})
	}
	c.g.images.remove(long)
	if last {
		c.g.images.forget(found.id)
		answer = append(answer, deleted{Deleted: found.id})
	}
	return c.answerJSON(answer)
}

// unused is a conflict if a container of the client's was made from the image.
func (g *Guard) unused(ctx context.Context, found imageFound) error {
	users, err := g.users(ctx)
	if err != nil {
		return err
	}
	if id := users[found.id]; id != "" {
		name := names.Short(found.id)
		if found.tag != "" {
			name = strconv.Quote(g.tags.ShowName(found.tag))
		}
		return apierror.New(
			http.StatusConflict,
			fmt.Sprintf(
				"conflict: unable to remove repository reference %s (must force) - container %s is using its referenced image %s",
				name,
				id[:12],
				names.Short(found.id),
			),
		)
	}
	return nil
}

// users returns the client's containers by their image.
func (g *Guard) users(ctx context.Context) (map[string]string, error) {
	var list []struct {
		ID      string `json:"Id"`
		ImageID string
		Names   []string
		Labels  map[string]string
	}
	if err := g.up.Call(
		ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}, "filters": {g.own.filter()}}, nil, &list,
	); err != nil {
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

// pruneImages untags images of the stage's own that no container of it uses: those without a name,
// or with dangling=false all.
func pruneImages(ctx context.Context, c *call) error {
	up, mine, err := c.rewriteFilters(
		ctx,
		map[string]filterRule{"dangling": local, "label": passed, "label!": local, "until": local},
	)
	if err != nil {
		return err
	}
	all := mine.ExactMatch("dangling", "false") && mine.Contains("dangling") ||
		mine.Contains("dangling") && mine.ExactMatch("dangling", "0")
	result := struct {
		ImagesDeleted  []deleted
		SpaceReclaimed uint64
	}{ImagesDeleted: []deleted{}}
	if mine.Contains("label!") || mine.Contains("until") { // all that could be meant is this stage's, and young
		return c.answerJSON(result)
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
	list, err := c.g.images.listAll(ctx, q)
	if err != nil {
		return err
	}
	users, err := c.g.users(ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		named := slices.ContainsFunc(i.names.Own, func(n string) bool { return !c.g.tags.Anonymous(n) })
		if len(i.names.Own) == 0 || users[i.ID] != "" || named && !all {
			continue
		}
		gone, err := c.g.images.untag(ctx, i.ID, slices.Concat(i.names.Own, i.names.OwnDigests))
		if err != nil {
			return err
		}
		c.g.images.forget(i.ID)
		result.ImagesDeleted = append(append(result.ImagesDeleted, gone...), deleted{Deleted: i.ID})
	}
	return c.answerJSON(result)
}

// commit makes an image of one of the client's containers.
func commit(ctx context.Context, c *call) error {
	found, err := c.g.own.container(ctx, c.query.Get("container"))
	if err != nil {
		return err
	}
	if found.standing != ofClient {
		return apierror.Refuse(
			"commit of container "+apierror.Quote(c.query.Get("container")),
			"it is a step of the pipeline, and may hold secrets",
			"",
		)
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
		dropped, err := strictjson.Decode(b, config)
		if err != nil {
			return err
		}
		c.drop(config, dropped)
		if err := policy.Commit(config); err != nil {
			return err
		}
	}
	q := url.Values{"container": {found.ID}}
	for _, k := range []string{"comment", "author", "pause", "changes"} {
		if v, ok := c.query[k]; ok {
			q[k] = v
		}
	}
	if err := policy.Changes(q["changes"]); err != nil {
		return err
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
	body, length, err := dockerd.JSONBody(config)
	if err != nil {
		return err
	}
	resp, err := c.ask(
		ctx,
		dockerd.Request{
			Method: http.MethodPost,
			Path:   "/commit",
			Query:  names.RepoTag(q, to),
			Header: dockerd.JSONHeader(),
			Body:   body,
			Length: length,
		},
	)
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

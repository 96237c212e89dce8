package janitor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/storage/cache"
)

// imageListAll lists the builder's intermediate ones too.
var imageListAll = image.ListOptions{All: true}

// stored is an image that the daemon has.
type stored struct {
	id, parent string
	// names are its tags and digests, in this order.
	names []string
	size  int64
	used  time.Time
	stays bool
}

// label is what to call it in a log.
func (i *stored) label() string {
	if len(i.names) > 0 && names.KindOf(i.names[0]) == names.Shared {
		return i.names[0]
	}
	return i.id
}

// images removes those that nobody uses, the longest unused first.
func (c *cleaning) images(ctx context.Context) error {
	list, err := c.storedImages(ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		if c.over() || ctx.Err() != nil {
			return ctx.Err()
		}
		// Somebody may have asked for it meanwhile.
		if i.stays || c.recent(i.used) || c.recent(c.o.Ledger.ImageUse(i.id)) || c.busy(i) {
			continue
		}
		went, err := c.removeImage(ctx, i)
		if err != nil {
			return err
		}
		if went {
			if err := c.gone(ctx, KindImage, i.label(), i.size, i.used); err != nil {
				return err
			}
		}
	}
	return nil
}

// storedImages lists the images, the longest unused first, and those that others are built upon
// after these.
func (c *cleaning) storedImages(ctx context.Context) ([]*stored, error) {
	containers, err := c.o.Docker.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list the containers that use images: %w", err)
	}
	running := map[string]bool{}
	for _, r := range containers {
		running[r.ImageID] = true
	}
	found, err := c.o.Docker.ImageList(ctx, imageListAll)
	if err != nil {
		return nil, fmt.Errorf("list the images: %w", err)
	}
	byID := map[string]*stored{}
	var list []*stored
	for _, f := range found {
		i := &stored{id: f.ID, parent: f.ParentID, size: f.Size, used: c.o.Ledger.ImageUse(f.ID)}
		for _, name := range slices.Concat(f.RepoTags, f.RepoDigests) {
			if !strings.HasPrefix(name, "<none>") {
				i.names = append(i.names, name)
			}
		}
		i.stays = running[i.id] || c.keeps(i)
		byID[i.id] = i
		list = append(list, i)
	}
	for _, i := range list {
		if err := c.dateImage(ctx, i); err != nil {
			return nil, err
		}
	}
	// An image that another one is built upon frees nothing as long as that is there.
	for _, i := range list {
		used, stays := i.used, i.stays
		for up := byID[i.parent]; up != nil && (stays && !up.stays || !up.used.After(used)); up = byID[up.parent] {
			up.stays = up.stays || stays
			if !up.used.After(used) {
				up.used = used.Add(1)
			}
			used, stays = up.used, up.stays
		}
	}
	slices.SortStableFunc(list, func(a, b *stored) int { return a.used.Compare(b.used) })
	return list, nil
}

// dateImage adds to what the ledger knows when the daemon last gave an image a name: a pull and a
// build do, one that only finds it in the cache as well.
func (c *cleaning) dateImage(ctx context.Context, i *stored) error {
	if i.stays {
		return nil
	}
	in, err := c.o.Docker.ImageInspect(ctx, i.id)
	switch {
	case errdefs.IsNotFound(err):
		i.stays = true // it has gone
		return nil
	case err != nil:
		return fmt.Errorf("look at image %s: %w", i.label(), err)
	}
	if named := in.Metadata.LastTagTime; named.After(i.used) {
		i.used = named
	}
	return nil
}

// keeps reports whether the operator or a build that runs wants an image.
func (c *cleaning) keeps(i *stored) bool {
	return slices.ContainsFunc(i.names, func(name string) bool {
		kind := names.KindOf(name)
		return kind == names.OfStage || kind == names.Shared && c.o.Keep(name)
	})
}

// busy reports whether somebody is about to use an image. What has no name but for the cache is the
// classic builder's, which goes from one to the next.
func (c *cleaning) busy(i *stored) bool {
	held := i.names
	if !slices.ContainsFunc(held, func(name string) bool { return names.KindOf(name) == names.Shared }) {
		held = append(slices.Clone(held), cache.Builder)
	}
	return c.o.Ledger.Busy(i.id, held)
}

// removeImage takes an image's names away, and it goes with the last. It is never forced: an image
// of which a container was made meanwhile stays, whatever was known before.
func (c *cleaning) removeImage(ctx context.Context, i *stored) (went bool, err error) {
	names := i.names
	if len(names) == 0 {
		names = []string{i.id}
	}
	for _, name := range names {
		answer, err := c.o.Docker.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
		switch {
		case errdefs.IsNotFound(err): // a digest goes with the last tag of its repository
		case errdefs.IsConflict(err):
			c.o.Log.WithError(err).WithField("image", i.label()).Debug("an image is in use after all")
			return went, nil
		case err != nil:
			return went, fmt.Errorf("remove image %s: %w", i.label(), err)
		}
		went = went || slices.ContainsFunc(answer, func(d image.DeleteResponse) bool { return d.Deleted == i.id })
	}
	return went, nil
}

package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// Released is a build that has ended, of which a daemon may still have something that carries none of its labels.
type Released struct {
	Daemon     string // the path of the daemon's unix socket
	OwnerLabel string // Options.OwnerLabel
	ID         string // Options.ID
}

// Release removes what builds leave in a daemon without a label: containers of its classic builder, and the names of images, which themselves stay as the cache of the next
// build. Call it after Close and before the build's networks are removed. It needs no guard, so it works after a crash as well. What fails is reported when
// all has been tried.
func (r Released) Release(ctx context.Context) error {
	g := &Guard{up: dockerd.New(r.Daemon, speaks), tags: names.NewTags(r.ID), images: newImages(), shown: &shown{}, opts: Options{ID: r.ID, OwnerLabel: r.OwnerLabel}}
	g.own = newOwnership(g)
	defer g.up.Close()
	return errors.Join(g.removeBuilders(ctx), g.releaseTags(ctx))
}

// Leftovers are the ids of the builds that have given names to images of a daemon which are still there: of builds that are under way, and of those that nobody has released.
func Leftovers(ctx context.Context, daemon string) ([]string, error) {
	g := &Guard{up: dockerd.New(daemon, speaks), images: newImages(), shown: &shown{}}
	defer g.up.Close()
	list, err := g.listAll(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("look for image names that builds have left: %w", err)
	}
	var ids []string
	for _, i := range list {
		for _, name := range slices.Concat(i.RepoTags, i.RepoDigests) {
			if id, private := names.StageOf(name); private && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// releaseTags takes away all names that the build has given to images.
func (g *Guard) releaseTags(ctx context.Context) error {
	list, err := g.listAll(ctx, nil)
	if err != nil {
		return fmt.Errorf("take away the image names of build %s: %w", g.opts.ID, err)
	}
	var all error
	for _, i := range list {
		if gone := slices.Concat(i.names.Own, i.names.OwnDigests); len(gone) > 0 {
			if _, err := g.untag(ctx, i.ID, gone); err != nil {
				all = errors.Join(all, fmt.Errorf("take away the names of image %s of build %s: %w", names.Short(i.ID), g.opts.ID, err))
			}
		}
	}
	return all
}

// removeBuilders removes the containers of the daemon's classic builder. It gives them no labels and no name that could be told from others, but they're on the build's
// networks, where nothing else is without the owner's label. A builder whose client has gone removes its container itself; this is for the moment until it does, and for
// one that didn't live to do it.
func (g *Guard) removeBuilders(ctx context.Context) error {
	var networks []struct {
		ID string `json:"Id"`
	}
	if err := g.up.Call(ctx, http.MethodGet, "/networks", url.Values{"filters": {g.own.ownerFilter()}}, nil, &networks); err != nil {
		return fmt.Errorf("find the networks of build %s: %w", g.opts.ID, err)
	}
	for _, n := range networks {
		// A builder may be on its way from one container to the next.
		for try := 0; ; try++ {
			more, err := g.removeUnlabelled(ctx, n.ID)
			if err != nil {
				return fmt.Errorf("remove the builder's containers of build %s: %w", g.opts.ID, err)
			}
			if !more || try == 20 {
				break
			}
			if err := pause.For(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeUnlabelled removes the containers on a network that aren't the owner's, and tells whether there were any.
func (g *Guard) removeUnlabelled(ctx context.Context, network string) (bool, error) {
	filter, err := json.Marshal(map[string][]string{"network": {network}})
	if err != nil {
		return false, err
	}
	var list []struct {
		ID     string `json:"Id"`
		Labels map[string]string
	}
	if err := g.up.Call(ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}, "filters": {string(filter)}}, nil, &list); err != nil {
		return false, err
	}
	found := false
	for _, c := range list {
		if c.Labels[g.opts.OwnerLabel] == g.opts.ID {
			continue
		}
		found = true
		err := g.up.Call(ctx, http.MethodDelete, "/containers/"+c.ID, url.Values{"force": {"1"}, "v": {"1"}}, nil, nil)
		var s apierror.Status
		if err != nil && !(errors.As(err, &s) && (s.Code == http.StatusNotFound || s.Code == http.StatusConflict)) { // gone, or going
			return found, err
		}
	}
	return found, nil
}

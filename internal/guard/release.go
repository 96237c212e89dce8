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
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/policy"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pause"
)

// Released is a stage that has ended, of which a daemon may still have something that carries none
// of its labels.
type Released struct {
	Daemon     string // the path of the daemon's unix socket
	OwnerLabel string // Options.OwnerLabel
	ID         string // Options.ID
}

// Release removes what stages leave in a daemon without a label: containers of its classic builder,
// and the names of images, which themselves stay as the cache of the next stage. Call it after
// Close and before the build's networks are removed. It needs no guard, so it works after a crash
// as well. What fails is reported when all has been tried.
func (r Released) Release(ctx context.Context) error {
	up := dockerd.New(r.Daemon, policy.Versions)
	defer up.Close()
	left := builders{owner{r.OwnerLabel, r.ID}, up}
	return errors.Join(left.remove(ctx), releaseTags(ctx, newImages(up, names.NewTags(r.ID)), r.ID))
}

// Leftovers returns the ids of the stages that have given names to images of a daemon which are
// still there: of stages that are under way, and of stages that were never released.
func Leftovers(ctx context.Context, daemon string) ([]string, error) {
	up := dockerd.New(daemon, policy.Versions)
	defer up.Close()
	var list []struct{ RepoTags, RepoDigests []string }
	if err := up.Call(ctx, http.MethodGet, "/images/json", nil, nil, &list); err != nil {
		return nil, fmt.Errorf("look for image names that stages have left: %w", err)
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

// releaseTags takes away all names that the stage has given to images.
func releaseTags(ctx context.Context, all *images, stage string) error {
	list, err := all.listAll(ctx, nil)
	if err != nil {
		return fmt.Errorf("take away the image names of stage %s: %w", stage, err)
	}
	var errs error
	for _, i := range list {
		if gone := slices.Concat(i.names.Own, i.names.OwnDigests); len(gone) > 0 {
			if _, err := all.untag(ctx, i.ID, gone); err != nil {
				errs = errors.Join(
					errs,
					fmt.Errorf("take away the names of image %s of stage %s: %w", names.Short(i.ID), stage, err),
				)
			}
		}
	}
	return errs
}

// builders are the containers of the daemon's classic builder that work for a stage.
type builders struct {
	owner
	up *dockerd.Daemon
}

// remove removes them. The builder gives them no labels and no name that could be distinguished
// from others, but they're on the stage's networks, where nothing else is without the owner's
// label. A builder whose client has gone removes its container itself; this is for the moment until
// it does, and for one that didn't live to do it.
func (b builders) remove(ctx context.Context) error {
	var networks []struct {
		ID string `json:"Id"`
	}
	if err := b.up.Call(
		ctx, http.MethodGet, "/networks", url.Values{"filters": {b.filter()}}, nil, &networks,
	); err != nil {
		return fmt.Errorf("find the networks of stage %s: %w", b.id, err)
	}
	for _, n := range networks {
		// A builder may be on its way from one container to the next.
		for try := 0; ; try++ {
			more, err := b.removeUnlabelled(ctx, n.ID)
			if err != nil {
				return fmt.Errorf("remove the builder's containers of stage %s: %w", b.id, err)
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

// removeUnlabelled removes the containers on a network that aren't the owner's, and reports whether
// there were any.
func (b builders) removeUnlabelled(ctx context.Context, network string) (bool, error) {
	filter, err := json.Marshal(map[string][]string{"network": {network}})
	if err != nil {
		return false, err
	}
	var list []struct {
		ID     string `json:"Id"`
		Labels map[string]string
	}
	if err := b.up.Call(
		ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}, "filters": {string(filter)}}, nil, &list,
	); err != nil {
		return false, err
	}
	found := false
	for _, c := range list {
		if b.has(c.Labels) {
			continue
		}
		found = true
		err := b.up.Call(ctx, http.MethodDelete, "/containers/"+c.ID, url.Values{"force": {"1"}, "v": {"1"}}, nil, nil)
		var s apierror.Status
		if err != nil &&
			// gone, or going
			!(errors.As(err, &s) && (s.Code == http.StatusNotFound || s.Code == http.StatusConflict)) {
			return found, err
		}
	}
	return found, nil
}

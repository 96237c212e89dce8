package guard

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/docker/docker/api/types/container"
	timetypes "github.com/docker/docker/api/types/time"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apiversion"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/dockerd"
)

// pruneFilters of the prune endpoints.
var pruneFilters = map[string]filterRule{"until": passed, "label": passed, "label!": passed, "all": passed}

// prune removes networks or volumes that are unused and were made through this guard. The daemon
// prunes by label, and nothing else has the guard's.
func prune(ctx context.Context, c *call) error {
	up, _, err := c.rewriteFilters(ctx, pruneFilters)
	if err != nil {
		return err
	}
	q, err := encodeFilters(nil, restrict(up, LabelGuard, c.g.opts.ID))
	if err != nil {
		return err
	}
	version := c.version
	if !apiversion.AtLeast(version, "1.29") { // older versions of the API know no label here
		version = "1.29"
	}
	return c.sendNamed(
		ctx,
		dockerd.Request{Method: http.MethodPost, Version: version, Path: c.route.pattern, Query: q},
	)
}

// pruneContainers removes the client's containers that don't run, each with its anonymous volumes.
// The daemon's own prune goes by labels alone, and a container of another stage that no guard has
// labelled takes those of its image (see judgeContainer).
func pruneContainers(ctx context.Context, c *call) error {
	filter, _, err := c.rewriteFilters(ctx, map[string]filterRule{"until": passed, "label": passed, "label!": passed})
	if err != nil {
		return err
	}
	before := time.Now()
	for _, s := range filter.Get("until") {
		text, err := timetypes.GetTimestamp(s, time.Now())
		if err != nil {
			return apierror.BadRequest("invalid filter 'until': %v", err)
		}
		seconds, _, err := timetypes.ParseTimestamps(text, 0)
		if err != nil {
			return apierror.BadRequest("invalid filter 'until': %v", err)
		}
		before = time.Unix(seconds, 0)
	}
	var list []container.Summary
	if err := c.g.up.Call(
		ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}, "size": {"1"}, "filters": {c.g.own.filter()}}, nil, &list,
	); err != nil {
		return err
	}
	report := container.PruneReport{ContainersDeleted: []string{}}
	for _, o := range list {
		switch {
		case len(o.Names) == 0 || c.g.own.judgeContainer(o.Names[0], o.Labels) != ofClient:
		case o.State == "running" || o.State == "paused" || o.State == "restarting":
		case time.Unix(o.Created, 0).After(before):
		case filter.Contains("label") && !filter.MatchKVList("label", o.Labels),
			filter.Contains("label!") && filter.MatchKVList("label!", o.Labels):
		default:
			err := c.g.up.Call(ctx, http.MethodDelete, "/containers/"+o.ID, url.Values{"v": {"1"}}, nil, nil)
			if apierror.IsNotFound(err) || apierror.IsConflict(err) { // gone, started or being removed meanwhile
				continue
			}
			if err != nil {
				return err
			}
			report.ContainersDeleted = append(report.ContainersDeleted, o.ID)
			report.SpaceReclaimed += uint64(max(o.SizeRw, 0))
		}
	}
	return c.answerJSON(report)
}

// pruneNothing answers as if nothing was to be pruned: caches are shared, and the runner keeps them
// within bounds.
func pruneNothing(list string) handler {
	return func(_ context.Context, c *call) error {
		return c.answerJSON(map[string]any{list: []string{}, "SpaceReclaimed": 0})
	}
}

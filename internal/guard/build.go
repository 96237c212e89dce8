package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
)

// buildQuery are the parameters of POST /build. BuildKit doesn't get cachefrom: see cacheTypes.
const buildQuery = "^dockerfile t+ extrahosts+ remote q nocache cachefrom pull -rm -forcerm memory memswap cpushares cpusetcpus cpusetmems cpuperiod cpuquota buildargs " +
	"shmsize squash labels networkmode platform target outputs version session buildid cgroupparent securityopt+ ulimits isolation"

// build answers POST /build, by the builder that the client asks for.
func build(ctx context.Context, c *call) error {
	b, err := c.readBuild(ctx)
	if err != nil {
		return err
	}
	switch v := c.query.Get("version"); v {
	case "", "1":
		return b.classic(ctx)
	case "2":
		return b.buildKit(ctx)
	default:
		return apierror.BadRequest("invalid version %q", v)
	}
}

// buildRequest is the parameters of a build, judged.
type buildRequest struct {
	*call
	// query for the daemon, without what depends on the builder.
	query url.Values
	args  map[string]*string
	hosts []string
	// tags are the daemon's names for the image.
	tags []string
}

// buildPassed are the parameters of a build that are forwarded as they are. The others are below, or in classic and buildKit.
var buildPassed = []string{"nocache", "target"}

// readBuild judges the parameters that both builders have.
func (c *call) readBuild(ctx context.Context) (*buildRequest, error) {
	b := &buildRequest{call: c, query: url.Values{"rm": {"1"}, "forcerm": {"1"}}}
	for _, k := range buildPassed {
		if v := c.query.Get(k); v != "" {
			b.query.Set(k, v)
		}
	}
	if c.flag("squash") {
		return nil, apierror.Refuse("squash", "it is an experiment of the daemon's", "")
	}
	if v := c.query.Get("outputs"); v != "" && v != "[]" && v != "null" {
		return nil, apierror.Refuse("outputs", "the daemon would write them on its own machine, or send them", "use docker buildx build --output")
	}
	if len(c.query["securityopt"]) > 0 {
		return nil, apierror.Refuse("securityopt", "profiles and labels are the daemon's", "")
	}
	if v := c.query.Get("isolation"); v != "" && v != "default" {
		return nil, apierror.Refuse("isolation "+apierror.Quote(v), "isolation is for Windows", "")
	}
	if err := b.limits(ctx); err != nil {
		return nil, err
	}
	labels := map[string]string{}
	if err := b.object("labels", &labels); err != nil {
		return nil, err
	}
	if err := checkLabels("labels", labels); err != nil {
		return nil, err
	}
	if err := b.object("buildargs", &b.args); err != nil {
		return nil, err
	}
	for _, h := range c.query["extrahosts"] {
		for line := range strings.SplitSeq(h, ",") {
			host, err := b.host(ctx, line)
			if err != nil {
				return nil, err
			}
			b.hosts = append(b.hosts, host)
		}
	}
	b.query["extrahosts"] = b.hosts
	for _, t := range c.query["t"] {
		if t == "" {
			continue
		}
		name, err := c.g.tags.Target(t)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(b.tags, name) {
			b.tags = append(b.tags, name)
		}
	}
	if len(b.tags) == 0 {
		repo, tag := c.g.tags.Untagged()
		b.tags = []string{repo + ":" + tag}
	}
	b.query["t"] = b.tags
	return b, nil
}

// object reads a parameter that is a JSON object, and sets it anew for the daemon.
func (b *buildRequest) object(key string, v any) error {
	text := b.call.query.Get(key)
	if text == "" || text == "null" {
		return nil
	}
	if _, err := strictjson.Decode([]byte(text), v); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b.query.Set(key, string(out))
	return nil
}

// host is a line for /etc/hosts. The machine, as a client knows it, is the gateway of the build's network.
func (b *buildRequest) host(ctx context.Context, line string) (string, error) {
	name, addr, ok := cutHost(line)
	if !ok {
		return "", apierror.BadRequest("bad format for add-host: %s", apierror.Quote(line))
	}
	if addr == "host-gateway" {
		n, err := b.g.buildNet(ctx)
		if err != nil {
			return "", err
		}
		addr = n.gateway.String()
	}
	return name + ":" + addr, nil
}

// limits applies the rules for a container's resources to those of the build's.
func (b *buildRequest) limits(ctx context.Context) error {
	host := &container.HostConfig{}
	r := &host.Resources
	for key, v := range map[string]*int64{
		"memory": &r.Memory, "memswap": &r.MemorySwap, "cpushares": &r.CPUShares, "cpuperiod": &r.CPUPeriod, "cpuquota": &r.CPUQuota, "shmsize": &host.ShmSize,
	} {
		text := b.call.query.Get(key)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return apierror.BadRequest("%s %s is no number", key, apierror.Quote(text))
		}
		*v = n
	}
	r.CpusetCpus, r.CpusetMems = b.call.query.Get("cpusetcpus"), b.call.query.Get("cpusetmems")
	r.CgroupParent = b.call.query.Get("cgroupparent")
	if text := b.call.query.Get("ulimits"); text != "" && text != "null" {
		if _, err := strictjson.Decode([]byte(text), &r.Ulimits); err != nil {
			return fmt.Errorf("ulimits: %w", err)
		}
	}
	cr := &creation{req: &container.CreateRequest{HostConfig: host}}
	p := &checking{Context: ctx, c: b.call, create: cr}
	cr.checking = *p
	if err := p.enforce("", reflect.ValueOf(r).Elem(), resourceRules); err != nil {
		return err
	}
	if err := shmSize(p, "shmsize", reflect.ValueOf(&host.ShmSize).Elem()); err != nil {
		return err
	}
	if r.NanoCPUs > 0 { // the builder knows only the older notation
		r.CPUPeriod, r.CPUQuota = 100_000, r.NanoCPUs/10_000
	}
	for key, v := range map[string]int64{
		"memory": r.Memory, "memswap": r.MemorySwap, "cpushares": r.CPUShares, "cpuperiod": r.CPUPeriod, "cpuquota": r.CPUQuota, "shmsize": host.ShmSize,
	} {
		if v != 0 {
			b.query.Set(key, strconv.FormatInt(v, 10))
		}
	}
	for key, v := range map[string]string{"cpusetcpus": r.CpusetCpus, "cpusetmems": r.CpusetMems, "cgroupparent": r.CgroupParent} {
		if v != "" {
			b.query.Set(key, v)
		}
	}
	if len(r.Ulimits) > 0 {
		text, err := json.Marshal(r.Ulimits)
		if err != nil {
			return err
		}
		b.query.Set("ulimits", string(text))
	}
	return nil
}

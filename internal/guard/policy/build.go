package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/names"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/strictjson"
)

// BuildPlan is a build by POST /build that may be run.
type BuildPlan struct {
	// Query is for the daemon; what depends on the builder isn't in it.
	Query url.Values
	// Args are the build arguments; one without a value takes the daemon's.
	Args map[string]*string
	// Hosts are lines for /etc/hosts.
	Hosts []string
}

// buildPassed are the parameters of a build that are forwarded as they are.
var buildPassed = []string{"nocache", "target"}

// Build judges the parameters of a build that both builders have, and warns of limits that are cut
// down.
func Build(ctx context.Context, w World, q url.Values) (BuildPlan, []string, error) {
	p := BuildPlan{Query: url.Values{"rm": {"1"}, "forcerm": {"1"}}}
	for _, k := range buildPassed {
		if v := q.Get(k); v != "" {
			p.Query.Set(k, v)
		}
	}
	if err := refusedInBuilds(q); err != nil {
		return p, nil, err
	}
	warnings, err := p.limits(ctx, w, q)
	if err != nil {
		return p, nil, err
	}
	labels := map[string]string{}
	if err := p.object(q, "labels", &labels); err != nil {
		return p, nil, err
	}
	if err := CheckLabels("labels", labels); err != nil {
		return p, nil, err
	}
	if err := p.object(q, "buildargs", &p.Args); err != nil {
		return p, nil, err
	}
	if err := p.hosts(ctx, w, q["extrahosts"]); err != nil {
		return p, nil, err
	}
	p.Query["extrahosts"] = p.Hosts
	return p, warnings, nil
}

// refusedInBuilds are parameters that no stage may have.
func refusedInBuilds(q url.Values) error {
	if Flag(q, "squash") {
		return apierror.Refuse("squash", "it is an experiment of the daemon's", "")
	}
	if v := q.Get("outputs"); v != "" && v != "[]" && v != "null" {
		return apierror.Refuse(
			"outputs",
			"the daemon would write them on its own machine, or send them",
			"use docker buildx build --output",
		)
	}
	if len(q["securityopt"]) > 0 {
		return apierror.Refuse("securityopt", "profiles and labels are the daemon's", "")
	}
	if v := q.Get("isolation"); v != "" && v != "default" {
		return apierror.Refuse("isolation "+apierror.Quote(v), "isolation is for Windows", "")
	}
	return nil
}

// Flag reads a boolean of a query as the daemon does: everything but "", 0, no, false, none is
// true.
func Flag(q url.Values, key string) bool {
	switch strings.ToLower(strings.TrimSpace(q.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// object reads a parameter that is a JSON object, and sets it anew for the daemon.
func (p *BuildPlan) object(q url.Values, key string, v any) error {
	text := q.Get(key)
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
	p.Query.Set(key, string(out))
	return nil
}

// hosts judges lines for /etc/hosts.
func (p *BuildPlan) hosts(ctx context.Context, w World, given []string) error {
	for _, list := range given {
		for line := range strings.SplitSeq(list, ",") {
			name, address, err := Host(line)
			if err != nil {
				return err
			}
			if address == HostGateway {
				gateway, err := w.Gateway(ctx)
				if err != nil {
					return err
				}
				address = gateway.String()
			}
			p.Hosts = append(p.Hosts, name+":"+address)
		}
	}
	return nil
}

// limits applies the rules for a container's resources to those of a build.
func (p *BuildPlan) limits(ctx context.Context, w World, q url.Values) (warnings []string, err error) {
	s := w.Stage()
	host := &container.HostConfig{}
	r := &host.Resources
	numbers := map[string]*int64{
		"memory": &r.Memory, "memswap": &r.MemorySwap, "cpushares": &r.CPUShares, "cpuperiod": &r.CPUPeriod,
		"cpuquota": &r.CPUQuota, "shmsize": &host.ShmSize,
	}
	for key, v := range numbers {
		text := q.Get(key)
		if text == "" {
			continue
		}
		if *v, err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, apierror.BadRequest("%s %s is no number", key, apierror.Quote(text))
		}
	}
	r.CpusetCpus, r.CpusetMems = q.Get("cpusetcpus"), q.Get("cpusetmems")
	r.CgroupParent = q.Get("cgroupparent")
	if text := q.Get("ulimits"); text != "" && text != "null" {
		if _, err := strictjson.Decode([]byte(text), &r.Ulimits); err != nil {
			return nil, fmt.Errorf("ulimits: %w", err)
		}
	}
	f, err := references{daemon: len(r.Ulimits) > 0}.resolve(ctx, w)
	if err != nil {
		return nil, err
	}
	j := &judgement{stage: s, facts: f}
	if err := j.judge("", r, resourceRules); err != nil {
		return nil, err
	}
	if err := shmSize(j, "shmsize", reflect.ValueOf(&host.ShmSize).Elem()); err != nil {
		return nil, err
	}
	r.CgroupParent = s.Limits.CgroupParent
	if warning := fillCPU(s.Limits, "NanoCpus", r); warning != "" {
		j.warn(warning)
	}
	if r.NanoCPUs > 0 { // the builder knows only the older notation
		r.CPUPeriod, r.CPUQuota = defaultPeriod, r.NanoCPUs/10_000
	}
	for key, v := range numbers {
		if *v != 0 {
			p.Query.Set(key, strconv.FormatInt(*v, 10))
		}
	}
	for key, v := range map[string]string{"cpusetcpus": r.CpusetCpus, "cpusetmems": r.CpusetMems, "cgroupparent": r.CgroupParent} {
		if v != "" {
			p.Query.Set(key, v)
		}
	}
	if len(r.Ulimits) > 0 {
		text, err := json.Marshal(r.Ulimits)
		if err != nil {
			return nil, err
		}
		p.Query.Set("ulimits", string(text))
	}
	return j.warnings, nil
}

// BuildNetwork judges the network that the steps of a build with the classic builder are on. own
// says that it is one where the stage's containers are; mode is empty for Docker's default, for
// which the guard has a network of its own.
func BuildNetwork(ctx context.Context, w World, mode string) (real string, own bool, err error) {
	switch {
	case isDefault(mode):
		return "", false, nil
	case mode == network.NetworkNone:
		return mode, false, nil
	}
	var refs references
	refs.mode(mode)
	refs.now()
	f, err := refs.resolve(ctx, w)
	if err != nil {
		return "", false, err
	}
	j := &judgement{stage: w.Stage(), facts: f}
	err = networkMode(j, "networkmode", reflect.ValueOf(&mode).Elem())
	return mode, true, err
}

// BuildKitNetwork judges the network mode of a build with BuildKit; it returns "" for the default.
func BuildKitNetwork(mode string) (string, error) {
	switch mode {
	case "", "default", names.Bridge:
		return "", nil
	case network.NetworkNone:
		return mode, nil
	}
	return "", apierror.Refuse(
		"networkmode "+apierror.Quote(mode),
		"BuildKit's steps have a network of their own",
		"leave --network out",
	)
}

// BuildRemote judges where a build's context comes from, if not with the request.
func BuildRemote(remote string) error {
	if remote == "" {
		return nil
	}
	return apierror.Refuse(
		"remote "+apierror.Quote(remote),
		"the daemon would fetch it, from wherever it can reach",
		"clone or fetch it in the step, or use docker buildx build",
	)
}

package policy

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/guard/apierror"
)

func shmSize(j *judgement, at string, v reflect.Value) error {
	if v.Int() == 0 { // 64 MB, the daemon's default; the limit only cuts
		return nil
	}
	return clamp(func(l Limits) int64 { return l.ShmSize })(j, at, v)
}

// memorySwap bounds memory and swap together, and refuses unlimited swap where memory is limited.
func memorySwap(j *judgement, at string, v reflect.Value) error {
	l := j.stage.Limits
	if l.Memory <= 0 {
		return nil
	}
	most := l.MemorySwap
	if most <= 0 {
		most = 2 * l.Memory
	}
	if have := v.Int(); have < 0 || have > most {
		j.warn(at + " is cut down to this runner's limit, " + strconv.FormatInt(most, 10))
		v.SetInt(most)
	}
	return nil
}

func cpuset(j *judgement, _ string, v reflect.Value) error {
	if l := j.stage.Limits.CPUSet; l != "" {
		v.SetString(l)
	}
	return nil
}

// ulimits cuts down to the runner's limits, and to the daemon's own where it may not go above them:
// a container that asks for more wouldn't start.
func ulimits(j *judgement, at string, v reflect.Value) error {
	list, _ := v.Interface().([]*container.Ulimit)
	for i, u := range list {
		if u == nil {
			return apierror.BadRequest("%s[%d] is null", at, i)
		}
		name, whose := strings.ToLower(u.Name), "this runner's limit"
		most, bounded := j.stage.Limits.Ulimits[name]
		if hard, ok := j.facts.daemon.HardLimits[name]; ok && (!bounded || hard < most) {
			most, bounded, whose = hard, true, "the docker daemon's own limit"
		}
		if !bounded {
			continue
		}
		if u.Hard < 0 || u.Hard > most {
			j.warn(at + " " + u.Name + " is cut down to " + whose + ", " + strconv.FormatInt(most, 10))
			u.Hard = most
		}
		if u.Soft < 0 || u.Soft > u.Hard {
			u.Soft = u.Hard
		}
	}
	return nil
}

// defaultPeriod is the daemon's period of CPUQuota, in microseconds.
const defaultPeriod = 100_000

// nanoCPUs returns a quota as a number of processors.
func nanoCPUs(quota, period int64) int64 {
	if period <= 0 {
		period = defaultPeriod
	}
	return quota * 1e9 / period
}

// fillCPU bounds processor time, which Docker takes in two notations. It returns a warning, or "".
func fillCPU(l Limits, at string, r *container.Resources) (warning string) {
	most := l.NanoCPUs
	if most <= 0 && l.CPUQuota > 0 {
		most = nanoCPUs(l.CPUQuota, l.CPUPeriod)
	}
	switch {
	case most <= 0:
		return ""
	case r.NanoCPUs == 0 && r.CPUQuota > 0 && nanoCPUs(r.CPUQuota, r.CPUPeriod) <= most:
		return ""
	case r.CPUQuota != 0 || r.CPUPeriod != 0:
		r.CPUQuota, r.CPUPeriod = 0, 0
		warning = at + " is set to this runner's limit of processors in place of CpuQuota and CpuPeriod"
	}
	if r.NanoCPUs <= 0 || r.NanoCPUs > most {
		r.NanoCPUs = most
	}
	return warning
}

package linter

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
)

// Names and places that the runner keeps for itself.
var reservedVolumes = []string{"workspace", "_workspace", "_docker_socket", "_docker_daemon", "_docker_certs"}

const reservedFolder = "/run/drone"

// checkVolumes holds the rules of the pipeline's volumes; documentation, table "Volumes".
func (c *checker) checkVolumes() {
	first := map[string]*resource.Volume{}
	for i, v := range c.pipeline.Volumes {
		if v == nil {
			continue
		}
		report := func(severity resource.Severity, key, format string, args ...any) {
			c.add(severity, v.Place(key), "", fmt.Sprintf("volumes[%d].%s", i, key), format, args...)
		}
		switch {
		case v.Name == "":
			report(resource.Error, "name", "the volume has no name: write one for the steps to mount it by")
		case slices.Contains(reservedVolumes, v.Name):
			report(resource.Error, "name", "the name %q is the runner's own: choose another, and every step has "+
				"the workspace without a volume", v.Name)
		case first[v.Name] != nil:
			report(resource.Warning, "name", "the volume %q is declared twice, and the one in line %d counts: "+
				"rename or remove one", v.Name, first[v.Name].Position.Line)
			continue
		}
		if v.Name != "" && first[v.Name] == nil {
			first[v.Name] = v
		}
		c.checkSource(v, report)
	}
}

type reporter func(severity resource.Severity, key, format string, args ...any)

// checkSource requires one place for the content of a volume that is mounted, and one that a step
// can have.
func (c *checker) checkSource(v *resource.Volume, report reporter) {
	switch {
	case v.Claim != "":
		report(resource.Warning, "claim", "a claim belongs to the kubernetes runner: the volume is a temporary "+
			"one here; write temp: {}, or host: {path: /cache/%s} for one that is kept between builds", v.Claim)
	case v.Temp == nil && v.Host == nil:
		report(resource.Warning, "temp", "the volume has no source, and its mounts are ignored: write temp: {}, "+
			"or host: {path: /cache/NAME} for one that is kept between builds")
	case v.Temp != nil && v.Host != nil:
		report(resource.Warning, "host", "a volume has temp or host, and of this one, which has both, temp "+
			"counts: remove one of them")
	}
	unless := resource.Error
	if !c.mounted(v.Name) {
		unless = resource.Warning // no container gets it
	}
	switch {
	case v.Temp != nil:
		c.checkTemp(v.Temp, unless, report)
	case v.Host != nil && !c.ofDaemonsAlone(v.Name):
		c.checkHost(v.Host.Path, unless, report)
	}
	if v.Temp != nil && v.Host != nil && !c.options.Trusted {
		c.checkHost(v.Host.Path, unless, report)
	}
}

// findMounts notes which volumes the pipeline has, and which of them are mounted by what.
func (c *checker) findMounts() {
	c.declared, c.provided, c.mounts = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, v := range c.pipeline.Volumes {
		if v != nil {
			c.declared[v.Name] = true
			c.provided[v.Name] = c.provided[v.Name] || v.Temp != nil || v.Host != nil
		}
	}
	for _, s := range c.steps {
		if s.Step == nil || len(s.Volumes) == 0 || c.absent(s) {
			continue
		}
		ordinary := s.DockerDaemon(s.list == "services") == nil
		for _, m := range s.Volumes {
			c.mounts[m.Name] = c.mounts[m.Name] || ordinary
		}
	}
}

// ofDaemonsAlone reports whether nothing but docker daemons mount the volume. The stage's guard
// stands in for those, so that no container will have it, whatever it is.
func (c *checker) ofDaemonsAlone(volume string) bool {
	return c.mayHaveDocker() && c.mounted(volume) && !c.mounts[volume]
}

// mounted reports whether a step that may run mounts the volume.
func (c *checker) mounted(volume string) bool {
	_, ok := c.mounts[volume]
	return ok
}

func (c *checker) checkTemp(t *resource.TempVolume, severity resource.Severity, report reporter) {
	switch t.Medium {
	case "":
		if t.SizeLimit > 0 {
			report(resource.Warning, "temp.size_limit", "only volumes in memory have a size limit: write medium: "+
				"memory beside it, or remove it")
		}
	case "memory":
		if !c.options.Trusted {
			report(resource.Error, "temp.medium", "an untrusted repository may not keep volumes in memory: write "+
				"temp: {}%s", untrusted)
		}
	default:
		report(resource.Warning, "temp.medium", "%q is no medium, and the volume is on disk: write medium: "+
			"memory, or temp: {}", t.Medium)
	}
	switch {
	case t.SizeLimit >= 0:
	case t.Medium != "memory":
		report(resource.Warning, "temp.size_limit", "%d is negative and has no effect: remove the key",
			int64(t.SizeLimit))
	default:
		report(severity, "temp.size_limit", "%d is negative: write a size such as 512m, or remove the key",
			int64(t.SizeLimit))
	}
}

// checkHost holds the rules of host paths. The severity is that of a path which no step can have.
func (c *checker) checkHost(p string, severity resource.Severity, report reporter) {
	if !c.options.Trusted {
		severity = resource.Error // as on Drone's runner, which refuses the volume, mounted or not
	}
	kind := resource.ClassifyHostPath(p)
	switch {
	case p == "":
		report(severity, "host.path", "the host volume has no path: write host: {path: /cache/NAME}, or temp: {}")
	case resource.CleanHostPath(p) == "":
		report(severity, "host.path", "%q is no absolute path: write one that begins with /, such as /cache/NAME", p)
	case kind == resource.PathSocket || kind == resource.PathSocketDir:
		if !c.options.Trusted && !c.options.OpenSocket {
			report(resource.Error, "host.path", "an untrusted repository may not use Docker: build images with "+
				"image: plugins/docker, which needs no volume%s", untrusted)
		}
	case c.options.Trusted && resource.HostPathAllowed(p, c.options.HostPaths):
	case kind == resource.PathForbidden:
		report(severity, "host.path", "%s", forbiddenAdvice(resource.CleanHostPath(p)))
	case !c.options.Trusted:
		report(resource.Error, "host.path", "an untrusted repository may not keep volumes between builds: write "+
			"temp: {}%s", untrusted)
	}
}

// forbiddenAdvice says for what is mostly meant by a forbidden path, how to have it.
func forbiddenAdvice(p string) string {
	instead := "write temp: {} for an empty folder, or host: {path: /cache/NAME} for one that is kept between builds"
	switch {
	case p == "/dev/shm" || strings.HasPrefix(p, "/dev/shm/"):
		instead = "write temp: {medium: memory}, or shm_size in the step"
	case strings.HasPrefix(p, "/var/lib/docker") || strings.HasPrefix(p, "/var/lib/containerd") ||
		strings.HasPrefix(p, "/var/lib/containers"):
		instead = "mount host: {path: /var/run/docker.sock} in a step that needs Docker, whose cache is kept; " +
			"write temp: {} for a daemon of the step's own"
	case strings.HasSuffix(p, ".sock") || strings.HasPrefix(p, "/run/") || strings.HasPrefix(p, "/var/run/"):
		instead = "the one socket to be had is Docker's, with host: {path: /var/run/docker.sock}"
	case strings.HasPrefix(p, "/sys"):
		instead = "remove the volume: every container has its own /sys"
	}
	return fmt.Sprintf("%s belongs to the machine, and no step gets it: %s", p, instead)
}

// checkMounts holds the rules of the volumes of a step.
func (c *checker) checkMounts(s subject) {
	if c.mayHaveDocker() && s.DockerDaemon(s.list == "services") != nil {
		return // the stage's guard stands in for it, so that no container has these mounts
	}
	taken := map[string]int{}
	for i, m := range s.Volumes {
		name, target := fmt.Sprintf("volumes[%d].name", i), fmt.Sprintf("volumes[%d].path", i)
		switch {
		case m.Name == "":
			c.at(s, resource.Warning, name, "the mount names no volume and is ignored: write the name of one of "+
				"the pipeline's volumes")
			continue
		case slices.Contains(reservedVolumes, m.Name):
			c.at(s, resource.Error, name, "the volume %q is the runner's own: mount one of the pipeline's; every "+
				"step has the workspace without a mount", m.Name)
			continue
		case !c.declared[m.Name]:
			c.at(s, resource.Warning, name, "the volume %q is not declared, and the mount is ignored: add {name: "+
				"%s, temp: {}} to the pipeline's volumes%s", m.Name, m.Name, c.volumeNames())
			continue
		case !c.provided[m.Name]:
			continue // reported where the volume is declared
		}
		clean := path.Clean(m.Path)
		switch {
		case m.Path == "":
			c.at(s, c.ifRun(s), target, "the mount has no path: write where in the step the volume is to be")
			continue
		case !path.IsAbs(m.Path):
			c.at(s, c.ifRun(s), target, "%q is a relative path: write an absolute one, such as %s", m.Path,
				path.Join("/drone/src", "/"+m.Path))
			continue
		case clean == reservedFolder || strings.HasPrefix(clean, reservedFolder+"/"):
			c.at(s, resource.Error, target, "%s is the runner's own folder: mount the volume elsewhere", reservedFolder)
		case !mountable(clean):
			c.at(s, c.ifRun(s), target, "nothing can be mounted at %s: mount the volume elsewhere", clean)
		}
		if before, ok := taken[clean]; ok {
			c.at(s, c.ifRun(s), target, "another volume of the step, %q, is at %s already: mount one of them "+
				"elsewhere", s.Volumes[before].Name, clean)
			continue
		}
		taken[clean] = i
	}
}

// volumeNames ends a message with what is declared.
func (c *checker) volumeNames() string {
	var names []string
	for _, v := range c.pipeline.Volumes {
		if v == nil || v.Name == "" {
			continue
		}
		if len(names) == maxListed {
			names = append(names, "…")
			break
		}
		names = append(names, resource.Cut(v.Name, maxName))
	}
	if len(names) == 0 {
		return ""
	}
	return ", or mount one of those: " + strings.Join(names, ", ")
}

package engine

import (
	"errors"
	"net/netip"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/bridge"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/sandbox/fence"
)

// networkOptions are those of the spec, and for a stage that has a guard, through which it may
// publish ports, the name by which its fence knows the bridge.
func networkOptions(s *spec.Spec) map[string]string {
	if !needsGuard(s) {
		return s.Network.Options
	}
	out := map[string]string{}
	for k, v := range s.Network.Options {
		out[k] = v
	}
	out[bridge.OptionName] = bridge.Of(s.ID) + "0"
	return out
}

// raiseFence keeps the ports that the stage publishes from other stages. Where that isn't possible,
// the log warns once, and the stage goes on: their builds are kept apart in everything else.
func (d *Docker) raiseFence(s *spec.Spec, gateway netip.Addr) error {
	err := d.inNetns(func() error { return fence.Raise(s.ID, gateway) })
	if errors.Is(err, fence.ErrUnavailable) {
		d.unfenced.Do(func() {
			d.log.WithError(err).Warn("stages that run at the same time can reach each other's published ports")
		})
		return nil
	}
	return err
}

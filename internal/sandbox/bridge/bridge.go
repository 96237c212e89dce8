// Package bridge names the bridges of stages' networks, and the options that Docker's bridge driver
// takes.
//
// The one rule to keep: a bridge is recognised by its name alone, so the names of one stage's
// bridges begin alike, and those of no other stage do.
package bridge

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// The options of a network with Docker's bridge driver
// (https://docs.docker.com/engine/network/drivers/bridge/#options).
const (
	OptionName        = "com.docker.network.bridge.name"
	OptionDefault     = "com.docker.network.bridge.default_bridge"
	OptionHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	OptionICC         = "com.docker.network.bridge.enable_icc"
	OptionMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	OptionMTU         = "com.docker.network.driver.mtu"
)

// Prefix begins the names of all bridges of stages that may publish ports.
const Prefix = "drb"

// Cable begins the names of the cables between the system container and its cells.
const Cable = "drc"

// MaxSuffix is how many characters may follow Of in the name of a bridge: the kernel takes 15 in
// all (IFNAMSIZ).
const MaxSuffix = 4

// Of is how the names of a stage's bridges begin: Prefix and eight characters of a hash of the
// stage's spec id.
func Of(spec string) string {
	sum := sha256.Sum256([]byte(spec))
	return Prefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
}

package config

import (
	"fmt"
	"testing"
)

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "[]",
		"none":                          "[]",
		"169.254.169.254,fd00:ec2::254": "[169.254.169.254/32 fd00:ec2::254/128]",
		" 10.1.2.3/8 , 192.168.0.0/16,": "[10.0.0.0/8 192.168.0.0/16]",
		"example.com":                   "",
		"10.0.0.0/33":                   "",
		"fe80::1%eth0":                  "",
		"169.254.169.254,none":          "",
	} {
		var n Networks
		err := n.UnmarshalText([]byte(text))
		if (err != nil) != (want == "") {
			t.Errorf("%q: %v", text, err)
		}
		if got := fmt.Sprint(n); err == nil && got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

package dockerd

import "testing"

func TestMayRaise(t *testing.T) {
	for _, tt := range []struct {
		name, status, users string
		want                bool
	}{
		{"a machine's root", "Name:\tdockerd\nCapEff:\t000001ffffffffff\n", "         0          0 4294967295\n", true},
		{"a root without the capability", "CapEff:\t000001fffeffffff\n", "0 0 4294967295", false},
		{"a root of a user namespace", "CapEff:\t000001ffffffffff\n", "0 165536 65536", false},
		{"a user namespace of several ranges", "CapEff:\t000001ffffffffff\n", "0 0 1\n1 100000 65535", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mayRaise(tt.status, tt.users); got != tt.want {
				t.Errorf("may raise: %v", got)
			}
		})
	}
}

func TestHardLimit(t *testing.T) {
	const limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n" +
		"Max locked memory         8388608              8388608              bytes     \nMax core file size        0                    unlimited            bytes     \n"
	for _, tt := range []struct {
		name  string
		limit int64
		ok    bool
	}{{"nofile", 524288, true}, {"memlock", 8388608, true}, {"core", 0, false}, {"nproc", 0, false}} {
		if limit, ok := hardLimit(limits, limitNames[tt.name]); ok != tt.ok || ok && limit != tt.limit {
			t.Errorf("%s is %d %v, want %d %v", tt.name, limit, ok, tt.limit, tt.ok)
		}
	}
}

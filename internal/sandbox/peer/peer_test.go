package peer

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestOf(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Of(conn.(*net.UnixConn))
	if err != nil || int(got.Pid) != os.Getpid() || int(got.Uid) != os.Getuid() {
		t.Errorf("%+v, %v", got, err)
	}
	conn.Close()
	if _, err := Of(conn.(*net.UnixConn)); err == nil {
		t.Error("a closed socket has a peer")
	}
}

package syscont

import (
	"os"
	"strings"
	"testing"
)

func TestLockData(t *testing.T) {
	dir := t.TempDir() + "/docker"
	first, err := LockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	_, err = LockData(dir)
	if err == nil {
		t.Fatal("two runners hold one data folder")
	}
	for _, want := range []string{dir, host, "volume of its own"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q doesn't say %q", err, want)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := LockData(dir)
	if err != nil {
		t.Fatalf("a lock that was let go is held: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestLockDataWhereThereCanBeNone(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LockData(file + "/docker"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v, want one that names %s", err, file)
	}
}

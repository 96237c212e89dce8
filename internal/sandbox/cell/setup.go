package cell

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// setup is what the first process of a cell is told, through a pipe.
type setup struct {
	// Root is an empty folder for the cell's root to be mounted on.
	Root string `json:"root"`
	// Binds are what the cell sees at the same paths.
	Binds []string `json:"binds"`
	// Groups are the folders of its control group.
	Groups []groupMount `json:"groups"`
	// Socket is where the daemon listens.
	Socket string `json:"socket"`
	// Config is daemon.json, and Resolv resolv.conf.
	Config []byte `json:"config"`
	Resolv []byte `json:"resolv"`
	// Files is how many files a process may have open; 0 leaves it.
	Files uint64 `json:"files"`
}

// groupMount is a folder of control groups that the cell has at Point.
type groupMount struct {
	Folder  string `json:"folder"`
	Point   string `json:"point"`
	Unified bool   `json:"unified"`
}

// setupFile is the descriptor that the pipe is at in the first process.
const setupFile = 3

func (s *setup) write(w io.Writer) error {
	return json.NewEncoder(w).Encode(s)
}

// readSetup waits for the runner. A runner that gave up has closed the pipe, or is gone.
func readSetup() (*setup, error) {
	f := os.NewFile(setupFile, "setup")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d isn't open: this command is for the runner, which starts cells with it", setupFile)
	}
	defer f.Close()
	var s setup
	if err := json.NewDecoder(f).Decode(&s); err != nil {
		return nil, fmt.Errorf("read how the cell is to be: %w", err)
	}
	return &s, nil
}

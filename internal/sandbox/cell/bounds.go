package cell

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Bounds are of everything in a cell together. Zero is no bound of its own.
type Bounds struct {
	// Memory in bytes.
	Memory int64
	// Processes and their threads.
	Processes int64
	// Files that one process may have open.
	Files uint64
}

// Machine is what the system container has: what it may have, or what the machine has.
type Machine struct {
	Memory    int64
	Processes int64
}

// FindMachine looks at the limits of this container and at the machine.
func FindMachine() Machine {
	m := Machine{Memory: memTotal("/proc/meminfo"), Processes: number("/proc/sys/kernel/threads-max")}
	m.Processes = least(m.Processes, number("/proc/sys/kernel/pid_max"))
	for _, root := range roots() {
		m.Memory = least(m.Memory, number(root+"/memory.limit_in_bytes"), number(root+"/memory.max"))
		m.Processes = least(m.Processes, number(root+"/pids.max"))
	}
	return m
}

// All are the bounds of all cells together: the rest is the runner's, which no cell can starve.
func (m Machine) All() Bounds {
	const most = 512 << 20 // more than the runner ever needs
	return Bounds{Memory: m.Memory - min(m.Memory/8, most), Processes: m.Processes - min(m.Processes/8, 4096)}
}

// Each are the default bounds of one cell, which leave another one room to work: three quarters of
// what all have for the one that most builds run in, half for any other.
func (m Machine) Each(shared bool) Bounds {
	all := m.All()
	b := Bounds{Memory: all.Memory / 2, Processes: all.Processes / 2}
	if shared {
		b = Bounds{Memory: all.Memory / 4 * 3, Processes: all.Processes / 4 * 3}
	}
	// A process of Docker's needs one file a connection; few need more than a thousand.
	b.Files = 1 << 20
	return b
}

// least is the least of the numbers that are known (greater than zero).
func least(numbers ...int64) int64 {
	var out int64
	for _, n := range numbers {
		if n > 0 && (out == 0 || n < out) {
			out = n
		}
	}
	return out
}

// number is what a file holds, 0 if it isn't a number ("max", for one) or isn't there.
func number(file string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// memTotal is the machine's memory in bytes, 0 if it isn't known.
func memTotal(file string) int64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if w := strings.Fields(lines.Text()); len(w) >= 2 && w[0] == "MemTotal:" {
			if kb, err := strconv.ParseInt(w[1], 10, 64); err == nil {
				return kb << 10
			}
		}
	}
	return 0
}

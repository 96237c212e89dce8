package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for something that should take seconds.
const patience = 5 * time.Minute

// program is the path of the binary that the tests run as a user would.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if socket := os.Getenv(relaySocket); socket != "" {
		return relay(socket)
	}
	// Whoever runs the tests may ignore signals (nohup), and what is ignored is so in every program
	// that is started from here. What is caught isn't.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	dir, err := os.MkdirTemp("", "drone-runner-sysbox-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "drone-runner-sysbox")
	args := []string{"build", "-o", program, "-ldflags", "-X main.version=v0.0.0-test"}
	if underRace {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program under test: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// call is one call of the program.
type call struct {
	dir   string
	stdin string
	// env is added to an environment without any DRONE_* variable.
	env  []string
	args []string
	// program is another one than that of all tests, if it isn't "".
	program string
}

// result is what a user sees of a call.
type result struct {
	code           int
	stdout, stderr string
}

// String shows everything, for messages.
func (r result) String() string {
	return fmt.Sprintf("exit code %d\n--- stdout\n%s--- stderr\n%s", r.code, r.stdout, r.stderr)
}

// run makes the call and waits for its end.
func (c call) run(t testing.TB) result {
	t.Helper()
	p := c.start(t)
	return p.wait(t)
}

// process is a call that is under way.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *buffer
	ended          chan struct{}
	err            error
}

// start makes the call. Whatever happens, the process has ended when the test has.
func (c call) start(t testing.TB) *process {
	t.Helper()
	p := &process{stdout: newBuffer(), stderr: newBuffer(), ended: make(chan struct{})}
	p.begin(t, c, p.stdout)
	return p
}

func (p *process) begin(t testing.TB, c call, stdout io.Writer) {
	t.Helper()
	p.cmd = exec.Command(cmp.Or(c.program, program), c.args...)
	p.cmd.Dir = c.dir
	if p.cmd.Dir == "" {
		p.cmd.Dir = t.TempDir()
	}
	// The race detector waits a second at the end otherwise.
	p.cmd.Env = append(append(cleanEnv(), "GORACE=atexit_sleep_ms=10"), c.env...)
	p.cmd.Stdin = strings.NewReader(c.stdin)
	p.cmd.Stdout, p.cmd.Stderr = stdout, p.stderr
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		select {
		case <-p.ended:
		default:
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		if strings.Contains(p.stderr.String(), "WARNING: DATA RACE") {
			t.Errorf("the program has a data race:\n%s", p.stderr)
		}
	})
}

// signal sends one.
func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// running tells whether the process still lives.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// wait waits for the end.
func (p *process) wait(t testing.TB) result {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Fatalf("the program didn't end within %s: %s", patience, p.result())
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return p.result()
}

func (p *process) result() result {
	return result{code: p.cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.stderr.String()}
}

// cleanEnv returns this process's environment without what would change how the program behaves,
// and with a state folder of the tests' own.
func cleanEnv() []string {
	out := []string{"XDG_STATE_HOME=" + filepath.Join(filepath.Dir(program), "state")}
	for _, entry := range os.Environ() {
		key, _, _ := strings.Cut(entry, "=")
		if key != "XDG_STATE_HOME" && !strings.HasPrefix(key, "DRONE_") && !strings.HasPrefix(key, "GIT_") && !strings.HasSuffix(strings.ToLower(key), "_proxy") {
			out = append(out, entry)
		}
	}
	return out
}

// buffer is output that grows while it is read.
type buffer struct {
	mu    sync.Mutex
	data  bytes.Buffer
	grown chan struct{}
}

func newBuffer() *buffer { return &buffer{grown: make(chan struct{})} }

// Write adds to the buffer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.grown)
	b.grown = make(chan struct{})
	return b.data.Write(p)
}

// String is everything so far.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// await waits until the output holds text.
func (b *buffer) await(t testing.TB, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		b.mu.Lock()
		found, grown := strings.Contains(b.data.String(), text), b.grown
		b.mu.Unlock()
		if found {
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			t.Fatalf("the output never held %q:\n%s", text, b)
		}
	}
}

// expect checks a result: its exit code, what it must print (to either stream) and, behind a "!",
// what it must not.
func (r result) expect(t testing.TB, code int, fragments ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d: %s", r.code, code, r)
	}
	for _, fragment := range fragments {
		unwanted, not := strings.CutPrefix(fragment, "!")
		if not {
			fragment = unwanted
		}
		if strings.Contains(r.stdout+r.stderr, fragment) == not {
			t.Errorf("output with %q: %t, want %t: %s", fragment, not, !not, r)
		}
	}
}

// folder makes a folder with files.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// content is that of a file, or "" if there is none.
func content(t testing.TB, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("this never came: %s", what)
		}
	}
}

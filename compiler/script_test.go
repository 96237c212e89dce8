package compiler

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// interpreters are the shells of this machine that scripts are tried in; /bin/sh is always among
// them. Alpine's is busybox's, Debian's is dash.
func interpreters(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{"sh": {"/bin/sh"}}
	for _, shell := range [][]string{{"bash"}, {"dash"}, {"busybox", "sh"}, {"ksh"}, {"mksh"}, {"zsh"}} {
		if p, err := exec.LookPath(shell[0]); err == nil {
			found[strings.Join(shell, " ")] = append([]string{p}, shell[1:]...)
		}
	}
	return found
}

// runCommands runs a step's commands as its container would: the step's own -c and command, with
// the script in the environment.
func runCommands(t *testing.T, shell []string, commands []string, env ...string) (output string, home string, code int) {
	t.Helper()
	dst := &spec.Step{}
	text := setProcess(dst, &resource.Step{Commands: commands})
	home = t.TempDir()
	cmd := exec.CommandContext(t.Context(), shell[0], append(append(shell[1:len(shell):len(shell)], dst.Entrypoint[1:]...), dst.Command...)...)
	cmd.Dir = home
	cmd.Env = append([]string{"HOME=" + home, "PATH=/usr/local/bin:/usr/bin:/bin", scriptVariable + "=" + text}, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), home, cmd.ProcessState.ExitCode()
}

func TestScriptRunsAndShowsCommandsAsWritten(t *testing.T) {
	for _, tt := range []struct {
		name     string
		commands []string
		want     string
		code     int
	}{
		{name: "a command", commands: []string{"echo hello"}, want: "+ echo hello\nhello\n"},
		{name: "several, in order", commands: []string{"echo a", "echo b"}, want: "+ echo a\na\n+ echo b\nb\n"},
		{name: "one that fails ends the script", commands: []string{"echo a", "false", "echo b"}, want: "+ echo a\na\n+ false\n", code: 1},
		{name: "its exit status is the script's", commands: []string{"(exit 78)", "echo b"}, want: "+ (exit 78)\n", code: 78},
		{name: "exit ends the script", commands: []string{"exit 0", "echo b"}, want: "+ exit 0\n"},
		{name: "single quotes", commands: []string{`echo 'it'"'"'s'`}, want: "+ echo 'it'\"'\"'s'\nit's\n"},
		{name: "double quotes", commands: []string{`echo "a \"b\" c"`}, want: "+ echo \"a \\\"b\\\" c\"\na \"b\" c\n"},
		{name: "backslashes", commands: []string{`printf '%s\n' 'a\nb\tc\\d'`}, want: "+ printf '%s\\n' 'a\\nb\\tc\\\\d'\na\\nb\\tc\\\\d\n"},
		{name: "a dollar in single quotes", commands: []string{`echo '$HOME' '$(id)' '` + "`id`" + `'`}, want: "+ echo '$HOME' '$(id)' '`id`'\n$HOME $(id) `id`\n"},
		{name: "a variable", commands: []string{"FOO=bar", "echo $FOO ${FOO}"}, want: "+ FOO=bar\n+ echo $FOO ${FOO}\nbar bar\n"},
		{name: "percent signs", commands: []string{"echo 100%s %d%%"}, want: "+ echo 100%s %d%%\n100%s %d%%\n"},
		{name: "a leading dash", commands: []string{"-n || true"}, want: "+ -n || true\n"},
		{name: "umlauts and more", commands: []string{"echo äöü✓"}, want: "+ echo äöü✓\näöü✓\n"},
		{name: "several lines", commands: []string{"for i in 1 2; do\n  echo $i\ndone"}, want: "+ for i in 1 2; do\n  echo $i\ndone\n1\n2\n"},
		{name: "a continued line", commands: []string{"echo a \\\n  b"}, want: "+ echo a \\\n  b\na b\n"},
		{name: "a here document", commands: []string{"cat <<EOF\nit's $((1+1)) \\$x\nEOF\n", "echo after"}, want: "+ cat <<EOF\nit's $((1+1)) \\$x\nEOF\nit's 2 $x\n+ echo after\nafter\n"},
		{name: "a quoted here document", commands: []string{"cat <<'EOF'\n$x `y` \\n\nEOF"}, want: "+ cat <<'EOF'\n$x `y` \\n\nEOF\n$x `y` \\n\n"},
		{name: "a comment", commands: []string{"echo a # it's a comment", "# another's"}, want: "+ echo a # it's a comment\na\n+ # another's\n"},
		{name: "a blank command", commands: []string{"", "  \n", "echo a"}, want: "+ echo a\na\n"},
		{name: "a function and its use", commands: []string{"f() {\n echo in f\n}", "f"}, want: "+ f() {\n echo in f\n}\n+ f\nin f\n"},
		{name: "cd lasts", commands: []string{"mkdir d && cd d", "basename $(pwd)"}, want: "+ mkdir d && cd d\n+ basename $(pwd)\nd\n"},
		{name: "set +e is respected", commands: []string{"set +e", "false", "echo on"}, want: "+ set +e\n+ false\n+ echo on\non\n"},
		{name: "standard input is empty, the next command is not swallowed", commands: []string{"cat", "echo after"}, want: "+ cat\n+ echo after\nafter\n"},
		{name: "an unset variable is empty", commands: []string{`echo "[$NOPE]"`}, want: "+ echo \"[$NOPE]\"\n[]\n"},
		{name: "what it starts doesn't see the script", commands: []string{`env | grep -c DRONE_SCRIPT || true`}, want: "+ env | grep -c DRONE_SCRIPT || true\n0\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, shell := range interpreters(t) {
				got, _, code := runCommands(t, shell, tt.commands)
				// Every shell words its complaint about a missing command differently.
				got = dropComplaints(got)
				if diff := cmp.Diff(tt.want, got); diff != "" || code != tt.code {
					t.Errorf("%s: exit %d, want %d; output (-want +got):\n%s", name, code, tt.code, diff)
				}
			}
		})
	}
}

func dropComplaints(out string) string {
	var kept strings.Builder
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "not found") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func TestScriptLeavesNetrc(t *testing.T) {
	netrc := []string{"DRONE_NETRC_MACHINE=git.example.com", "DRONE_NETRC_USERNAME=octo", `DRONE_NETRC_PASSWORD=p%s\n"w$d'`, "DRONE_NETRC_FILE=machine git.example.com login octo password x"}
	for name, shell := range interpreters(t) {
		t.Run(name, func(t *testing.T) {
			out, home, code := runCommands(t, shell, []string{"env | grep DRONE_ || echo none"}, netrc...)
			if want := "+ env | grep DRONE_ || echo none\nnone\n"; out != want || code != 0 {
				t.Errorf("exit %d, output %q, want %q", code, out, want)
			}
			file := filepath.Join(home, ".netrc")
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if want := "machine git.example.com\nlogin octo\npassword p%s\\n\"w$d'\n"; string(got) != want {
				t.Errorf(".netrc is %q, want %q", got, want)
			}
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o600 {
				t.Errorf(".netrc has mode %v, want 0600", info.Mode())
			}
		})
	}
}

func TestScriptSurvivesAHomeThatCannotBeWritten(t *testing.T) {
	for name, shell := range interpreters(t) {
		t.Run(name, func(t *testing.T) {
			out, _, code := runCommands(t, shell, []string{"echo on"}, "DRONE_NETRC_MACHINE=git.example.com", "HOME=/proc/nowhere")
			if code != 0 || !strings.Contains(out, "can't be written to /proc/nowhere/.netrc") || !strings.HasSuffix(out, "+ echo on\non\n") {
				t.Errorf("exit %d, output %q", code, out)
			}
		})
	}
}

func TestScriptWritesNoNetrcWithoutCredentials(t *testing.T) {
	_, home, code := runCommands(t, []string{"/bin/sh"}, []string{"true"})
	if _, err := os.Stat(filepath.Join(home, ".netrc")); !os.IsNotExist(err) || code != 0 {
		t.Errorf("exit %d, .netrc: %v", code, err)
	}
}

func TestSetProcess(t *testing.T) {
	scripted := []string{runScript}
	for _, tt := range []struct {
		name                string
		step                resource.Step
		entrypoint, command []string
		script              bool
	}{
		{name: "neither: the image's own"},
		{name: "command", step: resource.Step{Command: []string{"a", "b"}}, command: []string{"a", "b"}},
		{name: "entrypoint and command", step: resource.Step{Entrypoint: []string{"e"}, Command: []string{"a"}}, entrypoint: []string{"e"}, command: []string{"a"}},
		{name: "commands", step: resource.Step{Commands: []string{"a"}}, entrypoint: []string{"/bin/sh", "-c"}, command: scripted, script: true},
		{name: "commands win over command", step: resource.Step{Commands: []string{"a"}, Command: []string{"b"}}, entrypoint: []string{"/bin/sh", "-c"}, command: scripted, script: true},
		{name: "commands are an entrypoint's arguments", step: resource.Step{Entrypoint: []string{"dockerd"}, Commands: []string{"--dns=8.8.8.8", "--debug"}}, entrypoint: []string{"dockerd"}, command: []string{"--dns=8.8.8.8", "--debug"}},
		{name: "after its command", step: resource.Step{Entrypoint: []string{"e"}, Command: []string{"run"}, Commands: []string{"--x"}}, entrypoint: []string{"e"}, command: []string{"run", "--x"}},
		{name: "an entrypoint that is a shell runs the commands", step: resource.Step{Entrypoint: []string{"/bin/bash"}, Commands: []string{"a"}}, entrypoint: []string{"/bin/bash", "-c"}, command: scripted, script: true},
		{name: "with its options", step: resource.Step{Entrypoint: []string{"bash", "-l", "-ec"}, Commands: []string{"a"}}, entrypoint: []string{"bash", "-l", "-ec"}, command: scripted, script: true},
		{name: "with a long option", step: resource.Step{Entrypoint: []string{"bash", "--norc"}, Commands: []string{"a"}}, entrypoint: []string{"bash", "--norc", "-c"}, command: scripted, script: true},
		{name: "commands win over an entrypoint that is no shell", step: resource.Step{Entrypoint: []string{"tini", "--"}, Commands: []string{"make", "-v"}}, entrypoint: []string{"/bin/sh", "-c"}, command: scripted, script: true},
		{name: "a shell with a file is no shell", step: resource.Step{Entrypoint: []string{"sh", "/run.sh"}, Commands: []string{"a"}}, entrypoint: []string{"/bin/sh", "-c"}, command: scripted, script: true},
		{name: "an empty entrypoint switches the image's off", step: resource.Step{Entrypoint: []string{""}, Commands: []string{"a"}}, entrypoint: []string{"/bin/sh", "-c"}, command: scripted, script: true},
		{name: "an empty entrypoint alone stays", step: resource.Step{Entrypoint: []string{""}}, entrypoint: []string{""}},
		{name: "shell", step: resource.Step{Shell: "bash", Commands: []string{"a"}}, entrypoint: []string{"/bin/sh", "-c"}, command: []string{startScript("bash")}, script: true},
		{name: "shell without commands means nothing", step: resource.Step{Shell: "pwsh"}},
		{name: "shell that isn't one", step: resource.Step{Shell: "pwsh", Commands: []string{"a"}}, entrypoint: []string{"/bin/sh", "-c"}, command: scripted, script: true},
		{name: "a relative path of a shell", step: resource.Step{Shell: "bin/bash", Commands: []string{"a"}}, entrypoint: []string{"/bin/sh", "-c"}, command: scripted, script: true},
		{name: "shell with options", step: resource.Step{Shell: "bash -e", Commands: []string{"a"}}, entrypoint: []string{"/bin/sh", "-c"}, command: scripted, script: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dst := &spec.Step{}
			text := setProcess(dst, &tt.step)
			if diff := cmp.Diff([][]string{tt.entrypoint, tt.command}, [][]string{dst.Entrypoint, dst.Command}); diff != "" || (text != "") != tt.script {
				t.Errorf("script %q, process (-want +got):\n%s", text, diff)
			}
		})
	}
}

// TestShell runs commands by the shell that a step asks for, and by /bin/sh in an image that lacks
// it.
func TestShell(t *testing.T) {
	folder := t.TempDir()
	zsh := filepath.Join(folder, "zsh")
	if err := os.WriteFile(zsh, []byte("#!/bin/sh\necho zsh is here\nexec /bin/sh \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for shell, want := range map[string]string{
		"zsh": "zsh is here\n+ echo", zsh: "zsh is here\n", "mksh": "this image has no mksh: /bin/sh runs the commands\n+ echo", "/no/bash": "this image has no /no/bash: /bin/sh runs",
		"pwsh": "+ echo", "": "+ echo",
	} {
		dst := &spec.Step{}
		text := setProcess(dst, &resource.Step{Shell: shell, Commands: []string{`echo $0 it\'s`, "exit 3"}})
		cmd := exec.CommandContext(t.Context(), dst.Entrypoint[0], append(dst.Entrypoint[1:], dst.Command...)...)
		cmd.Env = []string{"HOME=" + folder, "PATH=" + folder, scriptVariable + "=" + text}
		out, _ := cmd.CombinedOutput()
		if !strings.HasPrefix(string(out), want) || cmd.ProcessState.ExitCode() != 3 {
			t.Errorf("shell %q: exit code %d and\n%s", shell, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("it's\n$x `y` \\ \" %s")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "\x00") {
			return
		}
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf %s "+quote(text)).Output()
		if err != nil || string(out) != text {
			t.Errorf("%q became %q (%v)", text, out, err)
		}
	})
}

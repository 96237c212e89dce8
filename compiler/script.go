package compiler

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// scriptVariable carries a step's commands into its container.
const scriptVariable = "DRONE_SCRIPT"

// runScript is what the shell of a step is given with -c. Drone pipes the script into a second shell; that loses backslashes where echo interprets them (Debian's
// /bin/sh), and a command that reads its standard input swallows the commands after it. Here the shell evaluates it, and standard input is empty.
const runScript = `eval "$` + scriptVariable + `"`

// shells are the interpreters that can run a script of ours.
var shells = []string{"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"}

// setProcess decides what the container runs: the image's own, the command and entrypoint as written, or the commands as a script, which it returns.
//
// Commands beside an entrypoint that is no shell are its arguments: that is what their authors mean (entrypoint: [dockerd] with
// commands: [--dns=…]), and they make no sense as a script.
func setProcess(dst *spec.Step, src *resource.Step) (string, error) {
	entrypoint := slices.Clone(src.Entrypoint)
	if !slices.ContainsFunc(entrypoint, func(word string) bool { return word != "" }) && len(src.Commands) > 0 {
		// entrypoint: [""] is how other systems switch the image's own off.
		entrypoint = nil
	}
	switch {
	case len(src.Commands) == 0:
		dst.Entrypoint, dst.Command = entrypoint, slices.Clone(src.Command)
		return "", nil
	case len(entrypoint) > 0 && !isShell(entrypoint):
		dst.Entrypoint, dst.Command = entrypoint, slices.Concat(src.Command, src.Commands)
		return "", nil
	case len(entrypoint) == 0:
		shell, err := shellPath(src.Shell)
		if err != nil {
			return "", err
		}
		entrypoint = []string{shell}
	}
	if last := entrypoint[len(entrypoint)-1]; strings.HasPrefix(last, "--") || !strings.HasPrefix(last, "-") || !strings.HasSuffix(last, "c") {
		entrypoint = append(entrypoint, "-c")
	}
	dst.Entrypoint, dst.Command = entrypoint, []string{runScript}
	return script(src.Commands), nil
}

// isShell tells whether an entrypoint is a shell that waits for a script: alone, or followed by options.
func isShell(entrypoint []string) bool {
	last := entrypoint[len(entrypoint)-1]
	return slices.Contains(shells, path.Base(entrypoint[0])) && (len(entrypoint) == 1 || strings.HasPrefix(last, "-"))
}

// shellPath reads `shell`: a name that is looked up in the image's PATH, or an absolute path. Default /bin/sh.
func shellPath(shell string) (string, error) {
	switch {
	case shell == "" || shell == "sh":
		return "/bin/sh", nil
	case slices.Contains(shells, path.Base(shell)) && (path.IsAbs(shell) || path.Base(shell) == shell):
		return shell, nil
	}
	return "", fmt.Errorf("shell: %q can't run the commands: write %s, or the absolute path of one of them", shell, strings.Join(shells, ", "))
}

// script is what runs the commands: POSIX shell that leaves git's credentials in the home folder and hides them from what it starts, then
// shows each command and runs it, until one fails.
func script(commands []string) string {
	var out strings.Builder
	out.WriteString(preamble)
	for _, command := range commands {
		if strings.TrimSpace(command) == "" {
			continue
		}
		fmt.Fprintf(&out, "\nprintf '%%s\\n' %s\n%s\n", quote("+ "+strings.TrimRight(command, "\n")), command)
	}
	return out.String()
}

// preamble opens each script. Standard error goes where standard output goes: the daemon carries the two as
// separate streams, and an error would sometimes be logged before the command that caused it. A home
// folder that can't be written is reported and doesn't fail the step, since most steps don't use git.
const preamble = `exec 2>&1
if [ -n "${DRONE_NETRC_MACHINE:-}" ]; then
(
umask 077
rm -f "${HOME:=/root}/.netrc" 2>/dev/null
printf 'machine %s\nlogin %s\npassword %s\n' "$DRONE_NETRC_MACHINE" "${DRONE_NETRC_USERNAME:-}" "${DRONE_NETRC_PASSWORD:-}" > "$HOME/.netrc"
) || echo "the credentials of git can't be written to ${HOME:-/root}/.netrc"
fi
unset DRONE_NETRC_MACHINE DRONE_NETRC_USERNAME DRONE_NETRC_PASSWORD DRONE_NETRC_FILE DRONE_SCRIPT
set -e
`

// quote makes one word of the shell's out of any text.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

package compiler

import (
	"fmt"
	"slices"
	"strings"

	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/resource"
	"github.com/drone-runner-sysbox/drone-runner-sysbox/internal/pipeline/spec"
)

// scriptVariable carries a step's commands into its container.
const scriptVariable = "DRONE_SCRIPT"

// runScript is what the shell of a step is given with -c. Drone pipes the script into a second
// shell; that loses backslashes where echo interprets them (Debian's /bin/sh), and a command that
// reads its standard input swallows the commands after it. Here the shell evaluates it, and
// standard input is empty.
const runScript = `eval "$` + scriptVariable + `"`

// setProcess decides what the container runs: the image's own program, the command and entrypoint
// as written, or the commands as a script, which it returns.
//
// Commands are a script whatever the entrypoint is, as on Drone's runner, but for options beside an
// entrypoint that is no shell (entrypoint: [dockerd] with commands: [--dns=…]), which are its
// arguments: as a script they can only fail.
func setProcess(dst *spec.Step, src *resource.Step) string {
	entrypoint := slices.Clone(src.Entrypoint)
	if !slices.ContainsFunc(entrypoint, func(word string) bool { return word != "" }) && len(src.Commands) > 0 {
		// entrypoint: [""] is how other systems switch the image's own off.
		entrypoint = nil
	}
	switch {
	case len(src.Commands) == 0:
		dst.Entrypoint, dst.Command = entrypoint, slices.Clone(src.Command)
		return ""
	case len(entrypoint) > 0 && !isShell(entrypoint) && areOptions(src.Commands):
		dst.Entrypoint, dst.Command = entrypoint, slices.Concat(src.Command, src.Commands)
		return ""
	case len(entrypoint) == 0 || !isShell(entrypoint):
		dst.Entrypoint, dst.Command = []string{"/bin/sh", "-c"}, []string{startScript(src.Shell)}
		return script(src.Commands)
	}
	if last := entrypoint[len(entrypoint)-1]; strings.HasPrefix(last, "--") || !strings.HasPrefix(last, "-") ||
		!strings.HasSuffix(last, "c") {
		entrypoint = append(entrypoint, "-c")
	}
	dst.Entrypoint, dst.Command = entrypoint, []string{runScript}
	return script(src.Commands)
}

// isShell reports whether an entrypoint is a shell that waits for a script: alone, or followed by
// options.
func isShell(entrypoint []string) bool {
	last := entrypoint[len(entrypoint)-1]
	return resource.IsShell(entrypoint[0]) && (len(entrypoint) == 1 || strings.HasPrefix(last, "-"))
}

// areOptions reports whether commands are nothing but options of a program.
func areOptions(commands []string) bool {
	return !slices.ContainsFunc(commands, func(command string) bool { return !strings.HasPrefix(command, "-") })
}

// startScript is what /bin/sh does to run the commands by `shell`: a name that is looked up in the
// image's PATH, or an absolute path. Drone's runner knows the key and has /bin/sh run the commands
// all the same, so that is what does where the image lacks the shell, or it is none that can run a
// script of ours.
func startScript(shell string) string {
	if shell == "sh" || shell == "/bin/sh" || !resource.IsShell(shell) {
		return runScript
	}
	return fmt.Sprintf("if command -v %[1]s >/dev/null 2>&1; then exec %[1]s -c %[2]s; fi\necho %[3]s\n%[4]s",
		quote(shell), quote(runScript), quote("this image has no "+shell+": /bin/sh runs the commands"), runScript)
}

// script is what runs the commands: POSIX shell that leaves git's credentials in the home folder
// and hides them from what it starts, then shows each command and runs it, until one fails.
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

// preamble opens each script. Standard error goes where standard output goes: the daemon carries
// the two as separate streams, and an error would sometimes be logged before the command that
// caused it. A home folder that can't be written is reported and doesn't fail the step, since most
// steps don't use git.
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

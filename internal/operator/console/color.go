package console

import "github.com/drone/drone-go/drone"

// color is the number of an ANSI "select graphic rendition" sequence; "" leaves the text as it is.
type color string

const (
	plain  color = ""
	bold   color = "1"
	dim    color = "2"
	red    color = "31"
	green  color = "32"
	yellow color = "33"
)

// reset ends whatever a line of a step began.
const reset = "\x1b[0m"

// stepColors tell steps apart. Red, green and yellow are for states.
var stepColors = [...]color{"36", "35", "34", "96", "95", "94"}

// stepColor is the step's, by its number from 1.
func stepColor(number int) color { return stepColors[max(number-1, 0)%len(stepColors)] }

// painter colours text, or doesn't.
type painter bool

func (p painter) as(c color, text string) string {
	if !p || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + reset
}

// statusColor is that of a state as Drone names it.
func statusColor(status string, ignored bool) color {
	switch status {
	case drone.StatusPassing:
		return green
	case drone.StatusSkipped, drone.StatusPending, drone.StatusWaiting:
		return yellow
	case drone.StatusRunning:
		return plain
	}
	if ignored {
		return yellow
	}
	return red
}

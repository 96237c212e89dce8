package console

import (
	"strconv"
	"strings"

	"github.com/drone/drone-go/drone"
)

// cell of a table.
type cell struct {
	text  string
	color color
	right bool // aligned
}

// table prints how each step of the stage ended.
func (c *Console) table(stage drone.Stage) {
	if len(stage.Steps) == 0 {
		return
	}
	rows := [][]cell{{{text: "STEP"}, {text: "STATUS"}, {text: "EXIT", right: true}, {text: "SECONDS", right: true}}}
	for _, step := range stage.Steps {
		status, color := c.outcome(*step)
		exit, took := strconv.Itoa(step.ExitCode), "-"
		if status != step.Status {
			exit = "-" // it is the record's, which says that the step passed
		}
		if step.ErrIgnore && step.Status == drone.StatusFailing {
			status += " (ignored)"
		}
		if d, ok := c.took[step.Number]; ok {
			took = seconds(d)
		} else {
			exit = "-"
		}
		rows = append(rows, []cell{
			{text: printable(step.Name)},
			{text: status, color: color},
			{text: exit, right: true},
			{text: took, right: true},
		})
	}
	c.print("")
	c.printTable(rows)
	c.print("")
}

// printTable prints rows in columns; the first row is the head.
func (c *Console) printTable(rows [][]cell) {
	widths := map[int]int{}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell.text)))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell.text)))
			text := c.paint.as(cell.color, cell.text)
			if n == 0 {
				text = c.paint.as(dim, cell.text)
			}
			if cell.right {
				text, pad = pad+text, ""
			}
			b.WriteString("   " + text + pad)
		}
		c.print(strings.TrimRight(b.String(), " "))
	}
}

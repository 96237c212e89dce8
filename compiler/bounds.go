package compiler

import (
	"errors"
	"fmt"
)

// Bounds of a spec. Every step has the variables of its pipeline, so a thousand steps multiply
// them.
const (
	// maxVariables is how many variables the steps of a pipeline may have, all together. A step has
	// some 120 by itself.
	maxVariables = 400_000
	// maxEnvironment is how many bytes of variables Linux gives a process at most, whatever the
	// limit of its stack (3/4 of _STK_LIM, in fs/exec.c).
	maxEnvironment = 6 << 20
)

var errVariables = errors.New("the environments of all steps hold too many variables: write variables in the " +
	"steps that need them, or split the pipeline")

// spend counts the variables of one step.
func (b *builder) spend(variables int) error {
	if b.variables += variables; b.variables > maxVariables {
		return fmt.Errorf("%w (at most %d)", errVariables, maxVariables)
	}
	return nil
}

// Package suites runs other people's tests of Docker's clients, and the calls of such clients, on
// the socket of a plain docker daemon and on a guard's, and compares them test by test. It has
// tests only.
//
// The rule: what passes on the plain socket passes on the guard's, unless differences.txt has it
// with a reason. A line there of a test that passes on both fails, too: the list doesn't promise
// less than there is.
//
// Which suites there are is in suites_test.go. go test runs those that take a few minutes; with
// CLIENTS=all it's all of them (scripts/clients compare prints the comparison).
package suites

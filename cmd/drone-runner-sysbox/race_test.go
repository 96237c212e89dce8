//go:build race

package main

// underRace tells that the tests run under the race detector; then the program that they start
// does, too.
const underRace = true

// Package local runs the pipelines of a file without a server: it makes up the build from what the
// user says and from git (Build), picks and compiles the pipelines (Plan), and keeps account of
// what runs (Runs), so that the next call cleans up after one that was killed.
//
// The rule to keep: what a pipeline means is decided elsewhere, as for a build of a server. This
// package decides only what a server would have decided.
package local

package main

import "errors"

// The exit codes of the commands. A command that serves knows only the last.
const (
	exitFindings = 1 // it found something: a failed test, a mistake, a difference
	exitFailed   = 2 // it could not run
)

// errFindings ends a command that has told its findings.
var errFindings = errors.New("there are findings")

package evaluation

import (
	"errors"
	"fmt"
	"strings"
)

// An OutsideError says that a policy does something for which no formula is found.
type OutsideError struct {
	// File and Line are where; empty where that is not known.
	File string
	Line int
	// Text is the expression, as its author wrote it.
	Text string
	// Message says what is outside.
	Message string
}

// Error returns place, expression and message.
func (o *OutsideError) Error() string {
	if o.File == "" {
		return o.Message
	}
	text, _, _ := strings.Cut(o.Text, "\n")
	return fmt.Sprintf("%s:%d: %s: %s", o.File, o.Line, strings.TrimSpace(text), o.Message)
}

// Unplaced is an error as an [*OutsideError] whose place is not known, or nil.
func Unplaced(err error) error {
	if _, ok := errors.AsType[*OutsideError](err); ok || err == nil {
		return err
	}
	return &OutsideError{Message: err.Error()}
}

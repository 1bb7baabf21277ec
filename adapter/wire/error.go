package wire

// Error is an error with two texts: a public one, which may go to any caller,
// and an internal cause for the log. Its Error text is the public one alone.
type Error struct {
	// Name is the error's name in Backstage's terms, such as InputError
	// (@backstage/errors).
	Name string
	// Status is the HTTP status that answers it.
	Status int
	// Public is the text for the caller. It names nothing internal.
	Public string
	// RetryAfter is the number of seconds after which to try again, or 0.
	RetryAfter int
	// Cause is why, for the log; nil where Public says it all.
	Cause error
}

// Error returns the public text.
func (e *Error) Error() string { return e.Public }

// Unwrap returns the internal cause, for errors.Is and errors.AsType.
func (e *Error) Unwrap() error { return e.Cause }

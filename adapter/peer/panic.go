package peer

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Panic makes an error, with the stack, of what recover returned to a
// deferred function; nil of nil. The value of a panic that is not the runtime's
// may quote foreign text, so only its type is told.
func Panic(recovered any) error {
	switch p := recovered.(type) {
	case nil:
		return nil
	case runtime.Error:
		return fmt.Errorf("panic: %w\n%s", p, debug.Stack())
	default:
		return fmt.Errorf("panic with a %T\n%s", p, debug.Stack())
	}
}

package identity

import (
	"errors"
	"fmt"

	"github.com/stagedoor/stagedoor/adapter/identity/keyset"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// invalidToken is all that the sender of a bad token is told; why is for the log.
const invalidToken = "Invalid token"

func unauthenticated(public string, cause error) error {
	if errors.Is(cause, keyset.ErrNoTurn) {
		return wire.ServiceUnavailableError(1, "Too many requests at once, try again").Because(cause)
	}
	return wire.AuthenticationError("%s", public).Because(cause)
}

func unavailable(cause error) error {
	return wire.ServiceUnavailableError(1, "The auth backend does not answer").Because(cause)
}

// refused passes on the status of the auth backend, as ResponseError of
// @backstage/errors 1.4.0 does.
func refused(status int, cause error) error {
	return &wire.Error{Name: "ResponseError", Status: status,
		Public: fmt.Sprintf("The auth backend answered with status %d", status), Cause: cause}
}

// undetermined is the error of a user whose claims are not to be had, which in
// the reference is a plain Error.
func undetermined(cause error) error {
	return wire.InternalError("The user's claims cannot be determined").Because(cause)
}

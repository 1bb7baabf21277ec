package identity

import (
	"fmt"

	"github.com/stagedoor/stagedoor/adapter/wire"
)

// invalidToken is all that the sender of a bad token is told; why is for the log.
const invalidToken = "Invalid token"

func unauthenticated(public string, cause error) error {
	return &wire.Error{Name: "AuthenticationError", Status: 401, Public: public, Cause: cause}
}

func unavailable(cause error) error {
	return &wire.Error{Name: "ServiceUnavailableError", Status: 503, RetryAfter: 1,
		Public: "The auth backend does not answer", Cause: cause}
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
	return &wire.Error{Name: "Error", Status: 500, Public: "The user's claims cannot be determined", Cause: cause}
}

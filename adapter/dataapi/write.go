package dataapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/stagedoor/stagedoor/adapter/document/patch"
	"github.com/stagedoor/stagedoor/adapter/supply"
	"github.com/stagedoor/stagedoor/adapter/wire"
)

// Write has data changed as a request of OPA's data API asks, and tells with what status to
// answer. The error is a [*wire.Error], or one of write that is none of the request's.
func Write(
	r *http.Request, at string, body []byte, write func(context.Context, []patch.Change) error,
) (status int, err error) {
	changes, err := changesOf(r, at, body)
	if err != nil {
		return 0, wire.InputError("%v", err)
	}
	err = write(r.Context(), changes)
	switch refused, is := errors.AsType[*supply.WriteError](err); {
	case errors.Is(err, patch.ErrThere):
		return http.StatusNotModified, nil
	case errors.Is(err, patch.ErrTooMuch):
		return 0, wire.PayloadTooLargeError("%v", err)
	case is && refused.Missing:
		return 0, wire.NotFoundError("%v", err)
	case is:
		return 0, wire.InputError("%v", err)
	}
	return http.StatusNoContent, err
}

func changesOf(r *http.Request, at string, body []byte) ([]patch.Change, error) {
	switch r.Method {
	case http.MethodPatch:
		return patch.ParsePatch(at, body)
	case http.MethodDelete:
		return patch.ParseDelete(at)
	}
	changes, err := patch.ParsePut(at, body)
	for i := range changes {
		changes[i].OnlyNew = r.Header.Get("If-None-Match") == "*"
	}
	return changes, err
}

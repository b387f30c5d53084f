package cut

import "context"

// cause is a reason to cut a request. It matches [context.Canceled]: to a
// handler that looks at its context the request was canceled, as when the client
// goes away.
type cause string

func (c cause) Error() string { return string(c) }

// Is makes errors.Is(c, context.Canceled) true.
func (cause) Is(target error) bool { return target == context.Canceled }

// The reasons to cut a request.
var (
	// ErrRevoked says that the key was deleted, belongs to another one now, or
	// has lost a permission.
	ErrRevoked error = cause("the system key was revoked")
	// ErrExpired says that the key's time is over.
	ErrExpired error = cause("the system key has expired")
	// ErrLapsed says that this instance cannot know whether the key is still
	// good.
	ErrLapsed error = cause("the lease has run out")
)

package redis

import (
	"errors"
	"strings"
)

// redact keeps passwords out of errors. A server that does not know a command
// repeats it with its arguments, and authentication is a command: a Redis
// before version 6, or a proxy, repeats the password like that.
func redact(err error, secrets []string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	clean := text
	for _, secret := range secrets {
		clean = strings.ReplaceAll(clean, secret, "[redacted]")
	}
	if clean == text {
		return err
	}
	return &redactedError{
		text: clean,
		is:   func(target error) bool { return errors.Is(err, target) },
	}
}

// redactedError can be asked what it is, but does not give away its cause: the
// function that holds it prints as an address, also under %#v.
type redactedError struct {
	text string
	is   func(target error) bool
}

func (e *redactedError) Error() string { return e.text }

// Is implements what [errors.Is] looks for.
func (e *redactedError) Is(target error) bool { return e.is(target) }

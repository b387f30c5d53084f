package redis

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// failure describes an error of the client library in our own words. An error of a server
// may repeat the command that it answers. Authentication is a command, so a server before
// version 6, or a proxy, may repeat the password. For this reason the text of an answer
// is not passed on, and the original error cannot be unwrapped. The function that holds
// the original error prints as an address, also under %#v.
type failure struct {
	condition Condition
	text      string
	is        func(target error) bool
}

func (f *failure) Error() string { return f.text }

// Is implements what [errors.Is] looks for.
func (f *failure) Is(target error) bool { return f.is(target) }

// newFailure turns an error of the client library into a failure. Nil stays nil. Encrypted
// says that the URL asks for TLS.
func newFailure(err error, encrypted bool) error {
	if err == nil {
		return nil
	}
	f := &failure{condition: Unreachable, is: func(target error) bool { return errors.Is(err, target) }}
	var answer redis.Error
	var network net.Error
	switch text := err.Error(); {
	case errors.As(err, &answer):
		f.condition, f.text = Failing, meaning(answer.Error())
	case strings.Contains(text, "tls: "), strings.Contains(text, "x509: "):
		f.text = "TLS: " + text[max(0, strings.Index(text, "tls: "), strings.Index(text, "x509: ")):]
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout(), errors.Is(err, redis.ErrPoolTimeout):
		f.text = "timeout"
		if encrypted {
			f.text = "timeout, with TLS (does the server speak it?)"
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.text = "the connection was closed (does it want TLS, rediss://?)"
	case errors.As(err, &network):
		f.text = network.Error()
	case strings.Contains(text, "all sentinels"):
		f.text = "no sentinel knows a master"
	default:
		f.text = "no answer that is one of Redis (does it want TLS, rediss://?)"
	}
	return f
}

// errorCode matches the word that most errors of Redis begin with.
var errorCode = regexp.MustCompile(`^[A-Z]{2,20}\b`)

// meanings explain the codes of Redis.
var meanings = map[string]string{
	"NOAUTH":      "a password is needed",
	"WRONGPASS":   "the password is wrong, or there is no such user",
	"NOPERM":      "the user has no right to do this (ACL)",
	"READONLY":    "this is a read-only replica",
	"OOM":         "its memory is full (maxmemory), and it evicts nothing",
	"MISCONF":     "it cannot save to its disk, and takes no writes",
	"NOREPLICAS":  "it has not the replicas that it wants",
	"LOADING":     "it is loading its data",
	"MASTERDOWN":  "this is a replica that has lost its master",
	"CLUSTERDOWN": "the cluster is down",
	"MOVED":       "this is a node of a cluster, and the URL does not say so (?cluster=true)",
	"DENIED":      "it takes no connections from other machines (protected mode)",
}

// reasons explain the texts behind the code ERR, which says nothing by itself.
var reasons = map[string]string{
	"without any password configured": "a password was given, and the server has none",
	"no password is set":              "a password was given, and the server has none",
	"DB index":                        "there is no such database",
	"max number of clients":           "it has no connection left",
	"unknown command":                 "it does not know a command",
}

// meaning explains an error of the server. It repeats only the code.
func meaning(answer string) string {
	word := cmp.Or(errorCode.FindString(answer), "ERR")
	if text, ok := meanings[word]; ok {
		return word + ": " + text
	}
	for part, text := range reasons {
		if word == "ERR" && strings.Contains(answer, part) {
			return word + ": " + text
		}
	}
	return word
}

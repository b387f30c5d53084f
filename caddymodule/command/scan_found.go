package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// standardInput is the argument that means standard input (POSIX, Utility Syntax Guideline 13).
const standardInput = "-"

// scan is a search, and what it has found so far. It reads one stream after the other. An error
// that concerns one file or one key does not end it: the rest may have the key that matters.
//
// States remembers what the store has said of a key. Live and order have the keys that --revoke
// ends. Searched counts streams, places the keys that were found in them, and unread what could
// not be read.
type scan struct {
	cmd    *cobra.Command
	target *target
	minter *token.Minter
	show   func(*finding) error

	states *lru.Cache[store.ID, keyState]
	live   map[store.ID]bool // once each
	order  []store.ID        // the same, as they were found

	searched, places, unread int
	failed                   error // the first line of the output that could not be written
}

// finding is a place with a key. Its fields are those of the JSON output. It has no part of the
// key but the id, which is public.
type finding struct {
	File string   `json:"file"`
	Line int      `json:"line"`
	ID   store.ID `json:"id"`
	keyState
}

// keyState is what the store says of a key. The label is empty if nobody knows it any more.
type keyState struct {
	Label string `json:"label"`
	State string `json:"state"`
}

// The states of a key.
//
//   - live: whoever has the file can use the key now. --revoke ends these.
//   - expired: its row is there, and servers refuse it.
//   - gone: it was revoked, or deleted after its expiry.
//   - unknown: the store has not answered, so it may be live.
const (
	keyLive    = "live"
	keyExpired = "expired"
	keyGone    = "gone"
	keyUnknown = "unknown" // the store has not answered
)

// found shows a key. The same key in another place is shown again, and revoked once. If the
// output cannot be written, the search goes on, since --revoke does not need it.
func (s *scan) found(file string, line int, id store.ID) {
	s.places++
	f := finding{File: file, Line: line, ID: id, keyState: s.stateOf(id)}
	if err := s.show(&f); err != nil && s.failed == nil {
		s.failed = fmt.Errorf("write the output: %w", err)
	}
	if f.State == keyLive && !s.live[id] {
		s.live[id] = true
		s.order = append(s.order, id)
	}
}

// stateOf asks the store. If the store does not answer, the key is shown all the same. Such an
// answer is not kept, so the next place asks again. A key without a row is gone. Its label comes
// from the audit log.
func (s *scan) stateOf(id store.ID) keyState {
	if state, ok := s.states.Get(id); ok {
		return state
	}
	state := keyState{State: keyLive}
	key, err := s.target.store.Key(s.cmd.Context(), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		// The label helps to find the holder of a key that leaked, also if it was revoked since.
		state.State = keyGone
		if key, _, err = s.target.service().Revoked(s.cmd.Context(), id); err != nil {
			s.fail(fmt.Errorf("the label of %s: %w", id, err))
		}
	case err != nil:
		s.fail(fmt.Errorf("%s: %w", id, err))
		return keyState{State: keyUnknown}
	case key.Expired(s.target.now()):
		state.State = keyExpired
	}
	if key != nil {
		state.Label = key.Label
	}
	s.states.Add(id, state)
	return state
}

// fail says what could not be read. The search goes on, and the exit status is 1 if no key was
// found: nobody may take an unread file for a clean one.
func (s *scan) fail(err error) {
	s.unread++
	fmt.Fprintf(s.cmd.ErrOrStderr(), "Error: %s\n", shown(err.Error()))
}

// shown is a text of the file system: without a key, and harmless to a terminal. Names of files
// and errors with names in them may hold keys, too.
func shown(text string) string { return printable(token.Redact(text)) }

// end revokes the live keys, if that is wanted, and returns what the search has come to. It
// revokes after the search, since each wait may take as long as a lease. The error of a
// revocation goes before the finding, so that the status is 1: such a key may still be accepted.
func (s *scan) end(revoke bool) error {
	if revoke && len(s.order) > 0 {
		if err := revokeAll(s.cmd, s.target, s.order, false); err != nil {
			return errors.Join(err, s.failed)
		}
	}
	switch {
	// A key that was found outweighs a file that was not read. With --revoke too: it had leaked.
	case s.places > 0:
		return errors.Join(&foundError{s.places}, s.failed)
	case s.unread > 0:
		return fmt.Errorf("no key of this store was found, and %d thing(s) could not be read", s.unread)
	}
	fmt.Fprintf(s.cmd.ErrOrStderr(), "No key of this store was found in %d file(s)\n", s.searched)
	return nil
}

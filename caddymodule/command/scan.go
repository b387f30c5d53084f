package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func scanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scan [PATH...|-] [--revoke] [--json]",
		Short: "Finds keys of this store in files, folders or standard input",
		Long: `
Searches files, folders and what is in them, or with - standard input. Prints the
place, the id and the label of each key that it finds, and whether it is live,
expired or gone. Never prints a key or a part of it. Nothing that was found is
sent anywhere. Without PATH it searches standard input, if that is a pipe or a
file, else this folder.

A key shows by its tag that this store has minted it, so there is no false alarm.
It is found among any characters, in lines of any length and in binary files, in
UTF-16, and encoded in base64 or by percent signs. Keys of other stores are not
found, nor those that another service has minted and this store has adopted: they
have no tag. Archives and compressed files are not opened. Neither are symbolic
links in folders, nor the objects of git: pipe the history.

With --revoke the live keys are revoked at the end, as by revoke, without asking.
The command needs the right to read the mint key, as a server has it.

Exit status: 0 no key was found, 1 something could not be read or revoked, 2 wrong
usage, 3 a key was found, also if something else could not be read.`,
		Example: `  caddy system-keys scan ~/project /var/log
  git log -p --all | caddy system-keys scan -`,
		Args: cobra.ArbitraryArgs,
		RunE: onStore(readScan),
	}
	cmd.Flags().Bool("revoke", false, "Revoke the live keys that are found")
	cmd.Flags().Bool("json", false, "Print an object for each place, one a line")
	return cmd
}

// standardInput is the argument that means standard input.
const standardInput = "-"

func readScan(cmd *cobra.Command, args []string) (action, error) {
	for _, arg := range args {
		if strings.TrimSpace(arg) == "" {
			return nil, Usagef("a path is empty (is a variable not set?)")
		}
	}
	if len(args) == 0 {
		args = []string{defaultPath(cmd.InOrStdin())}
	}
	revoke, _ := cmd.Flags().GetBool("revoke")
	show := func(f *finding) error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s:%d: %s %q, %s\n", f.File, f.Line, f.ID, printable(f.Label), f.State)
		return err
	}
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		encoder := newEncoder(cmd.OutOrStdout())
		show = func(f *finding) error { return encoder.Encode(f) }
	}
	return func(cmd *cobra.Command, t *target) error {
		minter, err := t.minter(cmd.Context())
		if err != nil {
			return err
		}
		s := &scan{cmd: cmd, target: t, minter: minter, show: show, states: lru.New[store.ID, keyState](10_000), live: make(map[store.ID]bool)}
		for _, arg := range args {
			s.path(arg)
		}
		return s.end(revoke)
	}, nil
}

// defaultPath is standard input if somebody has connected it, as ripgrep decides it, else
// the working folder.
func defaultPath(in io.Reader) string {
	if file, ok := in.(*os.File); ok {
		info, err := file.Stat()
		if err == nil && (info.Mode().IsRegular() || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0) {
			return standardInput
		}
	}
	return "."
}

// scan is a search, and what it has found so far.
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

// finding is a place with a key. Its fields are those of the JSON output.
type finding struct {
	File string   `json:"file"`
	Line int      `json:"line"`
	ID   store.ID `json:"id"`
	keyState
}

// keyState is what the store says of a key.
type keyState struct {
	Label string `json:"label"`
	State string `json:"state"`
}

// The states of a key.
const (
	keyLive    = "live"
	keyExpired = "expired"
	keyGone    = "gone"
	keyUnknown = "unknown" // the store has not answered
)

// foundError says that a scan has found keys.
type foundError struct{ places int }

func (e *foundError) Error() string {
	return fmt.Sprintf("%d place(s) have a key of this store", e.places)
}

// found shows a key.
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

// stateOf asks the store. If the store does not answer, the key is shown all the same.
func (s *scan) stateOf(id store.ID) keyState {
	if state, ok := s.states.Get(id); ok {
		return state
	}
	state := keyState{State: keyLive}
	key, err := s.target.store.Key(s.cmd.Context(), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
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

// fail says what could not be read. The search goes on.
func (s *scan) fail(err error) {
	s.unread++
	fmt.Fprintf(s.cmd.ErrOrStderr(), "Error: %s\n", shown(err.Error()))
}

// shown is a text of the file system: without a key, and harmless to a terminal.
func shown(text string) string { return printable(token.Redact(text)) }

// end revokes the live keys, if that is wanted, and returns what the search has come to.
func (s *scan) end(revoke bool) error {
	if revoke && len(s.order) > 0 {
		if err := revokeAll(s.cmd, s.target, s.order, false); err != nil {
			return err
		}
	}
	switch {
	case s.places > 0:
		return errors.Join(&foundError{s.places}, s.failed)
	case s.unread > 0:
		return fmt.Errorf("no key of this store was found, and %d thing(s) could not be read", s.unread)
	}
	fmt.Fprintf(s.cmd.ErrOrStderr(), "No key of this store was found in %d file(s)\n", s.searched)
	return nil
}

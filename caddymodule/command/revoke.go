package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

var errNoKeys = errors.New("name keys by id, or by --created-by, --since, --label-prefix or --permission")

func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke ID... [--yes] [--json]",
		Short: "Revokes keys, for ever",
		Example: `  caddy system-keys revoke 0199d3f0-0000-7000-8000-000000000001
  caddy system-keys revoke --created-by user:eve --since 30d --dry-run
  caddy system-keys revoke --label-prefix ci- --except 0199d3f0-0000-7000-8000-000000000001`,
		Long: `
Deletes the keys, and returns when no server that runs on the same store accepts
them any more. The successors that a key has minted of itself end with it. A server that does not answer is waited for until its lease has
run out. Asks before it does so on a terminal; elsewhere --yes is needed.

Interrupted while it waits, the keys are deleted, and servers may accept them
until they have noticed. Revoking a key again waits again, and answers as the
first time. An id that the store has never heard of is an error, once no server
accepts it.

In place of ids, flags say which keys: those that match every one of
--created-by, --since, --label-prefix and --permission, but for those of
--except. They are deleted in one transaction, all or none. --dry-run lists
them.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch filtered := filtered(cmd); {
			case filtered && len(args) > 0:
				return errors.New("name the keys by id or by flags, not by both")
			case !filtered && len(args) == 0:
				return errNoKeys
			}
			return nil
		},
		RunE: onStore(readRevoke),
	}
	cmd.Flags().BoolP("yes", "y", false, "Do not ask")
	cmd.Flags().Bool("json", false, "Print the objects of the API")
	addFilterFlags(cmd)
	return cmd
}

// readRevoke reads all ids before the first key is deleted.
func readRevoke(cmd *cobra.Command, args []string) (action, error) {
	if filtered(cmd) {
		return readRevokeMany(cmd)
	}
	var ids []store.ID
	for _, arg := range args {
		id, err := store.ParseKeyID(arg)
		if err != nil {
			return nil, Usagef("%q: %w", arg, err)
		}
		ids = append(ids, id)
	}
	yes, err := agreed(cmd, false)
	if err != nil {
		return nil, err
	}
	asJSON, _ := cmd.Flags().GetBool("json")
	return func(cmd *cobra.Command, t *target) error {
		if !yes {
			if err := askBeforeRevoking(cmd, t, ids); err != nil {
				return err
			}
		}
		return revokeAll(cmd, t, ids, asJSON)
	}, nil
}

// agreed reports whether nobody is to be asked. If that is wanted, and cannot be done, it
// returns an error.
func agreed(cmd *cobra.Command, harmless bool) (bool, error) {
	yes, _ := cmd.Flags().GetBool("yes")
	if in, ok := cmd.InOrStdin().(*os.File); !yes && !harmless && (!ok || !term.IsTerminal(int(in.Fd()))) {
		return false, Usagef("not a terminal, so nobody can be asked: use --yes")
	}
	return yes, nil
}

// revokeAll deletes every key before it waits for the first. If one fails, it goes on with
// the others.
func revokeAll(cmd *cobra.Command, t *target, ids []store.ID, asJSON bool) error {
	service := t.service()
	var errs []error
	fail := func(id store.ID, err error) { errs = append(errs, fmt.Errorf("%s: %w", id, err)) }
	revocations := make(map[store.ID]*admin.Revocation)
	for _, id := range ids {
		var err error
		if revocations[id], err = service.Revoke(cmd.Context(), operator(), id); err != nil {
			fail(id, err)
		}
	}
	for _, id := range ids {
		revocation := revocations[id]
		if revocation == nil {
			continue
		}
		delete(revocations, id) // named twice, revoked once
		progress := &revokeProgress{out: cmd.ErrOrStderr(), name: id.String(), now: t.now}
		revoked, err := revocation.Wait(cmd.Context(), progress.watch)
		if err != nil {
			fail(id, err)
			continue
		}
		if asJSON {
			if err := newEncoder(cmd.OutOrStdout()).Encode(admin.ShowRevoked(revoked)); err != nil {
				fail(id, err)
			}
		}
		progress.end(fmt.Sprintf("%q (%s)", printable(revoked.Label), id), revoked)
		printSuccessors(cmd.ErrOrStderr(), revoked)
	}
	return errors.Join(errs...)
}

// printSuccessors names the keys that were revoked with a key, and the one that replaces it.
func printSuccessors(w io.Writer, revoked *admin.Revoked) {
	for _, key := range revoked.Keys {
		fmt.Fprintf(w, "Revoked with it, since it has minted it of itself: %q (%s)\n", printable(key.Label), key.ID)
	}
	if by := revoked.ReplacedBy; by.ID != (store.ID{}) {
		fmt.Fprintf(w, "It was replaced by %s (%s), which is still accepted.\n", by.ID, printable(by.Label))
	}
}

// askBeforeRevoking shows the keys. Without a yes it returns an error.
func askBeforeRevoking(cmd *cobra.Command, t *target, ids []store.ID) error {
	for _, id := range ids {
		key, err := t.store.Key(cmd.Context(), id)
		if errors.Is(err, store.ErrNotFound) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s  has no row any more\n", id)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s  %s, last used: %s\n", id, printable(key.Label), minuteOf(key.LastUsedAt))
	}
	return ask(cmd, len(ids))
}

// ask returns an error without a yes.
func ask(cmd *cobra.Command, keys int) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "Revoke %d key(s) for ever? [y/N] ", keys)
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was revoked")
	}
	return nil
}

const (
	// progressAfter is how long a wait takes before it is reported.
	progressAfter = time.Second
	// progressEvery is how often the report is repeated.
	progressEvery = 5 * time.Second
)

// revokeProgress reports which servers a revocation waits for, and why.
type revokeProgress struct {
	out     io.Writer
	name    string // of what is revoked
	now     func() time.Time
	since   time.Time // when the wait began
	printed time.Time // the last report, or zero
}

// watch is called again and again during the wait. It prints nothing if the wait is short,
// or if no server is awaited any more.
func (p *revokeProgress) watch(report coherence.Report) {
	now := p.now()
	if p.since.IsZero() {
		p.since = now
	}
	early := now.Sub(p.since) < progressAfter
	if !p.printed.IsZero() {
		early = now.Sub(p.printed) < progressEvery
	}
	if early || report.Total > 0 && len(report.Awaited) == 0 {
		return
	}
	p.printed = now
	if report.Total == 0 {
		fmt.Fprintf(p.out, "%s  deleted; the store does not say which servers there are, waiting for the longest lease\n", p.name)
		return
	}
	fmt.Fprintf(p.out, "%s  deleted; %d of %d server(s) refuse it, waiting for %s\n", p.name,
		report.Total-len(report.Awaited), report.Total, p.describe(report.Awaited, now))
}

// describe names members and the latest time at which their leases run out.
func (p *revokeProgress) describe(members []store.Member, now time.Time) string {
	all := make([]string, 0, len(members))
	for _, m := range members {
		left := max(0, m.TTL-now.Sub(p.since))
		all = append(all, fmt.Sprintf("%s (has not answered, its lease runs out in %s at the latest)",
			printable(m.Name), left.Round(time.Second)))
	}
	return strings.Join(all, ", ")
}

// end prints how many servers have acknowledged the revocation, which ones have not, and how
// many requests were cut.
func (p *revokeProgress) end(what string, revoked *admin.Revoked) {
	report := revoked.Report
	text := fmt.Sprintf("Revoked %s: %d of %d server(s) acknowledged", what, report.Acknowledged, report.Total)
	if len(report.Expired) > 0 {
		text += fmt.Sprintf(", %d did not answer until the lease had run out or left: %s",
			len(report.Expired), strings.Join(namesOf(report.Expired), ", "))
	}
	if report.Cut > 0 {
		text += fmt.Sprintf("; %d request(s) in flight were cut", report.Cut)
	}
	fmt.Fprintln(p.out, text)
}

func namesOf(members []store.Member) []string {
	all := make([]string, 0, len(members))
	for _, m := range members {
		all = append(all, printable(m.Name))
	}
	slices.Sort(all)
	return all
}

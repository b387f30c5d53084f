package command

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// errNoKeys is wrong usage. A call without a filter must not mean all keys.
var errNoKeys = errors.New("name keys by id, or by --created-by, --since, --label-prefix or --permission")

// filterFlags are the flags that say which keys to revoke, with the names of the parameters of
// the API. The values are read as the API reads them. --since differs: it is an age, and the API
// has a time.
var filterFlags = map[string]string{"created-by": "created_by", "label-prefix": "label_prefix", "permission": "permission"}

// addFilterFlags adds the flags of revoke that stand in place of ids.
func addFilterFlags(cmd *cobra.Command) {
	cmd.Flags().String("created-by", "", "Only keys of this creator: the id of a key, user: and a name, or a word such as cli")
	cmd.Flags().String("since", "", "Only keys that were created within so long, such as 24h")
	cmd.Flags().String("label-prefix", "", "Only keys whose label begins like this, in the same case")
	cmd.Flags().String("permission", "", "Only keys that hold this permission")
	cmd.Flags().StringArray("except", nil, "The id of a key that is kept; may be repeated")
	cmd.Flags().Bool("dry-run", false, "List the keys, and revoke none")
	completePermissions(cmd)
}

// filtered reports whether a flag says which keys to revoke, in place of ids. --except and
// --dry-run count as well: beside ids they would be ignored, and the user would lose a key that
// they wanted to keep.
func filtered(cmd *cobra.Command) bool {
	for _, name := range []string{"created-by", "since", "label-prefix", "permission", "except", "dry-run"} {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// readRevokeMany reads the flags for many keys. The order is: check the flags, show the keys,
// ask, delete. The keys that match are found anew when they are deleted. One that is minted
// after the question and matches is deleted too, as somebody who revokes all keys of an intruder
// wants it.
//
// The flags are checked by package admin, as parameters of the API. So the command line and the
// API cannot differ in what a filter means.
func readRevokeMany(cmd *cobra.Command) (action, error) {
	p := admin.Parameters{}
	for flag, name := range filterFlags {
		if cmd.Flags().Changed(flag) {
			p[name], _ = cmd.Flags().GetString(flag)
		}
	}
	age, err := durationFlag(cmd, "since", 1, "not a duration, such as 24h")
	if err != nil {
		return nil, err
	}
	since := cmd.Flags().Changed("since")
	if since {
		p["created_since"] = "2006-01-02T15:04:05Z" // any time: the right one is known when the command runs
	}
	if len(p) == 0 {
		return nil, Usagef("%w", errNoKeys)
	}
	except, _ := cmd.Flags().GetStringArray("except")
	filter, err := admin.RevokeFilter(p, except)
	if err != nil {
		return nil, Usagef("%w", err)
	}
	dryRun, _ := cmd.Flags().GetBool("dry-run")
	asJSON, _ := cmd.Flags().GetBool("json")
	yes, err := agreed(cmd, dryRun)
	if err != nil {
		return nil, err
	}
	return func(cmd *cobra.Command, t *target) error {
		if since {
			filter.CreatedSince = t.now().Add(-age)
		}
		// With --yes nobody looks at the list, so the store is not asked for it.
		if dryRun || !yes {
			keys, err := t.service().Matching(cmd.Context(), operator(), filter)
			if err != nil {
				return err
			}
			if dryRun {
				return printMatching(cmd.OutOrStdout(), keys, asJSON)
			}
			_ = printMatching(cmd.ErrOrStderr(), keys, false) // on a terminal
			if err := ask(cmd, len(keys)); err != nil {
				return err
			}
		}
		return revokeMany(cmd, t, filter, asJSON)
	}, nil
}

// printMatching prints the keys that match, or that were revoked. They go to standard output as
// the result of the command, and to standard error as a part of the question.
func printMatching(w io.Writer, keys []store.AuditKey, asJSON bool) error {
	if asJSON {
		return newEncoder(w).Encode(admin.ShowMatching(keys))
	}
	for _, key := range keys {
		fmt.Fprintf(w, "%s  %s\n", key.ID, printable(key.Label))
	}
	_, err := fmt.Fprintf(w, "%d key(s)\n", len(keys))
	return err
}

// revokeMany revokes the keys that match, and waits for all of them together. That no key
// matches is no error. If the wait fails, the keys are deleted, and their ids are in the audit
// log.
func revokeMany(cmd *cobra.Command, t *target, filter *store.KeyFilter, asJSON bool) error {
	revocation, err := t.service().RevokeMany(cmd.Context(), operator(), filter)
	if err != nil {
		return err
	}
	progress := &revokeProgress{out: cmd.ErrOrStderr(), name: "The keys", now: t.now}
	revoked, err := revocation.Wait(cmd.Context(), progress.watch)
	if err != nil {
		return err
	}
	if asJSON {
		if err := newEncoder(cmd.OutOrStdout()).Encode(admin.ShowRevokedKeys(revoked)); err != nil {
			return err
		}
	} else if err := printMatching(cmd.OutOrStdout(), revoked.Keys, false); err != nil {
		return err
	}
	progress.end(fmt.Sprintf("%d key(s)", len(revoked.Keys)), revoked)
	return nil
}

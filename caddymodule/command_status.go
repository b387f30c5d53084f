package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Shows the servers on the store, their leases and how far they have come",
		Long: `
Lists the servers that run on the store. The revocation epoch is the number of
the newest change of a key; a server that has come so far knows every revocation.
One that was not seen for longer than its lease accepts nothing from memory.

Fails if changes of keys are not logged, so that servers must read every key
anew: somebody has removed or disabled the triggers on system_keys.`,
		Args: arguments(cobra.NoArgs),
		RunE: run(status),
	}
	cmd.Flags().Bool("json", false, "Print one JSON object")
	return cmd
}

func status(cmd *cobra.Command, _ []string) (act, error) {
	show := showStatus
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		show = func(w io.Writer, s *statusJSON) error { return json.NewEncoder(w).Encode(s) }
	}
	return func(cmd *cobra.Command, t *target) error {
		progress, err := t.store.Progress(cmd.Context(), store.ID{})
		if err != nil {
			return err
		}
		if err := show(cmd.OutOrStdout(), statusOf(progress)); err != nil {
			return err
		}
		if !progress.Watched {
			return errors.New("changes of keys are not logged: restore the triggers on system_keys")
		}
		return nil
	}, nil
}

// statusJSON is what is known of the servers on a store.
type statusJSON struct {
	RevocationEpoch int64 `json:"revocation_epoch"`
	Watched         bool  `json:"watched"`
	// Named says that the server tells which history it has, so that another one is
	// noticed at once after a failover.
	Named     bool           `json:"history_named"`
	Instances []instanceJSON `json:"instances"`
}

type instanceJSON struct {
	ID       store.ID  `json:"id"`
	Name     string    `json:"name"`
	Lease    string    `json:"lease"`
	Applied  int64     `json:"applied"`
	Behind   int64     `json:"behind"`
	JoinedAt time.Time `json:"joined_at"`
	SeenAt   time.Time `json:"seen_at"`
}

func statusOf(p *store.Progress) *statusJSON {
	s := &statusJSON{RevocationEpoch: p.Head.Rev, Watched: p.Watched, Named: p.Origin != "", Instances: []instanceJSON{}}
	for _, m := range p.Members {
		s.Instances = append(s.Instances, instanceJSON{
			ID: m.ID, Name: m.Name, Lease: m.TTL.String(),
			Applied: m.Applied, Behind: max(0, p.Head.Rev-m.Applied),
			JoinedAt: m.JoinedAt, SeenAt: m.SeenAt,
		})
	}
	return s
}

func showStatus(w io.Writer, s *statusJSON) error {
	fmt.Fprintf(w, "Revocation epoch %d\n\n", s.RevocationEpoch)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVER\tLEASE\tAPPLIED\tBEHIND\tJOINED\tLAST SEEN")
	for _, i := range s.Instances {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\n", printable(i.Name), i.Lease, i.Applied, i.Behind,
			when(i.JoinedAt), i.SeenAt.Format(time.DateTime+" MST"))
	}
	fmt.Fprintf(table, "%d server(s)\n", len(s.Instances))
	if !s.Named {
		fmt.Fprintln(table, "The database server does not say which history it has, so a failover may be noticed late.")
	}
	return table.Flush()
}

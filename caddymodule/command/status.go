package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/metrics"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// statusCommand shows what servers do now. For what is wrong with an installation there is
// doctor.
//
// Standard output has the table or one object. Standard error has the reason for status 1: the
// store does not answer, or triggers are missing.
func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Shows the servers on the store, their leases and how far they have come",
		Long: `
Lists the servers that run on the store. The revocation epoch is the number of
the newest change of a key; a server that has come so far knows every revocation.
One that was not seen for longer than its lease accepts nothing from memory.

If the server of the configuration answers at Caddy's admin endpoint, it says how
it does itself: whether it is ready, and since when its store or its Redis fails
it, and why.

Fails if changes of keys are not logged, so that servers must read every key
anew: somebody has removed or disabled the triggers on system_keys. Fails too if a
table is followed (import --follow) and its triggers were.`,
		Args: cobra.NoArgs,
		RunE: printStatus,
	}
	cmd.Flags().Bool("json", false, "Print one JSON object")
	return cmd
}

// printStatus prints what the store knows of all servers, and what the server of the
// configuration knows of itself. The server may still answer if the store does not. So it does
// not use onStore: a store that cannot be opened is an error, but not before the server was
// asked.
func printStatus(cmd *cobra.Command, _ []string) error {
	write := writeStatus
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		write = func(w io.Writer, s *metrics.Status) error { return newEncoder(w).Encode(s) }
	}
	// The target has the address of the admin endpoint, even if there is an error.
	t, err := openTarget(cmd)
	answer := &metrics.Status{Instance: askServer(t.adminEndpoint)}
	if err != nil { // the server may know since when the store cannot be opened
		if answer.Instance != nil {
			err = errors.Join(err, write(cmd.OutOrStdout(), answer))
		}
		return err
	}
	return errors.Join(printServers(cmd, t.store, answer, write), t.store.Close())
}

// printServers adds to the answer what the store knows, and prints it. It prints before it fails
// for triggers that are missing: the list is right, and shows which servers are concerned.
func printServers(cmd *cobra.Command, s store.Store, answer *metrics.Status, write func(io.Writer, *metrics.Status) error) error {
	progress, err := s.Progress(cmd.Context(), nil, nil)
	if err != nil {
		return err
	}
	answer.Servers = metrics.ServersOf(progress)
	if in, ok := s.(*postgres.Store); ok {
		if answer.Followed, err = in.FollowedTable(cmd.Context()); err != nil {
			return err
		}
	}
	err = write(cmd.OutOrStdout(), answer)
	switch {
	case err != nil:
		return err
	case !progress.Watched:
		return errors.New("changes of keys are not logged: restore the triggers on system_keys")
	case answer.Followed != nil && !answer.Followed.Carried:
		return errors.New("changes of the table that is followed do not all get here: run import --follow again")
	}
	return nil
}

// answerTimeout is how long the server may take to answer. It asks the store, for half of that
// time at most. So its answer comes even while its store hangs.
const answerTimeout = 4 * time.Second

// askServer asks the server of the configuration for its state. If no server answers, or the
// server has no system_keys, it returns nil. That is no error: the command works without a
// server. An empty address means that there is no admin endpoint.
func askServer(address string) *metrics.Instance {
	if address == "" {
		return nil
	}
	// Caddy's request takes no context and has no timeout of ours. After the timeout the
	// goroutine is left, and ends with the process. Its answer has room in the channel.
	answered := make(chan *metrics.Instance, 1)
	go func() {
		var answer struct{ Instance *metrics.Instance }
		response, err := caddycmd.AdminAPIRequest(address, http.MethodGet, "/system_keys/status", nil, nil)
		if err == nil {
			// Another program may listen there by now.
			err = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer)
			_ = response.Body.Close()
		}
		if err != nil {
			answer.Instance = nil
		}
		answered <- answer.Instance
	}()
	select {
	case instance := <-answered:
		return instance
	case <-time.After(answerTimeout):
		return nil
	}
}

// writeStatus prints a status as text. The parts that are not known are left out: the table
// without a store, the server without an answer. Only the name of a server is cut on a narrow
// terminal.
//
// The number of servers is printed even if it is 0: an empty table could also mean that nothing
// was asked.
func writeStatus(w io.Writer, s *metrics.Status) error {
	if s.Servers != nil {
		fmt.Fprintf(w, "Revocation epoch %d\n\n", s.RevocationEpoch)
		rows := make([][]string, 1, 1+len(s.Instances))
		rows[0] = []string{"SERVER", "LEASE", "APPLIED", "BEHIND", "JOINED", "LAST SEEN"}
		for _, i := range s.Instances {
			rows = append(rows, []string{
				printable(i.Name), fmt.Sprint(i.Lease), fmt.Sprint(i.Applied), fmt.Sprint(i.Behind), minuteOf(i.JoinedAt), secondOf(i.SeenAt),
			})
		}
		// The other columns are numbers and times, which are wrong if they are cut.
		fit(rows, terminalWidth(w), 0)
		if err := writeTable(w, rows); err != nil {
			return err
		}
		fmt.Fprintf(w, "%d server(s)\n", len(s.Instances))
	}
	if s.Servers != nil && !s.Named {
		fmt.Fprintln(w, "The database server does not say which history it has, so a failover may be noticed late.")
	}
	if s.Followed != nil {
		fmt.Fprintln(w, followedLine(s.Followed))
	}
	if s.Instance != nil {
		writeInstance(w, s.Instance)
	}
	return nil
}

// writeInstance prints the state of the server that was asked. The errors are texts of databases
// and of the network, and are made printable. They are on the admin endpoint alone, so they may
// name hosts.
func writeInstance(w io.Writer, i *metrics.Instance) {
	fmt.Fprintf(w, "\n%s\n", printable(i.Name))
	if i.Ready {
		fmt.Fprintln(w, "  ready")
	} else {
		fmt.Fprintf(w, "  not ready: %s\n", strings.Join(i.Missing, ", "))
	}
	switch {
	case i.Store.Since != nil:
		fmt.Fprintf(w, "  store: not open since %s: %s\n", secondOf(*i.Store.Since), printable(i.Store.Error))
	case i.Store.Error != "":
		fmt.Fprintf(w, "  store: does not answer: %s\n", printable(i.Store.Error))
	default:
		fmt.Fprintln(w, "  store: ok")
	}
	if redis := i.Redis; redis != nil {
		fmt.Fprintf(w, "  redis: %s since %s", redis.State, secondOf(redis.Since))
		if redis.Error != "" {
			fmt.Fprintf(w, " (reads %s, writes %s): %s", redis.Reads, redis.Writes, printable(redis.Error))
		}
		fmt.Fprintln(w)
	}
}

package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/store/open"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// grantsCommand prints statements and runs none. The role of the configuration may not be the
// owner of the tables, and the owner should see what they give away.
//
// Standard output has nothing but SQL. The same statements can be run any number of times.
func grantsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "grants --role NAME [--for server|revoke|read]",
		Short: "Prints the rights that a role of PostgreSQL needs on the store",
		Long: `
Prints GRANT statements, one a line, for the owner of the tables to run:

  server  what a server does; the role cannot change the schema
  revoke  deletes keys: DELETE, CALL revoke(…), CALL barrier()
  read    caddy system-keys list and audit; the role cannot read the hashes

They are for the schemas of this store and the tables of this version: migrate
first, and run them again after each migration. Nothing is changed. The role of
the configuration needs no rights for this command but to connect.`,
		Example: `  caddy system-keys migrate --store '{env.OWNER_DSN}'
  caddy system-keys grants --role caddy | psql "$OWNER_DSN"`,
		Args: cobra.NoArgs,
		RunE: printGrants,
	}
	cmd.Flags().String("role", "", "The role, as PostgreSQL has its name (required)")
	cmd.Flags().String("for", postgres.ForServer, "What the role is for: "+strings.Join(postgres.Purposes, ", "))
	complete(cmd, "for", postgres.Purposes...)
	return cmd
}

// printGrants opens the store without the check of other commands, which the role may not pass
// before it has its rights. Each statement ends with a semicolon and a line end, so that the
// output can be piped into psql.
func printGrants(cmd *cobra.Command, _ []string) (err error) {
	if !cmd.Flags().Changed("role") {
		return Usagef("--role is required")
	}
	role, _ := cmd.Flags().GetString("role")
	purpose, _ := cmd.Flags().GetString("for")
	// The role is checked before it becomes a part of a statement that an owner of tables runs.
	if err := postgres.CheckGrant(role, purpose); err != nil {
		return &usageError{err}
	}
	location, err := new(target).locate(cmd)
	if err != nil {
		return err
	}
	if location.Driver != open.Postgres {
		return errors.New("only a store in PostgreSQL has roles")
	}
	s, err := postgres.Open(cmd.Context(), location.Name, postgres.Options{Schema: location.Schema})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	statements, err := s.Grants(cmd.Context(), role, purpose)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		fmt.Fprintln(cmd.OutOrStdout(), statement+";")
	}
	return nil
}

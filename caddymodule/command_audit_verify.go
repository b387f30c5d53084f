package caddymodule

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func verifyAudit(cmd *cobra.Command, t *target) error {
	secrets, err := t.secrets()
	if err != nil {
		return err
	}
	report, err := audit.Verify(cmd.Context(), t.store, secrets)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for i := range report.Chains {
		printChain(cmd, &report.Chains[i])
	}
	if report.Unsealed > 0 {
		fmt.Fprintf(out, "%d record(s) wait for a server to seal them\n", report.Unsealed-report.Foreign)
	}
	if report.Foreign > 0 {
		fmt.Fprintf(out, "%d record(s) are not sealed and were not written by this program\n", report.Foreign)
	}
	if report.OK(len(secrets) > 0) {
		if len(secrets) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "No secret is known here: this shows accidents, and no forger. Name the configuration with --config.")
		}
		fmt.Fprintln(out, "ok")
		return nil
	}
	if len(secrets) == 0 {
		return errors.New("the audit log does not verify without a secret: name the configuration that has it with --config")
	}
	return errors.New("the audit log does not verify")
}

func printChain(cmd *cobra.Command, c *audit.ChainReport) {
	out := cmd.OutOrStdout()
	name := c.ID.String()
	if c.ID == store.SharedChain {
		name = "changes of keys                     " // as wide as an id
	}
	records := "no records"
	if c.Last >= c.First {
		records = fmt.Sprintf("records %d to %d", c.First, c.Last)
	}
	fmt.Fprintf(out, "%s  %s  %x\n", name, records, c.Head)
	if c.Unkeyed > 0 {
		fmt.Fprintf(out, "  %d record(s) were chained without a secret\n", c.Unkeyed)
	}
	for _, problem := range c.Problems {
		fmt.Fprintf(out, "  %s\n", problem)
	}
}

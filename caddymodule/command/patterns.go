package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// patternsCommand is for scanners that have no access to the store: in a hook before a commit,
// or in the CI of others. It has no flags for a store.
//
// There is one format. The flag is there so that another one changes no call that exists.
func patternsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "patterns [--format gitleaks]",
		Short: "Prints a rule that lets secret scanners find keys",
		Long: `
Prints a rule for gitleaks, to be put into its configuration or to be used alone.
It needs no store. A rule knows the form of a key and not its tag, so it finds
keys of every store, and strings that only look like keys. What scan finds are
keys. Neither finds keys that another service has minted.`,
		Example: `  caddy system-keys patterns >> .gitleaks.toml
  caddy system-keys patterns > lumio.toml && gitleaks git --config lumio.toml`,
		Args: cobra.NoArgs,
		RunE: printPatterns,
	}
	cmd.Flags().String("format", "gitleaks", "For which scanner: gitleaks")
	return cmd
}

// printPatterns prints the rule in the TOML of a configuration of gitleaks. It is printed to
// standard output alone, as the examples append it to a file. Keywords lets gitleaks skip files
// without the prefix before it runs the expression.
func printPatterns(cmd *cobra.Command, _ []string) error {
	if format, _ := cmd.Flags().GetString("format"); format != "gitleaks" {
		return Usagef("--format: must be gitleaks, not %q", format)
	}
	// Nothing may be asked to stand around a key, such as \b: it would not be found in a
	// name or behind another word.
	_, err := fmt.Fprintf(cmd.OutOrStdout(), `[[rules]]
id = "lumio-system-key"
description = "A system key of caddy-system-keys, which lets its holder call the API. Revoke it: caddy system-keys revoke"
regex = '''%s[0-9A-Za-z]{%d}'''
keywords = ["%[1]s"]
`, token.Prefix, token.Length-len(token.Prefix))
	return err
}

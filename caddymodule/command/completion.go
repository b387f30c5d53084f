package command

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

// complete lets a shell complete the values of a flag. `caddy completion` prints what a shell
// needs for it. File names are not offered.
func complete(cmd *cobra.Command, flag string, values ...string) {
	completeBy(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeBy is [complete] with values that are found when the user presses the key.
func completeBy(cmd *cobra.Command, flag string, values cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, values); err != nil {
		panic(err) // there is no such flag
	}
}

// sorts are the values of --sort: those of the API, each also descending.
func sorts() (all []string) {
	for _, field := range admin.SortFields {
		all = append(all, string(field), "-"+string(field))
	}
	return all
}

// completePermissions completes --permission with those of the admin plane, and with those that
// keys of the store hold if it can be read. Permissions of other services are known nowhere
// else.
func completePermissions(cmd *cobra.Command) {
	completeBy(cmd, "permission", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		all := append(heldPermissions(cmd), admin.PermissionRead, admin.PermissionCreate, admin.PermissionDelete,
			admin.PermissionAudit, admin.PermissionRotate, admin.PermissionAccess)
		slices.Sort(all)
		return slices.Compact(all), cobra.ShellCompDirectiveNoFileComp
	})
}

// heldPermissions returns what the newest keys of the store hold. While a user types, an error
// is no use to them, so it returns nil. The store is opened for reading only: to press a key
// must neither create a file nor migrate a schema.
func heldPermissions(cmd *cobra.Command) []string {
	location, err := new(target).locate(cmd)
	if err != nil {
		return nil
	}
	// A user gives up on a completion that takes longer.
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	s, err := location.Open(ctx, open.Options{ReadOnly: true, SameOwner: true})
	if err != nil {
		return nil
	}
	defer func() { _ = s.Close() }()
	// The newest keys show which permissions are in use. All of a large store would take too
	// long.
	const keys = 1000
	held, _ := s.Granted(ctx, keys)
	return held
}

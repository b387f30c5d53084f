package main

import (
	"context"
	"fmt"

	"github.com/compose-spec/compose-go/v2/cli"
)

// checkCompose loads the file as Docker Compose does: against the schema of the Compose
// specification, and with every name that is referred to. No image is pulled, and no container
// is made.
func checkCompose(ctx context.Context, file string) error {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithInterpolation(true), cli.WithNormalization(true), cli.WithConsistency(true))
	if err != nil {
		return err
	}
	if _, err := options.LoadProject(ctx); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

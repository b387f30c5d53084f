// Command deployments checks what is deployed with, against the schemas of those who read it:
// manifests as Kubernetes decodes them, the compose file as Docker Compose loads it, the
// Dockerfile with BuildKit's linter, and alerts and dashboard with the parser of Prometheus. Its
// tests play outages to the alerts. It is a module of its own, so that none of them is a
// dependency of the plugin.
//
// It needs no cluster, no Docker and no network.
//
//	deployments <root of the repository>
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// main ends with status 1 if a file is wrong, and prints all that is wrong to standard error.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: deployments <root of the repository>")
		os.Exit(2)
	}
	if err := check(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// check looks at all files, and joins what it finds. That there are no manifests is an error:
// after a move of the folder the check would pass by looking at nothing.
func check(ctx context.Context, root string) error {
	manifests, err := filepath.Glob(filepath.Join(root, "deploy", "kubernetes", "*.yaml"))
	if err != nil || len(manifests) == 0 {
		return errors.Join(err, errors.New("there are no manifests"))
	}
	var problems []error
	for _, file := range manifests {
		problems = append(problems, checkManifest(file))
	}
	problems = append(problems,
		checkCompose(ctx, filepath.Join(root, "deploy", "compose.yaml")),
		checkDockerfile(ctx, filepath.Join(root, "xcaddy.Dockerfile")),
		checkRules(filepath.Join(root, "deploy", "prometheus-alerts.yml")),
		checkDashboard(filepath.Join(root, "deploy", "grafana-dashboard.json")))
	return errors.Join(problems...)
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// checkRules loads the file as Prometheus does: fields, expressions and templates. Whether an
// alert fires is for the tests.
func checkRules(file string) error {
	_, problems := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	return errors.Join(problems...)
}

// dashboard is what is looked at of one of Grafana's. Grafana has no schema that could be
// checked.
type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

// checkDashboard parses the expressions, with a duration in place of the one that Grafana
// chooses. A panel without an expression, or a file without panels, is an error: the names of
// the members may have changed.
func checkDashboard(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var d dashboard
	if err := json.Unmarshal(content, &d); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(d.Panels) == 0 {
		return fmt.Errorf("%s has no panels", file)
	}
	// Without options only what a Prometheus without feature flags takes is right.
	promql := parser.NewParser(parser.Options{})
	var problems []error
	for _, panel := range d.Panels {
		if len(panel.Targets) == 0 {
			problems = append(problems, fmt.Errorf("%s: %s asks for nothing", file, panel.Title))
		}
		for _, target := range panel.Targets {
			if _, err := promql.ParseExpr(strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")); err != nil {
				problems = append(problems, fmt.Errorf("%s: %s: %w", file, panel.Title, err))
			}
		}
	}
	return errors.Join(problems...)
}

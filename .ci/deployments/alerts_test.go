package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

// TestTheAlertsOfAnOutage plays the metrics of a real one to the alerts, as Prometheus does, and
// compares when each of them fires. testdata/record says what happened when.
func TestTheAlertsOfAnOutage(t *testing.T) {
	series, err := os.ReadFile("testdata/outage.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{ // and until when
		"SystemKeysNotReady 2m30s 3m45s",
		"SystemKeysLeaseRunsOut 2m0s 3m45s",
		"SystemKeysUnavailable 3m0s 5m30s",
		"SystemKeysRedisDown 7m0s 8m0s",
		"SystemKeysStoreFails 3m0s 5m15s",
		"SystemKeysLastUsesNotWritten 3m30s 3m45s",
		"SystemKeysRevokedKeyUsed 9m15s",
	}
	if got := fired(t, string(series), 10*time.Minute); !slices.Equal(got, want) {
		t.Errorf("the alerts are\n%s\nand should be\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestOtherAlerts has series that are made up, beside those of an instance that is well. The
// names are without `caddy_system_keys_`.
func TestOtherAlerts(t *testing.T) {
	for name, test := range map[string]struct {
		series []string
		want   []string
	}{
		"nothing":           {nil, nil},
		"a 503 by itself":   {[]string{`decisions_total{result="unavailable",reason="busy"} 0x8 1x32`, `decisions_total{result="allowed",reason="key"} 0+1x40`}, nil},
		"503 for a while":   {[]string{`decisions_total{result="unavailable",reason="busy"} 0+1x40`, `decisions_total{result="allowed",reason="key"} 0+9x40`}, []string{"SystemKeysUnavailable 2m30s"}},
		"requests were cut": {[]string{`cuts_total{reason="lapsed"} 0x8 3x32`}, []string{"SystemKeysLeaseLost 2m15s"}},
		"the lease comes and goes": {
			[]string{`ready 1 0 1 0 1x36`}, []string{"SystemKeysLeaseLost 1m0s"},
		},
		"Redis fails now and then": {
			[]string{
				`redis_call_duration_seconds_count{operation="get",result="ok"} 0+4x40`, `redis_call_duration_seconds_count{operation="get",result="error"} 0+1x40`,
				`redis_breaker_state{state="closed"} 1x40`,
			}, []string{"SystemKeysRedisFails 5m15s"},
		},
		"audit records were dropped": {[]string{`audit_dropped_total 0x8 12x32`}, []string{"SystemKeysAuditRecordsDropped 2m15s"}},
		"a key expires soon":         {[]string{`expiring{within="7d"} 1x40`}, []string{"SystemKeysExpireSoon 10m0s"}},
		"changes are not watched":    {[]string{`changes_watched 1 0x39`}, []string{"SystemKeysChangesNotWatched 1m15s"}},
		"half a lease is over":       {[]string{`lease_remaining_seconds 28 14 8 28x37`}, []string{"SystemKeysLeaseRunsOut 30s 45s"}},
		"no metrics":                 {[]string{`ready _x40`}, []string{"SystemKeysNobodyReports 2m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			series := "load 15s\n"
			well := map[string]string{"ready": " 1x40", "changes_watched": " 1x40", "lease_remaining_seconds": " 28x40", "lease_duration_seconds": " 30x40"}
			for _, line := range test.series {
				name, rest, _ := strings.Cut(line, " ")
				delete(well, name)
				series += "\tcaddy_system_keys_" + name + " " + rest + "\n"
			}
			for name, values := range well {
				series += "\tcaddy_system_keys_" + name + values + "\n"
			}
			if got := fired(t, series, 10*time.Minute); !slices.Equal(got, test.want) {
				t.Errorf("the alerts are %q, and should be %q", got, test.want)
			}
		})
	}
}

// fired says when alerts fired, to a scrape.
func fired(t *testing.T, series string, until time.Duration) (all []string) {
	t.Helper()
	storage := promqltest.LoadedStorage(t, series)
	query := rules.EngineQueryFunc(promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000), storage)
	for _, rule := range alerts(t) {
		began := time.Duration(-1)
		for at := time.Duration(0); at <= until; at += scrapeInterval {
			if _, err := rule.Eval(context.Background(), 0, time.Unix(0, 0).Add(at), query, new(url.URL), 0); err != nil {
				t.Fatalf("%s: %v", rule.Name(), err)
			}
			fires := slices.ContainsFunc(rule.ActiveAlerts(), func(a *rules.Alert) bool { return a.State == rules.StateFiring })
			switch {
			case fires && began < 0:
				began = at
			case !fires && began >= 0:
				all = append(all, fmt.Sprintf("%s %v %v", rule.Name(), began, at))
				began = -1
			}
		}
		if began >= 0 {
			all = append(all, fmt.Sprintf("%s %v", rule.Name(), began))
		}
	}
	return all
}

const scrapeInterval = 15 * time.Second

// alerts are those of the file that ships.
func alerts(t *testing.T) (all []*rules.AlertingRule) {
	t.Helper()
	promql := parser.NewParser(parser.Options{})
	groups, problems := rulefmt.ParseFile("../../deploy/prometheus-alerts.yml", false, model.UTF8Validation, promql, slog.New(slog.DiscardHandler))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, rule := range groups.Groups[0].Rules {
		expr, err := promql.ParseExpr(rule.Expr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rules.NewAlertingRule(rule.Alert, expr, time.Duration(rule.For), time.Duration(rule.KeepFiringFor),
			labels.FromMap(rule.Labels), labels.FromMap(rule.Annotations), labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler)))
	}
	return all
}

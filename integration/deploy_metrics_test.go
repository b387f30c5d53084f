package integration_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// named finds our metrics in an expression, with what selects among their series.
var named = regexp.MustCompile(`(caddy_system_keys_[a-z0-9_]+)(\{[^}]*\})?`)

// selected finds the values that a selector asks for.
var selected = regexp.MustCompile(`([a-z]+)=~?"([^"]*)"`)

// TestDashboardAndAlertsNameMetricsThatExist gathers them from a server after the
// story, and looks for each that a file in deploy names, and for each label value.
func TestDashboardAndAlertsNameMetricsThatExist(t *testing.T) {
	b := onPostgres(t).adoptKeys() // with Redis, so that all are there
	rootKey := root(t, b.keys(t))
	c := runControlled(t, b, storySite(t))
	story(t, c.site, rootKey)
	families, _ := c.scrape(t)
	used := make(map[string]bool)
	for _, file := range []string{"../deploy/grafana-dashboard.json", "../deploy/prometheus-alerts.yml"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		if strings.HasSuffix(file, ".json") {
			if !json.Valid(content) {
				t.Errorf("%s is no JSON", file)
			}
			text = strings.ReplaceAll(text, `\"`, `"`)
		}
		found := named.FindAllStringSubmatch(text, -1)
		if len(found) < 10 {
			t.Fatalf("%s names %d metrics", file, len(found))
		}
		for _, match := range found {
			name := match[1]
			if families[name] == nil { // of a histogram these are series
				name = strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
			}
			if families[name] == nil {
				t.Errorf("%s: there is no metric %s", file, match[1])
			}
			used[name] = true
			for _, s := range selected.FindAllStringSubmatch(match[2], -1) {
				for value := range strings.SplitSeq(s[2], "|") {
					if s[1] != "instance" && !slices.Contains(labelValues[s[1]], value) {
						t.Errorf("%s: %s has no label %s=%q", file, match[1], s[1], value)
					}
				}
			}
		}
	}
	for name := range families {
		if !used[name] && name != metricPrefix+"last_used_waiting" {
			t.Errorf("nobody looks at %s", name)
		}
	}
}

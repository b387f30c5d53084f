package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func reported() *report {
	return &report{
		Machine: machine{Processor: "Z80", Processors: 1, Memory: 0.0625, OS: "CP/M", Go: "go0", Caddy: "v0", Date: "1976-07-01T00:00:00Z", Commit: "abc", Load: 2.5},
		Rows: []row{
			{Part: "requests", Name: "bare", What: "requests", Unit: "/s", Median: 12345.6, Min: 9, Max: 20000, N: 7},
			{Part: "requests", Name: "with the plugin", What: "÷ bare", Unit: ratio, Median: 0.98, Min: 0.9, Max: 1.01234, N: 7},
			{Part: "revoke", Name: "SQLite", What: "accepted after the answer", N: 50},
		},
	}
}

func TestTableIsAligned(t *testing.T) {
	t.Parallel()
	const want = `Z80, 1 processors, 0 GiB; CP/M; go0, Caddy v0; 1976-07-01T00:00:00Z, abc; load at the start 2.5

part      of               what                       median  (min to max)      n
requests  bare             requests, /s               12346   (9 to 20000)      7
requests  with the plugin  ÷ bare, ×                  0.980   (0.900 to 1.012)  7
revoke    SQLite           accepted after the answer  0                         50
`
	var out bytes.Buffer
	if err := reported().print(&out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheFileHasWhatTheTableHas(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := reported().save(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got report
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(reported(), &got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThreeDigitsCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		unit string
		v    float64
		want string
	}{
		{"ns", 1234.5, "1234"},
		{"ns", 123.45, "123"},
		{"ns", 12.345, "12.3"},
		{"ms", 0.012345, "0.0123"},
		{"ms", 0.00000123, "0.000001"},
		{"", 0, "0"},
		{"", 3, "3"},
		{ratio, 1.02345, "1.023"},
		{ratio, 123.4, "123.400"},
		{"ms", 99.96, "100"},
	} {
		if got := short(c.unit, c.v); got != c.want {
			t.Errorf("short(%q, %v) = %q, want %q", c.unit, c.v, got, c.want)
		}
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func reported() *report {
	return &report{
		Machine: "Z80, 1 processors, 0 GiB; CP/M",
		Rows: []row{
			{Part: "requests", Name: "bare", What: "requests", Unit: "/s", Value: 12345.6, Low: 9, High: 20000, N: 7},
			{Part: "requests", Name: "with the plugin", What: "÷ bare", Unit: ratio, Value: 0.98, Low: 0.9, High: 1.01234, N: 7},
			{Part: "revoke", Name: "SQLite", What: "accepted after the answer", N: 50},
		},
	}
}

func TestTableIsAligned(t *testing.T) {
	t.Parallel()
	const want = `Z80, 1 processors, 0 GiB; CP/M

part      of               what                       value  (spread)          n
requests  bare             requests, /s               12346  (9 to 20000)      7
requests  with the plugin  ÷ bare, ×                  0.980  (0.900 to 1.012)  7
revoke    SQLite           accepted after the answer  0                        50
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

func TestQuantileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		sorted []int
		q      float64
		want   int
	}{
		{[]int{7}, 0, 7},
		{[]int{7}, 0.5, 7},
		{[]int{7}, 1, 7},
		{[]int{1, 2, 3}, 0.5, 2},
		{[]int{1, 2, 3, 4}, 0.5, 2},
		{[]int{1, 2, 3, 4}, 0.51, 3},
		{hundred, 0.99, 99},
		{hundred, 0.999, 100},
		{hundred, 0.01, 1},
	} {
		if got := quantile(c.sorted, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %d, want %d", c.sorted, c.q, got, c.want)
		}
	}
}

func TestRowsOfValuesInAnyOrder(t *testing.T) {
	t.Parallel()
	values := []float64{3, 1, 9, 2, 4}
	want := row{Name: "a", What: "b", Unit: ratio, Value: 3, Low: 1, High: 9, N: 5}
	if diff := cmp.Diff(want, rowOf("a", "b", ratio, values)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{3, 1, 9, 2, 4}, values); diff != "" {
		t.Errorf("the values were changed (-want +got):\n%s", diff)
	}
}

func TestDistributionIsInMilliseconds(t *testing.T) {
	t.Parallel()
	var samples []time.Duration
	for i := range 200 {
		samples = append(samples, time.Duration(200-i)*500*time.Microsecond)
	}
	want := []row{
		{Name: "a", What: "b", Unit: milliseconds, Value: 50, Low: 0.5, High: 100, N: 200},
		{Name: "a", What: "b, p99", Unit: milliseconds, Value: 99, Low: 99, High: 99, N: 200},
	}
	if diff := cmp.Diff(want, distribution("a", "b", samples)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

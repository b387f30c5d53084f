package command

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestATableOfRecordsEndsWhereAPartIsFull: the rows of a part were printed, and there is no
// further one.
func TestATableOfRecordsEndsWhereAPartIsFull(t *testing.T) {
	t.Parallel()
	for _, width := range []int{0, 80} {
		// The first part has the heads of the columns as a row.
		for _, n := range []int{store.MaxAuditLimit - 1, store.MaxAuditLimit, 2*store.MaxAuditLimit - 1} {
			var out bytes.Buffer
			p := recordTable(&out, width)
			for range n {
				if err := p.print(&store.AuditRecord{Event: store.AuditCreated}); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.end(n); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			if lines := strings.Count(text, "\n"); lines != n+2 || !strings.HasSuffix(text, fmt.Sprintf("\n%d record(s)\n", n)) {
				t.Errorf("%d records at the width %d are %d lines", n, width, lines)
			}
		}
	}
}

// TestALongTableIsWrittenAtOnce: the widths are computed once, and not for each cell.
func TestALongTableIsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	rows := make([][]string, 3_000)
	for i := range rows {
		rows[i] = []string{fmt.Sprint(i), "a label of a usual length", "bots:read,bots:write", "—"}
	}
	began := time.Now()
	var out bytes.Buffer
	if err := writeTable(&out, rows); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
}

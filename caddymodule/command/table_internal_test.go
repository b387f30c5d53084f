package command

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

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

package command

import (
	"bytes"
	"os"
	"testing"
	"time"
)

func TestTheProgressLineIsForTerminals(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(1, 0)
	line := &progressLine{out: &out, now: func() time.Time { return now }}
	line.show("500 row(s)")
	line.show("1000 row(s)") // too early
	now = now.Add(time.Second)
	line.show("1500 row(s)")
	line.clear()
	line.clear()
	if want := "\r500 row(s)\r1500 row(s)\r\033[K"; out.String() != want {
		t.Errorf("it wrote %q, want %q", &out, want)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	line = newProgressLine(file, time.Now)
	line.show("500 row(s)")
	line.clear()
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("a file has the line: %v", err)
	}
}

package redis

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestTheLogRepeatsEachMinuteThatRedisIsAway has it fail, fail again, and work.
func TestTheLogRepeatsEachMinuteThatRedisIsAway(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c, err := New([]string{"redis://127.0.0.1:1"}, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, step := range []struct {
		condition Condition
		text      string
		later     time.Duration
		want      string // or no line
	}{
		{OK, "", 0, "redis works\""},
		{OK, "", time.Minute, ""},
		{Unreachable, "timeout", 0, "redis does not answer"},
		{Unreachable, "timeout", 54 * time.Second, ""},
		{Unreachable, "timeout", time.Minute, "redis does not answer"},
		{Failing, "OOM", 0, "redis answers with errors"},
		{Failing, "OOM", time.Minute, "redis answers with errors"},
		{OK, "", 0, "redis works again"},
	} {
		log.Reset()
		if c.whole.reads.finding.Load().condition != step.condition {
			c.whole.reads.setFinding(step.condition, step.text)
		}
		c.logged = c.logged.Add(-step.later)
		c.report(true)
		if lines := strings.Count(log.String(), "\n"); lines != min(len(step.want), 1) || !strings.Contains(log.String(), step.want) {
			t.Errorf("%v: the log is %q, want %q", step, log.String(), step.want)
		}
	}
}

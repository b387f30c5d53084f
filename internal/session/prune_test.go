package session_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what a call removes, or why it fails.
type answer struct {
	removed int
	err     error
}

// sessions gives these answers, then none. Real stores fail at moments that a test
// cannot choose.
type sessions struct {
	store.Sessions // nil: what is not here is not to be called

	answers []answer
	asked   []time.Time
}

func (s *sessions) PruneSessions(ctx context.Context, now time.Time, limit int) (int, error) {
	s.asked = append(s.asked, now)
	if _, bounded := ctx.Deadline(); !bounded || limit < 1 {
		return 0, errors.New("a call without bounds")
	}
	if len(s.answers) == 0 {
		return 0, nil
	}
	next := s.answers[0]
	s.answers = s.answers[1:]
	return next.removed, next.err
}

// pruned runs a pruner for a time, and returns how long after its beginning it
// called the store for what was over when, and what was logged.
func pruned(t *testing.T, s *sessions, during time.Duration) (asked []time.Duration, log string) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		began := time.Now()
		var text bytes.Buffer
		p := session.Prune(s, time.Now, slog.New(slog.NewTextHandler(&text, nil)))
		time.Sleep(during)
		p.Close()
		time.Sleep(time.Hour)
		for _, at := range s.asked {
			asked = append(asked, at.Sub(began))
		}
		log = text.String()
	})
	return asked, log
}

func TestWhatIsOverIsRemovedAtOnceAndEveryTenMinutes(t *testing.T) {
	t.Parallel()
	asked, log := pruned(t, &sessions{answers: []answer{{removed: 2000}, {removed: 3}}}, 25*time.Minute)
	// On and on until there is nothing, and an hour late, as clocks differ.
	want := []time.Duration{-60 * time.Minute, -60 * time.Minute, -60 * time.Minute, -50 * time.Minute, -40 * time.Minute}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("the calls differ (-want +got):\n%s", diff)
	}
	if log != "" {
		t.Errorf("logged:\n%s", log)
	}
}

// The turns are more than a minute apart, so each failure is logged.
func TestAFailureIsLoggedAndTriedAgain(t *testing.T) {
	t.Parallel()
	failed := answer{err: errors.New("no server")}
	for name, c := range map[string]struct {
		answers []answer
		want    int
	}{
		"as long as it fails":         {[]answer{failed, failed, failed}, 3},
		"again after it has not":      {[]answer{failed, {}, failed, failed}, 3},
		"it begins to fail":           {[]answer{{}, failed}, 1},
		"it fails after some success": {[]answer{{removed: 1000}, failed}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &sessions{answers: c.answers}
			_, log := pruned(t, s, 45*time.Minute)
			if got := strings.Count(log, "no server"); got != c.want || len(s.answers) != 0 {
				t.Errorf("logged %d times, want %d, and %d calls were not made:\n%s", got, c.want, len(s.answers), log)
			}
		})
	}
}

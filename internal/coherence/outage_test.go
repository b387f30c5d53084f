package coherence

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// The lines of an outage.
const (
	logReady     = "INFO ready, requests with a key are served"
	logFailing   = "WARN changes of keys cannot be followed, keys in memory work until the lease runs out"
	logRanOut    = "ERROR the lease has run out, requests with a key get 503"
	logNone      = "ERROR no lease, requests with a key get 503"
	logAgain     = "INFO lease again, requests with a key are served"
	logFollowing = "INFO changes of keys are followed again, the lease has not run out"
	logStill     = "WARN lease again: it had run out while this process stood still, or a clock was set"
)

// TestTheLogOfAnOutage has the level and the message of each line.
func TestTheLogOfAnOutage(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	calmly := func(t *testing.T, f *fixture) { t.Helper(); f.mustRenew(t, calm(1)) }
	// fail has the database fail for a time, once a second.
	fail := func(f *fixture, lasts time.Duration) {
		for range lasts / time.Second {
			f.failed(down)
			f.clock.advance(time.Second)
		}
	}
	for name, test := range map[string]struct {
		play func(t *testing.T, f *fixture)
		want []string
	}{
		"a start": {func(*testing.T, *fixture) {}, []string{logReady}},
		"a short break": {func(t *testing.T, f *fixture) {
			t.Helper()
			fail(f, testTTL/2)
			calmly(t, f)
			calmly(t, f)
		}, []string{logReady, logFailing, logFollowing}},
		"two minutes and a half": {func(t *testing.T, f *fixture) {
			t.Helper()
			fail(f, testTTL)
			f.lapsed()
			fail(f, 150*time.Second)
			calmly(t, f)
		}, []string{logReady, logFailing, logRanOut, logNone, logNone, logAgain}},
		"a link that breaks all the time": {func(t *testing.T, f *fixture) {
			t.Helper()
			for range 110 {
				f.failed(down)
				calmly(t, f)
				f.clock.advance(time.Second)
			}
		}, []string{logReady, logFailing, logFollowing, logFailing, logFollowing}},
		"a silence in which nothing fails": {func(t *testing.T, f *fixture) {
			t.Helper()
			f.clock.advance(testTTL)
			f.lapsed()
			calmly(t, f)
		}, []string{logReady, logRanOut, logAgain}},
		"a machine that was suspended": {func(t *testing.T, f *fixture) {
			t.Helper()
			f.clock.step(time.Hour)
			calmly(t, f)
		}, []string{logReady, logStill}},
		"an instance that others have removed": {func(t *testing.T, f *fixture) {
			t.Helper()
			view := calm(1)
			view.Member = false
			f.mustRenew(t, view)
			calmly(t, f)
		}, []string{logReady, logNone, logAgain}},
		"a standby, just after a break": {func(t *testing.T, f *fixture) {
			t.Helper()
			f.failed(down)
			calmly(t, f)
			view := calm(1)
			view.Standby = true
			f.stub.renew = func(*store.Turn) (*store.View, error) { return view, nil }
			_, err := f.renew(t.Context(), f.stub)
			f.failed(err)
			f.failed(err)
		}, []string{logReady, logFailing, logFollowing, logNone}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			var log bytes.Buffer
			f.config.Logger = slog.New(slog.NewTextHandler(&log, nil))
			f.settle(t, 1)
			test.play(t, f)
			var got []string
			for _, line := range regexp.MustCompile(`level=(\S+) msg="(.*?)"`).FindAllStringSubmatch(log.String(), -1) {
				got = append(got, line[1]+" "+line[2])
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("the log is\n%s\nand should be\n%s", &log, strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestTheLogSaysWhyTheLeaseWasLostAndForHowLong looks at what the lines have beside their
// message.
func TestTheLogSaysWhyTheLeaseWasLostAndForHowLong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var log bytes.Buffer
	f.config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	f.settle(t, 1)
	f.clock.advance(time.Second)
	f.failed(errors.New("connection refused"))
	f.clock.advance(testTTL)
	f.lapsed()
	f.clock.advance(50 * time.Second)
	f.mustRenew(t, calm(1))
	for _, want := range []string{"lease=10s", "lease_remaining=8.8s", "error=\"connection refused\" since=2026-01-01T00:00:01.000Z requests_cut=0", "after=1m0s"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("%s is not once in\n%s", want, &log)
		}
	}
}

// TestALapseCutsUnlessRequestsAreToBeKept has one in flight when the lease runs out.
func TestALapseCutsUnlessRequestsAreToBeKept(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		f := newFixture(t)
		f.config.KeepOnLapse = keep
		f.settle(t, 1)
		request := f.enter(rowOf(1))
		f.lapsed()
		if kept := request.reason() == nil; kept != keep {
			t.Errorf("on_lapse keep is %t, and the request was kept: %t", keep, kept)
		}
	}
}

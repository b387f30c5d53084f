package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestOnlyARefusalOfTheDatabaseFailsTheStart(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"a database that is not there is waited for":  {down, false},
		"a database that refuses us is not":           {&store.RefusedError{Err: errors.New("wrong password")}, true},
		"a refusal that was explained is one as well": {fmt.Errorf("migrate: %w", &store.RefusedError{Err: down}), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, configOf(func(context.Context) (store.Store, error) { return nil, test.err }))
			err := e.Start(t.Context())
			if got := errors.Is(err, test.err); got != test.want {
				t.Errorf("Start = %v", err)
			}
			if failure := e.Failure(); failure == nil || !errors.Is(failure.Err, test.err) || failure.Final != test.want {
				t.Errorf("the failure is %+v", failure)
			}
			if again := e.Start(t.Context()); (again != nil) != test.want {
				t.Errorf("a second configuration that shares the engine: %v", again)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAServerThatHangsHoldsAStartForSecondsOnly runs on a clock of its own.
func TestAServerThatHangsHoldsAStartForSecondsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, configOf(func(ctx context.Context) (store.Store, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		began := time.Now()
		if err := e.Start(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
		_ = e.Close()
	})
}

func TestTheCauseIsLoggedEachMinuteAndStandsUntilTheStoreIsOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := new(empty)
		e := newEngine(t, configOf(func(ctx context.Context) (store.Store, error) {
			if time.Since(began) > 3*time.Minute+30*time.Second {
				return s.open(ctx)
			}
			return nil, errors.New("connection refused")
		}))
		var log safeBuffer
		e.Attach(slog.New(slog.NewTextHandler(&log, nil)))
		if err := e.Start(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(3*time.Minute + 20*time.Second)
		if failure := e.Failure(); failure == nil || time.Since(failure.Since) < 3*time.Minute {
			t.Errorf("the failure is %+v", failure)
		}
		time.Sleep(time.Minute)
		if failure := e.Failure(); failure != nil {
			t.Errorf("with the store open the failure is %+v", failure)
		}
		if n := strings.Count(log.String(), "connection refused"); n != 4 {
			t.Errorf("logged %d times, want at once and after each of three minutes:\n%s", n, log.String())
		}
		_ = e.Close()
		synctest.Wait()
	})
}

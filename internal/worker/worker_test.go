package worker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told is what a worker did and said, each at a second since its start.
type told struct{ turns, failing, recovered []int }

// work runs a worker whose turns fail between the seconds 25 and 45, and wakes it.
func work(t *testing.T, later bool, wakes ...int) (got told) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		began := time.Now()
		second := func() int { return int(time.Since(began).Seconds()) }
		w := worker.Start(worker.Work{
			Every: 10 * time.Second,
			Later: later,
			Turn: func(context.Context) error {
				got.turns = append(got.turns, second())
				if at := second(); at >= 25 && at < 45 {
					return errors.New("down")
				}
				return nil
			},
			Failing:   func(error) { got.failing = append(got.failing, second()) },
			Recovered: func() { got.recovered = append(got.recovered, second()) },
		})
		for _, at := range wakes {
			time.Sleep(time.Until(began.Add(time.Duration(at) * time.Second)))
			w.Wake()
			synctest.Wait()
		}
		time.Sleep(time.Until(began.Add(65 * time.Second)))
		w.Close()
		time.Sleep(time.Minute)
	})
	return got
}

func TestAWorkerComplainsOnceAndSaysWhenItWorksAgain(t *testing.T) {
	t.Parallel()
	got := work(t, false)
	if !slices.Equal(got.turns, []int{0, 10, 20, 30, 40, 50, 60}) {
		t.Errorf("turns at %v", got.turns)
	}
	if !slices.Equal(got.failing, []int{30}) || !slices.Equal(got.recovered, []int{50}) {
		t.Errorf("it failed at %v and worked again at %v", got.failing, got.recovered)
	}
}

func TestAWorkerComplainsAgainEachMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var failing []time.Duration
		w := worker.Start(worker.Work{
			Every:   10 * time.Second,
			Turn:    func(context.Context) error { return errors.New("down") },
			Failing: func(error) { failing = append(failing, time.Since(began)) },
		})
		time.Sleep(3*time.Minute - time.Second)
		w.Close()
		if want := []time.Duration{0, time.Minute, 2 * time.Minute}; !slices.Equal(failing, want) {
			t.Errorf("it complained after %v, want %v", failing, want)
		}
	})
}

func TestAWorkerIsWokenUnlessItFails(t *testing.T) {
	t.Parallel()
	if got := work(t, true, 12, 33, 52); !slices.Equal(got.turns, []int{10, 12, 20, 30, 40, 50, 52, 60}) {
		t.Errorf("turns at %v", got.turns)
	}
}

// TestAWorkerThatIsStoppedDoesNotComplain stops it in the middle of a turn.
func TestAWorkerThatIsStoppedDoesNotComplain(t *testing.T) {
	t.Parallel()
	running := make(chan struct{})
	w := worker.Start(worker.Work{
		Every: time.Hour,
		Turn: func(ctx context.Context) error {
			close(running)
			<-ctx.Done()
			return ctx.Err()
		},
		Failing: func(err error) { t.Errorf("it complained of %v", err) },
	})
	<-running
	w.Close()
}

func TestStepsAreRepeatedWhileThereIsMore(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, c := range map[string]struct {
		fails, want int
		err         error
	}{
		"to the end":   {fails: 9, want: 3},
		"to a failure": {fails: 2, want: 2, err: down},
	} {
		steps := 0
		err := worker.Repeat(t.Context(), time.Second, func(ctx context.Context) (bool, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Errorf("%s: a step without bounds", name)
			}
			if steps++; steps == c.fails {
				return true, down
			}
			return steps < 3, nil
		})
		if !errors.Is(err, c.err) || steps != c.want {
			t.Errorf("%s: %d steps, %v", name, steps, err)
		}
	}
}

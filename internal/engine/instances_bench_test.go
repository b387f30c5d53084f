package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// BenchmarkInstances says what a number of instances costs one PostgreSQL at rest, for each
// of them, and how long a revocation takes, four of them a second. All run in this process and
// share the machine with the server, so it also says how busy the processors are during the
// revocations.
//
//	go test ./internal/engine -run '^$' -bench Instances -benchtime 1x -timeout 20m
func BenchmarkInstances(b *testing.B) {
	for _, n := range []int{1, 10, 30, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				measureInstances(b, n)
			}
		})
	}
}

func measureInstances(b *testing.B, n int) {
	b.Helper()
	// The pause between two revocations leaves the processors something to spare.
	const settled, counted, revocations, pause = 50 * time.Second, time.Minute, 100, 250 * time.Millisecond
	server := testenv.StartPostgres(b, testenv.Setting("max_connections", "1000"),
		testenv.Setting("log_statement", "all"), testenv.Setting("log_line_prefix", "[%a]"))
	dsn := server.Database()
	var engines []*engine.Engine
	for range n {
		config := configOf(func(ctx context.Context) (store.Store, error) {
			return postgres.Open(context.WithoutCancel(ctx), dsn, postgres.Options{})
		})
		config.Lease, config.AuditRetention = 30*time.Second, time.Hour
		e := newEngine(b, config)
		if err := e.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = e.Close() }()
		engines = append(engines, e)
	}
	time.Sleep(settled) // until the pools have closed what they do not use
	before := len(statementsOf(b, server))
	time.Sleep(counted)
	statements := len(statementsOf(b, server)) - before
	conn, err := pgx.Connect(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(b.Context())) }()
	var connections int
	if err := conn.QueryRow(b.Context(), countConnections).Scan(&connections); err != nil {
		b.Fatal(err)
	}
	live, err := engines[0].Live()
	if err != nil {
		b.Fatal(err)
	}
	busy, all := processors(b)
	var took []time.Duration
	for i := range revocations {
		time.Sleep(pause)
		key := &store.Key{ID: store.ID{15: byte(i + 1)}, Label: "bot", Hash: "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$" +
			"aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"}
		if err := live.Store.CreateKey(b.Context(), key, nil); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if _, err := live.Store.DeleteKey(b.Context(), key.ID, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := live.Revoker.Wait(b.Context(), []store.ID{key.ID}, time.Now(), nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	busyAfter, allAfter := processors(b)
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(statements)/counted.Seconds()/float64(n), "statements/s")
	b.ReportMetric(float64(connections)/float64(n), "connections")
	b.ReportMetric(float64(took[revocations/2].Microseconds())/1000, "revoke-p50-ms")
	b.ReportMetric(float64(took[revocations*99/100].Microseconds())/1000, "revoke-p99-ms")
	b.ReportMetric(100*(busyAfter-busy)/(allAfter-all), "%cpu")
}

// processors returns the time of all processors that was not idle, and all of it. See
// proc_stat(5).
func processors(b *testing.B) (busy, all float64) {
	b.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	var user, nice, system, idle, wait float64
	if _, err := fmt.Fscanf(bytes.NewReader(stat), "cpu %f %f %f %f %f", &user, &nice, &system, &idle, &wait); err != nil {
		b.Fatal(err)
	}
	busy = user + nice + system
	return busy, busy + idle + wait
}

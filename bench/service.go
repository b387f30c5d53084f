package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

// asService makes this program be the service that forward_auth asks, and holds the
// credential that it lets through; serviceAddress is where it listens.
const (
	asService      = "SYSTEM_KEYS_BENCH_SERVICE"
	serviceAddress = "SYSTEM_KEYS_BENCH_SERVICE_ADDRESS"
)

// service does as little as such a service can: it compares one digest.
func service() {
	want := sha256.Sum256([]byte(os.Getenv(asService)))
	server := &http.Server{
		Addr: os.Getenv(serviceAddress),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
			if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.Header().Set("X-User", "bench")
		}),
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "service:", err)
	}
}

// startService starts one, until it listens.
func startService(ctx context.Context, credential string) (_ *process, address string, err error) {
	address = freeAddress()
	p, err := start(ctx, "", []string{asService + "=" + credential, serviceAddress + "=" + address})
	if err != nil {
		return nil, "", err
	}
	if err := await(ctx, address); err != nil {
		p.stop()
		return nil, "", err
	}
	return p, address, nil
}

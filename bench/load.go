package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// target is a site to send to.
type target struct {
	name          string
	url           string
	authorization string
}

// result is what one round gave.
type result struct {
	took      time.Duration
	cpu       time.Duration // of the server
	latencies []time.Duration
}

func (r result) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

// cost is the server's CPU time for a request, in microseconds.
func (r result) cost() float64 { return float64(r.cpu.Microseconds()) / float64(len(r.latencies)) }

// quantile is in milliseconds; the latencies are sorted.
func (r result) quantile(q float64) float64 {
	return float64(r.latencies[int(q*float64(len(r.latencies)-1))].Microseconds()) / 1000
}

// load sends from so many connections, each waiting for its answer, for a time.
func (t target) load(ctx context.Context, s *server, length time.Duration, clients int) (result, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, length+10*time.Second)
	defer cancel()

	before, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	end := began.Add(length)
	all := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for now := time.Now(); now.Before(end) && errs[i] == nil; {
				errs[i] = t.send(ctx, transport)
				done := time.Now()
				all[i] = append(all[i], done.Sub(now))
				now = done
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	after, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	for _, err := range errs {
		if err != nil {
			return result{}, err
		}
	}
	latencies := slices.Concat(all...)
	slices.Sort(latencies)
	return result{took: took, cpu: after - before, latencies: latencies}, nil
}

func (t target) send(ctx context.Context, transport *http.Transport) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, http.NoBody)
	if err != nil {
		return err
	}
	if t.authorization != "" {
		request.Header.Set("Authorization", t.authorization)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", t.name, response.StatusCode)
	}
	return nil
}

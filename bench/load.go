package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// target is a site to send to, with the requests of one client.
type target struct {
	name          string
	address       string
	authorization string
	// content is what a POST carries; without it they send GET.
	content string
	// processes are those that work for an answer, but for the upstream's and ours.
	processes []*process
}

// result is what one round gave.
type result struct {
	took      time.Duration
	cpu       time.Duration // of the target's processes
	latencies []time.Duration
}

// add is for a round of several slices.
func (r *result) add(other result) {
	r.took += other.took
	r.cpu += other.cpu
	r.latencies = append(r.latencies, other.latencies...)
	slices.Sort(r.latencies)
}

func (r result) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

// cost is the CPU time for a request, in microseconds.
func (r result) cost() float64 {
	return float64(r.cpu.Nanoseconds()) / 1000 / float64(len(r.latencies))
}

// quantile is in milliseconds; the latencies are sorted.
func (r result) quantile(q float64) float64 { return inMilliseconds(quantile(r.latencies, q)) }

// load sends from so many connections, each waiting for its answer, for a time.
func (t *target) load(ctx context.Context, length time.Duration, clients int) (result, error) {
	raw := t.request()
	wires := make([]*wire, clients)
	for i := range wires {
		w, err := dialWire(t.address, time.Now().Add(length+10*time.Second))
		if err != nil {
			return result{}, err
		}
		defer func() { _ = w.conn.Close() }()
		wires[i] = w
	}
	before, err := t.cpu()
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	end := began.Add(length)
	all := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var group sync.WaitGroup
	for i, w := range wires {
		group.Go(func() {
			for now := time.Now(); now.Before(end) && errs[i] == nil && ctx.Err() == nil; {
				var status int
				if status, errs[i] = w.send(raw); errs[i] == nil && status != 200 {
					errs[i] = fmt.Errorf("%s: status %d", t.name, status)
				}
				done := time.Now()
				all[i] = append(all[i], done.Sub(now))
				now = done
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	after, err := t.cpu()
	if err != nil {
		return result{}, err
	}
	for _, err := range append(errs, ctx.Err()) {
		if err != nil {
			return result{}, err
		}
	}
	latencies := slices.Concat(all...)
	slices.Sort(latencies)
	return result{took: took, cpu: after - before, latencies: latencies}, nil
}

// request has what clients send beside their credential.
func (t *target) request() []byte {
	method := http.MethodGet
	if t.content != "" {
		method = http.MethodPost
	}
	raw := fmt.Appendf(nil, "%s / HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n", method, t.address)
	if t.authorization != "" {
		raw = fmt.Appendf(raw, "Authorization: %s\r\n", t.authorization)
	}
	if t.content != "" {
		raw = fmt.Appendf(raw, "Content-Length: %d\r\n", len(t.content))
	}
	return fmt.Appendf(raw, "\r\n%s", t.content)
}

func (t *target) cpu() (sum time.Duration, err error) {
	for _, p := range t.processes {
		used, err := p.cpu()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

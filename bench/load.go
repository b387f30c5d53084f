package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// target is a site to send to, and what its clients send. It goes to the process of a
// flood as JSON.
type target struct {
	Address string
	// Requests are sent in turns. Each connection begins with another.
	Requests [][]byte
	// Clients are the connections. Each waits for its answer before it sends again.
	Clients int
	Length  time.Duration
	// Pause is how long a connection waits between two requests.
	Pause time.Duration
	// Accepted are the statuses that are no error.
	Accepted []int
	// processes do the work for an answer, beside the upstream and the clients.
	processes []*process
	// wires are the connections, if they stay open from one load to the next.
	wires []*wire
}

// afterglow is how long a server may end what it does after the last answers.
const afterglow = time.Millisecond

// result is what one round gave.
type result struct {
	took      time.Duration
	cpu       time.Duration // of the target's processes
	latencies []time.Duration
}

func (r result) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

// cost is the CPU time for a request, in microseconds.
func (r result) cost() float64 {
	return float64(r.cpu.Nanoseconds()) / 1000 / float64(len(r.latencies))
}

// quantile is in milliseconds; the latencies are sorted.
func (r result) quantile(q float64) float64 { return inMilliseconds(quantile(r.latencies, q)) }

// connect opens the connections, until disconnect.
func (t *target) connect() error {
	for range t.Clients {
		w, err := dialWire(t.Address, time.Now().Add(time.Hour))
		if err != nil {
			t.disconnect()
			return err
		}
		t.wires = append(t.wires, w)
	}
	return nil
}

func (t *target) disconnect() {
	for _, w := range t.wires {
		_ = w.conn.Close()
	}
	t.wires = nil
}

// load sends from all connections at once, for the length of time. Each connection
// sends one request at least.
func (t *target) load(ctx context.Context) (result, error) {
	if t.wires == nil {
		if err := t.connect(); err != nil {
			return result{}, err
		}
		defer t.disconnect()
	}
	for _, w := range t.wires {
		if err := w.conn.SetDeadline(time.Now().Add(t.Length + patience)); err != nil {
			return result{}, err
		}
	}
	before, err := t.cpu()
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	end := began.Add(t.Length)
	all := make([][]time.Duration, t.Clients)
	errs := make([]error, t.Clients)
	var group sync.WaitGroup
	for i, w := range t.wires {
		group.Go(func() {
			time.Sleep(t.Pause * time.Duration(i) / time.Duration(t.Clients)) // not all in step
			now := time.Now()
			for n := i; (n == i || now.Before(end)) && errs[i] == nil && ctx.Err() == nil; n++ {
				var status int
				if status, errs[i] = w.send(t.Requests[n%len(t.Requests)]); errs[i] == nil && !slices.Contains(t.Accepted, status) {
					errs[i] = fmt.Errorf("status %d", status)
				}
				done := time.Now()
				all[i] = append(all[i], done.Sub(now))
				if now = done; t.Pause > 0 {
					time.Sleep(t.Pause)
					now = time.Now()
				}
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	time.Sleep(afterglow)
	after, err := t.cpu()
	if err := errors.Join(append(errs, err, ctx.Err())...); err != nil {
		return result{}, err
	}
	latencies := slices.Concat(all...)
	slices.Sort(latencies)
	return result{took: took, cpu: after - before, latencies: latencies}, nil
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

// request has what clients send beside their credential. Without an authorization or
// a content the fields for them are left out.
func request(method, address, path, authorization, content string) []byte {
	raw := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n", method, path, address)
	if authorization != "" {
		raw = fmt.Appendf(raw, "Authorization: %s\r\n", authorization)
	}
	if content != "" {
		raw = fmt.Appendf(raw, "Content-Length: %d\r\n", len(content))
	}
	return fmt.Appendf(raw, "\r\n%s", content)
}

// wire is a connection that sends requests as they are. It reads answers only as far
// as it takes to know where they end, so that what is measured is the server.
type wire struct {
	conn   net.Conn
	reader *bufio.Reader
}

func dialWire(address string, until time.Time) (*wire, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, reader: bufio.NewReader(conn)}, conn.SetDeadline(until)
}

// send returns the status of the answer.
func (w *wire) send(request []byte) (status int, err error) {
	if _, err := w.conn.Write(request); err != nil {
		return 0, err
	}
	length := -1
	for first := true; ; first = false {
		line, err := w.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		switch line = bytes.TrimRight(line, "\r\n"); {
		case first && len(line) > 12:
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(line[16:])); err != nil {
				return 0, err
			}
		case len(line) == 0:
			if length < 0 {
				return 0, errors.New("an answer without a length")
			}
			_, err = io.CopyN(io.Discard, w.reader, int64(length))
			return status, err
		}
	}
}

// letIn sends a key until it gets 200, for as long as it gets 503.
func letIn(address, key string) error {
	w, err := dialWire(address, time.Now().Add(patience))
	if err != nil {
		return err
	}
	defer func() { _ = w.conn.Close() }()
	for raw := request(http.MethodGet, address, "/", "Bearer "+key, ""); ; time.Sleep(100 * time.Millisecond) {
		status, err := w.send(raw)
		if err == nil && status != http.StatusOK && status != http.StatusServiceUnavailable {
			err = fmt.Errorf("a good key got %d", status)
		}
		if err != nil || status == http.StatusOK {
			return err
		}
	}
}

package main

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// visit sends a request again and again, as a client does and not a flood, until it
// is over. All must be let in.
func visit(w *wire, raw []byte, over *atomic.Bool) (r result, err error) {
	for !over.Load() {
		began := time.Now()
		status, err := w.send(raw)
		if err != nil {
			return r, err
		}
		if status != 200 {
			return r, fmt.Errorf("a good key got %d", status)
		}
		r.latencies = append(r.latencies, time.Since(began))
		time.Sleep(500 * time.Microsecond)
	}
	slices.Sort(r.latencies)
	return r, nil
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// asFlood makes this program be the flood, and holds what it is to send.
const asFlood = "SYSTEM_KEYS_BENCH_FLOOD"

// assault is what a flood sends: so many connections, each waiting for its answer.
type assault struct {
	Address, Path string
	Credentials   []string
	Connections   int
	Length        time.Duration
	// Pause is how long each connection waits between two requests.
	Pause time.Duration
	// Unavailable says that 503 is an answer too.
	Unavailable bool
}

// attack is the flood, in a process of its own. It prints how many answers it got.
func attack() {
	var a assault
	if err := json.NewDecoder(os.Stdin).Decode(&a); err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		os.Exit(1)
	}
	requests := make([][]byte, len(a.Credentials))
	for i, c := range a.Credentials {
		requests[i] = request(a.Address, a.Path, c)
	}
	end := time.Now().Add(a.Length)
	var answers, others atomic.Int64
	var wg sync.WaitGroup
	for n := range a.Connections {
		wg.Go(func() {
			w, err := dialWire(a.Address, end.Add(5*time.Second))
			if err != nil {
				fmt.Fprintln(os.Stderr, "flood:", err)
				return
			}
			defer func() { _ = w.conn.Close() }()
			time.Sleep(a.Pause * time.Duration(n) / time.Duration(a.Connections)) // not all in step
			for i := n; time.Now().Before(end); i++ {
				status, err := w.send(requests[i%len(requests)])
				if err != nil {
					fmt.Fprintln(os.Stderr, "flood:", err)
					return
				}
				answers.Add(1)
				if status != 401 && status != 429 && (status != 503 || !a.Unavailable) {
					others.Add(1)
				}
				if a.Pause > 0 {
					time.Sleep(a.Pause)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println(answers.Load(), others.Load())
}

// begin starts a flood on some processors. The result waits for its end.
func (a assault) begin(ctx context.Context, processors string) (wait func() (answers, others int64, err error), err error) {
	cmd, err := command(ctx, processors, []string{asFlood + "=1"})
	if err != nil {
		return nil, err
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(input).Encode(a); err != nil {
		return nil, err
	}
	return func() (answers, others int64, err error) {
		_, err = fmt.Fscan(output, &answers, &others)
		if ended := cmd.Wait(); err == nil {
			err = ended
		}
		return answers, others, err
	}, nil
}

package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// hammer sends one key to one instance without a pause, on one connection at a time.
type hammer struct {
	address string
	raw     []byte
	// answered is set when the revocation of the key was. What is sent later is
	// counted in after.
	answered *atomic.Bool
	after    *atomic.Int64
	// first is when the first refusal came back, of all hammers of this instance.
	first *atomic.Int64
}

// strike sends until it is over. It calls warm once, when it was let in or cannot be.
// A request that was cut is a refusal.
func (h *hammer) strike(warm func(), over *atomic.Bool) error {
	w, err := h.dial(warm)
	if err != nil {
		return err
	}
	defer func() { _ = w.conn.Close() }()
	for !over.Load() {
		late := h.answered.Load()
		status, err := w.send(h.raw)
		switch {
		case err == nil && status == 200:
			if late {
				return errors.New("a request was let in that was sent after the answer")
			}
			continue
		case err == nil && status != 401:
			return fmt.Errorf("a key got %d", status)
		}
		h.first.CompareAndSwap(0, time.Now().UnixNano())
		if late {
			h.after.Add(1)
		}
		if err == nil {
			continue
		}
		_ = w.conn.Close()
		if w, err = dialWire(h.address, time.Now().Add(patience)); err != nil {
			return err
		}
	}
	return nil
}

// dial connects, and has the key let in once.
func (h *hammer) dial(warm func()) (*wire, error) {
	defer warm()
	w, err := dialWire(h.address, time.Now().Add(patience))
	if err != nil {
		return nil, err
	}
	status, err := w.send(h.raw)
	if err == nil && status != 200 {
		err = fmt.Errorf("a good key got %d", status)
	}
	if err != nil {
		_ = w.conn.Close()
		return nil, err
	}
	return w, nil
}

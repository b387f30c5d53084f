package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

const (
	revocations = 60
	// hammers is how many connections send the key that is revoked, to each instance.
	hammers = 2
	// beforehand is how long they send before the revocation, and afterwards how long
	// they go on once it was answered.
	beforehand = 10 * time.Millisecond
	afterwards = 30 * time.Millisecond
)

// revoke measures the time from a revocation to its answer and to the first refusal
// of each instance, while all of them are sent the key without a pause. A request
// that was sent after the answer and let in is an error.
func (r *run) revoke(ctx context.Context) ([]row, error) {
	redis, err := r.redis()
	if err != nil {
		return nil, err
	}
	one, err := r.revokeOn(ctx, "SQLite, 1 instance", open.SQLite, nil, 1)
	if err != nil {
		return nil, err
	}
	three, err := r.revokeOn(ctx, "PostgreSQL, Redis, 3 instances", open.Postgres, redis, 3)
	return append(one, three...), err
}

func (r *run) revokeOn(ctx context.Context, name, driver string, more []string, instances int) ([]row, error) {
	defer r.end()
	f, err := r.startFleet(ctx, driver, more, instances)
	if err != nil {
		return nil, err
	}
	for i, k := range f.keys {
		if i%20 == 0 {
			r.progress("%s: revocation %d of %d", name, i+1, len(f.keys))
		}
		if err := f.revoke(k); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	rows := append(distribution(name, "DELETE to its answer", f.answered),
		distribution(name, "DELETE to the first refusal of an instance", f.refused)...)
	return append(rows, row{Name: name, What: "let in after the answer", Unit: count, N: int(f.after.Load())}), nil
}

// fleet are instances on one store, and keys to revoke. Each has an admin plane.
type fleet struct {
	addresses []string
	admin     minted
	control   *wire // to the admin plane of the first instance
	keys      []minted

	answered, refused []time.Duration // for each revocation, and by each instance
	// after counts the requests that were sent after the answer. All were refused.
	after atomic.Int64
}

func (r *run) startFleet(ctx context.Context, driver string, more []string, instances int) (*fleet, error) {
	f := &fleet{keys: make([]minted, revocations)}
	option, err := r.store(ctx, driver, func(keys *admin.Service) (err error) {
		f.admin, err = mint(ctx, keys, admin.NewKey{Label: "admin", IsSystem: true})
		for i := 0; i < revocations && err == nil; i++ {
			f.keys[i], err = mint(ctx, keys, clientKey)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for range instances {
		caddy := &caddyfile{options: append([]string{option}, more...)}
		address := caddy.site("system_keys_admin\nsystem_key_auth\nrespond hello")
		if _, err := r.caddy(ctx, caddy, ""); err != nil {
			return nil, err
		}
		f.addresses = append(f.addresses, address)
		// It has joined when it lets somebody in.
		if err := letIn(address, f.admin.plain); err != nil {
			return nil, err
		}
	}
	if f.control, err = dialWire(f.addresses[0], time.Now().Add(time.Hour)); err != nil {
		return nil, err
	}
	r.ends = append(r.ends, func() { _ = f.control.conn.Close() })
	return f, nil
}

// revoke revokes one key, which every instance lets in before.
func (f *fleet) revoke(k minted) error {
	var answered, over atomic.Bool
	first := make([]atomic.Int64, len(f.addresses)) // the first refusal, in nanoseconds since 1970
	errs := make([]error, hammers*len(f.addresses))
	var group sync.WaitGroup
	for i, address := range f.addresses {
		if err := letIn(address, k.plain); err != nil {
			return err
		}
		h := hammer{address: address, raw: request(http.MethodGet, address, "/", "Bearer "+k.plain, ""), answered: &answered, over: &over, after: &f.after, first: &first[i]}
		for n := range hammers {
			group.Go(func() { errs[i*hammers+n] = h.strike() })
		}
	}
	time.Sleep(beforehand)
	deletion := request(http.MethodDelete, f.addresses[0], "/v1/admin/system-keys/"+k.id.String(), "Bearer "+f.admin.plain, "")
	began := time.Now()
	status, err := f.control.send(deletion)
	f.answered = append(f.answered, time.Since(began))
	answered.Store(true)
	time.Sleep(afterwards)
	over.Store(true)
	group.Wait()
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("DELETE got %d", status)
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	for i := range first {
		at := first[i].Load()
		if at == 0 {
			return fmt.Errorf("%s has not refused the key", f.addresses[i])
		}
		f.refused = append(f.refused, time.Unix(0, at).Sub(began))
	}
	return nil
}

// hammer sends one key to one instance without a pause, on one connection at a time.
type hammer struct {
	address string
	raw     []byte
	// answered is set when the revocation of the key was. What is sent later is
	// counted in after.
	answered *atomic.Bool
	after    *atomic.Int64
	// over ends it.
	over *atomic.Bool
	// first is when the first refusal came back, of all hammers of this instance.
	first *atomic.Int64
}

// strike sends until it is over. A request that was cut is a refusal.
func (h *hammer) strike() error {
	w, err := dialWire(h.address, time.Now().Add(patience))
	if err != nil {
		return err
	}
	defer func() { _ = w.conn.Close() }()
	for !h.over.Load() {
		late := h.answered.Load()
		status, err := w.send(h.raw)
		switch {
		case err == nil && status == http.StatusOK:
			if late {
				return errors.New("a request was let in that was sent after the answer")
			}
			continue
		case err == nil && status != http.StatusUnauthorized:
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

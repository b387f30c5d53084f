package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	revocations = 60
	// hammers is how many connections send the key that is revoked, to each instance.
	hammers = 2
	// afterwards is how long they go on once the revocation was answered.
	afterwards = 30 * time.Millisecond
)

// revoke measures the time from a revocation to its answer and to the first refusal
// of each instance, while all of them are sent the key without a pause. A request
// that was sent after the answer and let in is an error.
func revoke(ctx context.Context, r *run) ([]row, error) {
	file, err := r.sqlite()
	if err != nil {
		return nil, err
	}
	database, err := r.postgres(ctx)
	if err != nil {
		return nil, err
	}
	redis, err := r.redis()
	if err != nil {
		return nil, err
	}
	one, err := r.revokeOn(ctx, "SQLite, 1 instance", file, nil, 1)
	if err != nil {
		return nil, err
	}
	three, err := r.revokeOn(ctx, "PostgreSQL, Redis, 3 instances", database, redis, 3)
	return append(one, three...), err
}

func (r *run) revokeOn(ctx context.Context, name string, where *place, more []string, instances int) ([]row, error) {
	f, err := r.startFleet(ctx, where, more, instances)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	var answers, refusals []time.Duration
	var after int64
	for i, k := range f.keys {
		if i%20 == 0 {
			r.progress("%s: revocation %d of %d", name, i+1, len(f.keys))
		}
		found, err := f.revoke(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		answers = append(answers, found.answered)
		refusals = append(refusals, found.refused...)
		after += found.after
	}
	rows := append(distribution(name, "DELETE to its answer", answers),
		distribution(name, "DELETE to the first refusal of an instance", refusals)...)
	return append(rows, single(name, "let in after the answer", count, 0, int(after))), nil
}

// fleet are instances on one store, and keys to revoke. Each has an admin plane.
type fleet struct {
	processes []*process
	addresses []string
	admin     minted
	keys      []minted
}

func (r *run) startFleet(ctx context.Context, where *place, more []string, instances int) (_ *fleet, err error) {
	f := new(fleet)
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	err = where.with(ctx, func(s store.Store) error {
		admins, err := mint(ctx, s, 1, cheap, admin.NewKey{Label: "admin", IsSystem: true})
		if err != nil {
			return err
		}
		f.admin = admins[0]
		f.keys, err = mint(ctx, s, revocations, cheap, admin.NewKey{Label: "to be revoked", Permissions: []string{"bots:read"}})
		return err
	})
	if err != nil {
		return nil, err
	}
	for range instances {
		folder, err := r.newFolder()
		if err != nil {
			return nil, err
		}
		caddy := &setup{folder: folder, options: append([]string{where.option(), "argon2id 64KiB 1 1"}, more...)}
		address := caddy.site("system_keys_admin\nsystem_key_auth\nrespond hello")
		p, err := caddy.start(ctx, "")
		if err != nil {
			return nil, err
		}
		f.processes, f.addresses = append(f.processes, p), append(f.addresses, address)
		// It has joined when it lets somebody in.
		if err := letIn(address, f.admin.plain); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *fleet) stop() {
	for _, p := range f.processes {
		p.stop()
	}
}

// revoked is how a revocation went.
type revoked struct {
	answered time.Duration
	refused  []time.Duration // by each instance
	after    int64           // requests that were sent after the answer; all were refused
}

// revoke revokes one key, which every instance lets in before.
func (f *fleet) revoke(ctx context.Context, k minted) (found revoked, err error) {
	var warm sync.WaitGroup
	var answered, over atomic.Bool
	first := make([]atomic.Int64, len(f.addresses)) // the first refusal, in nanoseconds since 1970
	errs := make([]error, hammers*len(f.addresses))
	var after atomic.Int64
	var group sync.WaitGroup
	for i, address := range f.addresses {
		for n := range hammers {
			warm.Add(1)
			group.Go(func() {
				h := hammer{address: address, raw: request(address, "/", k.plain), answered: &answered, after: &after, first: &first[i]}
				errs[i*hammers+n] = h.strike(warm.Done, &over)
			})
		}
	}
	warm.Wait()
	began := time.Now()
	err = f.delete(ctx, k)
	found.answered = time.Since(began)
	answered.Store(true)
	time.Sleep(afterwards)
	over.Store(true)
	group.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return found, err
	}
	for i := range first {
		at := first[i].Load()
		if at == 0 {
			return found, fmt.Errorf("%s has not refused the key", f.addresses[i])
		}
		found.refused = append(found.refused, time.Unix(0, at).Sub(began))
	}
	found.after = after.Load()
	return found, nil
}

// delete revokes a key at the first instance, which has to answer 200.
func (f *fleet) delete(ctx context.Context, k minted) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://"+f.addresses[0]+"/v1/admin/system-keys/"+k.id.String(), http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+f.admin.plain)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err = io.Copy(io.Discard, response.Body); err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("DELETE got %d", response.StatusCode)
	}
	return err
}

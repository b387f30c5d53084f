package coherence

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestFlightsKnowWhoIsIn(t *testing.T) {
	f := NewInFlight(time.Now)
	claim, other := ClaimOf(rowOf(1)), ClaimOf(rowOf(1+shardsPerStripe)) // of the same shard
	inFlight := make([]Request, 100)
	for i := range inFlight {
		inFlight[i].Exchange = newCutRequest().Exchange
		f.Enter(&inFlight[i], claim)
	}
	second := &Request{Exchange: newCutRequest().Exchange}
	f.Enter(second, other)
	if f.Len() != 101 || len(f.Keys()) != 2 || !f.Has(claim.ID) || f.Has(testID(9)) {
		t.Errorf("%d are in, of %v", f.Len(), f.Keys())
	}
	for _, i := range []int{0, 99, 50} { // first, last, in between
		inFlight[i].Leave()
		inFlight[i].Leave() // again
	}
	if n := f.Cut(claim.ID, cut.ErrRevoked); n != 97 {
		t.Errorf("%d were cut", n)
	}
	if n := f.Cut(claim.ID, cut.ErrRevoked); n != 0 {
		t.Errorf("%d were cut twice", n)
	}
	for i := range inFlight {
		inFlight[i].Leave()
	}
	if f.Has(claim.ID) || f.Len() != 1 {
		t.Errorf("%d are in after all have left", f.Len())
	}
	if n := f.CutAll(cut.ErrLapsed); n != 1 {
		t.Errorf("%d were cut when all were", n)
	}
	(*Request)(nil).Leave()
	new(Request).Leave()
}

// A request that has entered is cut, or sees what a cut comes after: the key is
// forgotten first, then cut, and a request enters first and then looks.
func TestFlightsAndChecksMissNoCut(t *testing.T) {
	f := NewInFlight(time.Now)
	claim := ClaimOf(rowOf(1))
	for range 2000 {
		var forgotten atomic.Bool
		request := newCutRequest()
		var letIn bool
		var both sync.WaitGroup
		both.Go(func() {
			f.Enter(&Request{Exchange: request.Exchange}, claim)
			letIn = !forgotten.Load()
		})
		both.Go(func() {
			forgotten.Store(true)
			f.Cut(claim.ID, cut.ErrRevoked)
		})
		both.Wait()
		if letIn && request.reason() == nil {
			t.Fatal("it was let in, and not cut")
		}
	}
}

func TestFlightsEndWhenTheirKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewInFlight(time.Now)
		row := rowOf(1)
		row.ExpiresAt = time.Now().Add(time.Second)
		expiring, extended := newCutRequest(), newCutRequest()
		inFlight := []*Request{{Exchange: expiring.Exchange}, {Exchange: extended.Exchange}}
		f.Enter(inFlight[0], ClaimOf(row))
		longer := rowOf(2)
		longer.ExpiresAt = row.ExpiresAt
		f.Enter(inFlight[1], ClaimOf(longer))
		longer.ExpiresAt = time.Now().Add(time.Minute)
		f.Review(longer.ID, longer, false)
		time.Sleep(time.Second - time.Millisecond)
		if expiring.reason() != nil {
			t.Error("it was cut early")
		}
		time.Sleep(expiryInterval + time.Millisecond)
		synctest.Wait()
		if !errors.Is(expiring.reason(), cut.ErrExpired) || extended.reason() != nil {
			t.Errorf("expired: %v, extended meanwhile: %v", expiring.reason(), extended.reason())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !errors.Is(extended.reason(), cut.ErrExpired) {
			t.Errorf("the extended one: %v", extended.reason())
		}
		inFlight[0].Leave()
		inFlight[1].Leave()
		time.Sleep(time.Second)
	})
}

func TestFlightsOfAdoptedKeysNeedAForeignRow(t *testing.T) {
	t.Parallel()
	f := NewInFlight(time.Now)
	row := rowOf(1)
	row.Foreign = true
	adopted, minted := newCutRequest(), newCutRequest()
	claim := ClaimOf(row)
	claim.Adopted = true
	inFlight := []*Request{{Exchange: adopted.Exchange}, {Exchange: minted.Exchange}}
	f.Enter(inFlight[0], claim)
	f.Enter(inFlight[1], ClaimOf(row))
	if n := f.Review(row.ID, row, true); n != 0 {
		t.Errorf("%d were cut, and nothing has changed", n)
	}
	row.Foreign = false
	if n := f.Review(row.ID, row, false); n != 1 || !errors.Is(adopted.reason(), cut.ErrRevoked) || minted.reason() != nil {
		t.Errorf("%d were cut: the adopted one for %v, the other for %v", n, adopted.reason(), minted.reason())
	}
	inFlight[0].Leave()
	inFlight[1].Leave()
}

// TestFlightsAreCutFromOutsideOfTheNetworks: the key had none when the requests came in.
func TestFlightsAreCutFromOutsideOfTheNetworks(t *testing.T) {
	t.Parallel()
	f := NewInFlight(time.Now)
	row := rowOf(1, "bots:read")
	var all []*Request
	enter := func(client string) *cutRequest {
		exchange := newCutRequest()
		all = append(all, &Request{Exchange: exchange.Exchange, Client: client})
		f.Enter(all[len(all)-1], ClaimOf(row))
		return exchange
	}
	inside, other, outside, unknown := enter("192.0.2.1"), enter("::ffff:192.0.2.2"), enter("198.51.100.1"), enter("")
	if n := f.Review(row.ID, row, false); n != 0 {
		t.Errorf("%d were cut, and nothing has changed", n)
	}
	row.Networks, _ = store.ParseNetworks([]string{"192.0.2.0/24"})
	n := f.Review(row.ID, row, false)
	if n != 2 || !errors.Is(outside.reason(), cut.ErrNetwork) || !errors.Is(unknown.reason(), cut.ErrNetwork) {
		t.Errorf("%d were cut: from outside for %v, from nowhere for %v", n, outside.reason(), unknown.reason())
	}
	if inside.reason() != nil || other.reason() != nil {
		t.Errorf("from inside: %v, %v", inside.reason(), other.reason())
	}
	row.Networks = store.NewNetworks([]netip.Prefix{{}}) // which could not be read
	if n := f.Review(row.ID, row, false); n != 2 {
		t.Errorf("%d were cut by a network that contains nobody", n)
	}
	for _, request := range all {
		request.Leave()
	}
}

func TestFlightsGetAnExpiryLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewInFlight(time.Now)
		row, exchange := rowOf(1), newCutRequest()
		request := &Request{Exchange: exchange.Exchange}
		f.Enter(request, ClaimOf(row))
		row.ExpiresAt = time.Now().Add(time.Second)
		f.Review(row.ID, row, false)
		time.Sleep(time.Second + expiryInterval)
		synctest.Wait()
		if !errors.Is(exchange.reason(), cut.ErrExpired) {
			t.Errorf("it was cut for %v", exchange.reason())
		}
		request.Leave()
		time.Sleep(time.Second)
	})
}

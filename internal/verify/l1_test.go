package verify

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func testID(i int) store.ID {
	var id store.ID
	binary.BigEndian.PutUint64(id[8:], uint64(i))
	return id
}

func testEntry(i int, label string) *entry {
	return newEntry([32]byte{byte(i)}, &store.Key{ID: testID(i), Label: label}, time.Time{})
}

// TestL1EvictsWhatIsInHands has a request that holds a slot and its entry while
// they are evicted: no revocation would find them any more.
func TestL1EvictsWhatIsInHands(t *testing.T) {
	t.Parallel()
	c := newL1(1, 1<<30, nil)
	c.put(c.generation(testID(1)), testEntry(1, ""))
	s, e := c.get(testID(1))
	c.put(c.generation(testID(2)), testEntry(2, ""))
	if _, there := c.get(testID(1)); there != nil {
		t.Fatal("nothing was evicted")
	}
	if c.current(s, e) {
		t.Error("an entry that was evicted is still held")
	}
}

func TestL1ForgetsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	c := newL1(100, 1<<30, nil)
	c.put(c.generation(testID(1)), testEntry(1, ""))
	s, e := c.get(testID(1))
	before := c.generation(testID(2))
	c.forgetAll()
	if _, there := c.get(testID(1)); there != nil || c.current(s, e) {
		t.Error("an entry outlived it")
	}
	c.put(before, testEntry(2, "stale"))
	if _, there := c.get(testID(2)); there != nil {
		t.Error("a fill that began before can be read")
	}
	c.put(c.generation(testID(2)), testEntry(2, "fresh"))
	if _, there := c.get(testID(2)); there == nil {
		t.Error("nothing is remembered any more")
	}
}

func TestL1MarksAreKeptOnceAKey(t *testing.T) {
	t.Parallel()
	c := newL1(10, 1<<30, nil)
	first := c.mark(testID(1))
	c.put(c.generation(testID(1)), testEntry(1, ""))
	if s, e := c.get(testID(1)); e == nil || s.uses != first || c.mark(testID(1)) != first {
		t.Error("the key has another mark")
	}
	for i := range 100 {
		c.mark(testID(i))
	}
	if c.len() != 10 {
		t.Errorf("%d slots", c.len())
	}
}

func TestL1IsBoundedByEntries(t *testing.T) {
	t.Parallel()
	c := newL1(100, 1<<30, nil)
	for i := range 1000 {
		if !c.put(c.generation(testID(i)), testEntry(i, "")) {
			t.Fatal("not stored")
		}
		if _, e := c.get(testID(i)); e == nil {
			t.Fatal("what was just stored was evicted")
		}
	}
	if c.len() != 100 || c.queue.Len() != 100 {
		t.Errorf("%d slots, %d in the queue", c.len(), c.queue.Len())
	}
}

func TestL1IsBoundedByBytes(t *testing.T) {
	t.Parallel()
	c := newL1(1<<20, 10*testEntry(0, "").size, nil)
	for i := range 1000 {
		c.put(c.generation(testID(i)), testEntry(i, ""))
	}
	if c.len() != 10 || c.bytes > c.maxBytes {
		t.Errorf("%d slots, %d bytes", c.len(), c.bytes)
	}
}

func TestL1KeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	c := newL1(100, 1<<30, nil)
	for i := range 5000 {
		c.put(c.generation(testID(i)), testEntry(i, ""))
		s, _ := c.get(testID(0))
		s.visit()
	}
	if _, e := c.get(testID(0)); e == nil {
		t.Error("a key that is used all the time was evicted by keys used once")
	}
}

func TestL1RefusesAFillFromBeforeAForget(t *testing.T) {
	t.Parallel()
	c := newL1(100, 1<<30, nil)
	for _, present := range []bool{false, true} {
		generation := c.generation(testID(1))
		if present {
			c.put(generation, testEntry(1, "old"))
		}
		c.forget(testID(1))
		if c.put(generation, testEntry(1, "stale")) {
			t.Error("a stale fill was stored")
		}
		if _, e := c.get(testID(1)); e != nil {
			t.Error("a stale fill can be read")
		}
	}
}

// TestL1AccountsForEverything fills, forgets and evicts from many goroutines, and
// then compares the books with what is there.
func TestL1AccountsForEverything(t *testing.T) {
	t.Parallel()
	c := newL1(50, 1<<30, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				i := rand.IntN(200)
				switch rand.IntN(4) {
				case 0:
					c.forget(testID(i))
				case 1:
					if s, e := c.get(testID(i)); e != nil {
						s.visit()
					}
				default:
					c.put(c.generation(testID(i)), testEntry(i, "label"))
				}
			}
		})
	}
	wg.Wait()
	var bytes int64
	for e := c.queue.Front(); e != nil; e = e.Next() {
		s := e.Value.(*slot)
		bytes += s.size
		if current, ok := c.slots.Load(s.id); !ok || current != s {
			t.Error("the queue holds a slot that the map does not")
		}
	}
	if c.queue.Len() != c.len() || c.len() > 50 || bytes != c.bytes {
		t.Errorf("%d in the queue, %d in the map, %d bytes in the books, %d there", c.queue.Len(), c.len(), c.bytes, bytes)
	}
}

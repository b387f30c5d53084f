package coherence_test

import (
	"math/rand/v2"
	"time"
)

// fault is something that goes wrong for a while. It returns when it is over.
type fault struct {
	name string
	do   func(s *simulation, random *rand.Rand)
}

// between draws a duration.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}

var faults = []fault{
	{"kill -9", func(s *simulation, random *rand.Rand) {
		i := s.take(random)
		i.kill()
		time.Sleep(between(random, time.Millisecond, simulatedTTL))
		s.put(s.start(random))
	}},
	{"left and joined", func(s *simulation, random *rand.Rand) {
		_ = s.take(random).stop()
		s.put(s.start(random))
	}},
	{"stopped", func(s *simulation, random *rand.Rand) {
		i := s.pick(random)
		if !i.link.stop() {
			return
		}
		time.Sleep(between(random, simulatedTTL/10, 2*simulatedTTL))
		i.link.cont()
	}},
	{"suspended", func(s *simulation, random *rand.Rand) {
		i := s.pick(random)
		if !i.link.stop() {
			return
		}
		d := between(random, simulatedTTL/10, 2*simulatedTTL)
		time.Sleep(d)
		i.clock.suspend(d)
		i.link.cont()
	}},
	{"partition", func(s *simulation, random *rand.Rand) {
		i := s.pick(random)
		i.link.set(func() { i.link.lost = true })
		time.Sleep(between(random, simulatedTTL/10, 2*simulatedTTL))
		i.link.set(func() { i.link.lost = false })
	}},
	{"answers lost", func(s *simulation, random *rand.Rand) {
		i := s.pick(random)
		i.link.set(func() { i.link.answers = true })
		time.Sleep(between(random, simulatedTTL/20, simulatedTTL))
		i.link.set(func() { i.link.answers = false })
	}},
	{"slow link", func(s *simulation, random *rand.Rand) {
		i := s.pick(random)
		slow := between(random, 20*time.Millisecond, simulatedTTL/3)
		i.link.set(func() { i.link.slow = slow })
		time.Sleep(between(random, simulatedTTL/10, 2*simulatedTTL))
		i.link.set(func() { i.link.slow = 0 })
	}},
	{"database restart", func(s *simulation, random *rand.Rand) {
		s.database.setDown(true)
		time.Sleep(between(random, simulatedTTL/20, simulatedTTL))
		s.database.setDown(false)
	}},
	{"feed pruned", func(s *simulation, random *rand.Rand) {
		s.history.prune()
		s.database.prune(1 + random.IntN(3))
	}},
	{"clock step", func(s *simulation, random *rand.Rand) {
		by := between(random, time.Millisecond, 10*time.Second)
		if random.IntN(2) == 0 {
			by = -by
		}
		s.pick(random).clock.stepWall(by)
	}},
	{"failover", func(s *simulation, random *rand.Rand) {
		old := s.database.promote()
		s.strand(&old, random)
		time.Sleep(between(random, simulatedTTL/10, 2*simulatedTTL))
		s.strand(nil, random)
	}},
	{"backup restored", func(s *simulation, random *rand.Rand) {
		saved := s.database.backup()
		time.Sleep(between(random, simulatedTTL/20, simulatedTTL))
		s.restore(saved, random.IntN(2) == 0)
	}},
}

// The faults that take a row away and enter nothing that says so.
func init() {
	faults = append(faults,
		fault{"row lost", func(s *simulation, random *rand.Rand) {
			i, key := s.pick(random), s.live(random)
			s.history.revoke(key)
			s.database.lose(key.id)
			time.Sleep(between(random, time.Millisecond, 100*time.Millisecond))
			way, seed := 1+random.IntN(9), random.Uint64()
			s.tasks.Go(func() { s.revoke(i, key, way, seed) })
		}},
		fault{"inserts lost", func(s *simulation, random *rand.Rand) {
			saved := s.database.backup()
			key := s.fresh(random)
			for range 5 {
				i := s.pick(random)
				s.tasks.Go(func() { s.ask(i, key, 0) })
			}
			for range 50 {
				time.Sleep(time.Millisecond)
				if s.applied() >= key.rev {
					s.restore(saved, random.IntN(2) == 0)
					return
				}
			}
		}},
	)
}

// inject has faults follow each other until the time is over.
func (s *simulation) inject(random *rand.Rand) {
	for !s.over() {
		time.Sleep(between(random, time.Millisecond, 2*simulatedTTL))
		f := faults[random.IntN(len(faults))]
		s.count(f.name)
		f.do(s, random)
	}
}

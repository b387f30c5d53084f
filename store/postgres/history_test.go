package postgres_test

import (
	"errors"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// failover is a primary and a standby that is promoted beside it. Nobody waited for
// the standby, so that the old primary can commit.
type failover struct {
	old, promoted *testenv.Postgres
	address       *testenv.Switch // leads to the old one at first
	dsn           string          // through it
	database      string
}

func newFailover(t *testing.T) *failover {
	t.Helper()
	s, server, dsn := private(t)
	sample(t, s, "perhaps revoked")
	parsed, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	f := &failover{old: server, promoted: testenv.StartStandby(t, server), database: parsed.Path[1:]}
	f.address = testenv.NewSwitch(t, server.Addr())
	parsed.Host = f.address.Addr()
	f.dsn = parsed.String()
	f.promoted.Promote()
	return f
}

// strand ends the connections to the promoted server that lie idle, and leads new
// ones to the old one.
func (f *failover) strand(t *testing.T) {
	t.Helper()
	f.address.To(f.old.Addr())
	conn := connect(t, f.promoted.DSN(f.database))
	const idle = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity " +
		"WHERE datname = current_database() AND application_name = 'caddy-system-keys' AND query NOT LIKE '%change_log%'"
	if _, err := conn.Exec(t.Context(), idle); err != nil {
		t.Fatal(err)
	}
}

// TestAnOldPrimaryIsNotBelieved follows the promoted server, with a pool that leads
// to the old one.
func TestAnOldPrimaryIsNotBelieved(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	f.address.To(f.promoted.Addr())
	s, n := open(t, f.dsn), open(t, f.promoted.DSN(f.database)+"&application_name=other")
	id := store.ID{}
	copy(id[:], "perhaps revoked")
	digest := signIn(t, n, &store.Key{ID: id})
	feed := follow(t, s)
	member := store.ID{7}
	if err := feed.Join(t.Context(), &store.Member{ID: member, TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	turn := func() {
		t.Helper()
		if _, err := feed.Renew(t.Context(), &store.Turn{Member: member, Limit: 1}); err != nil {
			t.Fatal(err)
		}
	}
	turn()
	f.strand(t)
	// Nothing was logged since the fork: the row is the same on both, and nothing else
	// is.
	err := errors.New("not read yet")
	for n := 0; err != nil && n < 10; n++ { // past the connections that have ended
		_, err = s.Key(t.Context(), id)
	}
	if err != nil {
		t.Errorf("Key of a row that both have: %v", err)
	}
	notBelieved := func(answers map[string]error) {
		t.Helper()
		for what, err := range answers {
			if !errors.Is(err, store.ErrOtherHistory) {
				t.Errorf("%s: %v, want ErrOtherHistory", what, err)
			}
		}
	}
	second := func(_ any, err error) error { return err }
	elsewhere := func() map[string]error {
		return map[string]error{
			"Key of no row": second(s.Key(t.Context(), store.ID{1})),
			"Session":       second(s.Session(t.Context(), digest, time.Now())),
			"Progress":      second(s.Progress(t.Context(), []store.ID{id}, nil)),
			"DeleteKey":     second(s.DeleteKey(t.Context(), id, nil)),
			"DeleteKeys":    second(s.DeleteKeys(t.Context(), &store.KeyFilter{LabelPrefix: "x"}, nil)),
			"CreateKey":     s.CreateKey(t.Context(), &store.Key{ID: store.ID{2}, Label: "x", Hash: hash}, nil),
			"RehashKey":     s.RehashKey(t.Context(), id, hash, hash+"AAAA"),
			"RecordUse":     s.RecordUse(t.Context(), []store.Use{{ID: id, At: time.Now()}}),
			"Barrier":       second(s.Barrier(t.Context())),
			"Leave":         s.Leave(t.Context(), member),
			"Reap":          second(s.Reap(t.Context(), member, 1)),
			"Prune":         s.Prune(t.Context(), 1),
			"SpendNonce":    s.SpendNonce(t.Context(), digest, time.Now()),
			"EndSession":    s.EndSession(t.Context(), digest),
			"CreateSession": s.CreateSession(t.Context(), &store.Session{Digest: [32]byte{1}, Key: id, ExpiresAt: time.Now()}),
		}
	}
	notBelieved(elsewhere())
	if _, err := n.DeleteKey(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	turn() // has seen it
	notBelieved(map[string]error{"Key of a row that the old one alone has": second(s.Key(t.Context(), id))})
	f.address.To(f.promoted.Addr())
	eventually := time.Now().Add(30 * time.Second)
	for {
		_, err := s.Key(t.Context(), id)
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		if time.Now().After(eventually) {
			t.Fatalf("long after the address leads to the promoted server: %v", err)
		}
	}
	if p, err := s.Progress(t.Context(), []store.ID{id}, nil); err != nil || len(p.Members) != 1 {
		t.Errorf("the members are %+v, %v", p, err)
	}
}

// TestThePoolMovesWithTheFeed leaves the pool's connections open, and has the feed
// get to the promoted server.
func TestThePoolMovesWithTheFeed(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	s, n := open(t, f.dsn), open(t, f.promoted.DSN(f.database)+"&application_name=other")
	id := store.ID{}
	copy(id[:], "perhaps revoked")
	turn := func(member store.ID) {
		t.Helper()
		feed := follow(t, s)
		if err := feed.Join(t.Context(), &store.Member{ID: member, TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if _, err := feed.Renew(t.Context(), &store.Turn{Member: member, Limit: 1}); err != nil {
			t.Fatal(err)
		}
	}
	turn(store.ID{7})
	if _, err := s.Key(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := n.DeleteKey(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	f.address.To(f.promoted.Addr())
	turn(store.ID{8})
	if _, err := s.Key(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Key = %v, want ErrNotFound", err)
	}
}

// TestACommitIsNotAnsweredWithTheMembersOfAnotherServer is about the command line,
// which follows nothing.
func TestACommitIsNotAnsweredWithTheMembersOfAnotherServer(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	s := open(t, f.dsn)
	id := store.ID{}
	copy(id[:], "perhaps revoked")
	if _, err := s.DeleteKey(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Progress(t.Context(), []store.ID{id}, nil); err != nil {
		t.Errorf("Progress on the server of the commit: %v", err)
	}
	f.address.To(f.promoted.Addr())
	conn := connect(t, f.old.DSN(f.database))
	if _, err := conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "+
		"WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the first may find that its connection has ended
		if _, err := s.Progress(t.Context(), []store.ID{id}, nil); err == nil {
			t.Fatal("another server's members are told")
		} else if errors.Is(err, store.ErrOtherHistory) {
			return
		}
	}
	t.Error("it is not said that the server has another history")
}

// TestAServerThatDoesNotNameItself lacks functions, or says that it does not support
// them, as servers do that only speak PostgreSQL's protocol. The store asks for less.
func TestAServerThatDoesNotNameItself(t *testing.T) {
	t.Parallel()
	const (
		noControl = "ALTER FUNCTION pg_control_system() RENAME TO pg_control_system_away;"
		noFile    = "ALTER FUNCTION pg_walfile_name(pg_lsn) RENAME TO pg_walfile_name_away;"
		refuses   = `CREATE FUNCTION pg_catalog.pg_control_system(OUT system_identifier bigint) LANGUAGE plpgsql AS
			$$BEGIN RAISE feature_not_supported; END$$;`
	)
	for name, c := range map[string]struct{ statements, want string }{
		"all there":                    {"", `^\d+/[0-9A-F]{8}$`},
		"no function":                  {noControl, `^[0-9A-F]{8}$`},
		"a function that is refused":   {noControl + refuses, `^[0-9A-F]{8}$`},
		"neither function":             {noControl + noFile, `^$`},
		"one refused, one not present": {noControl + refuses + noFile, `^$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := testenv.Database(t)
			s := open(t, dsn)
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := connect(t, dsn).Exec(t.Context(), c.statements); err != nil {
				t.Fatal(err)
			}
			s = open(t, dsn) // what this one has found out it keeps
			feed := follow(t, s)
			view := pull(t, feed, store.Position{})
			if !regexp.MustCompile(c.want).MatchString(view.Origin) {
				t.Errorf("the origin is %q, want %s", view.Origin, c.want)
			}
			key := sample(t, s, "of no name")
			if _, err := s.Key(t.Context(), key.ID); err != nil {
				t.Errorf("the key cannot be read: %v", err)
			}
			progress, err := s.Progress(t.Context(), []store.ID{key.ID}, nil)
			if err != nil || progress.Origin != view.Origin {
				t.Errorf("the origin is %+v, %v to those who wait", progress, err)
			}
		})
	}
}

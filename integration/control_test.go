package integration_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ownStatus is what the admin endpoint says of this instance and of all.
type ownStatus struct {
	RevocationEpoch *int64 `json:"revocation_epoch"`
	Watched         bool
	Instances       []struct{ ID, Name, Lease string }
	Instance        struct {
		Ready   bool
		Missing []string
		ID      string
		Store   struct {
			Open, Answers bool
			Error         string
			Since         *time.Time
		}
		Redis *struct {
			State, Error, Reads, Writes string
			Since                       time.Time
		}
		Lease    *struct{ Standing string }
		Argon2id *struct{ Slots int }
		Audit    *struct{ Waiting, Dropped int }
	}
}

func (c controlled) status(tb testing.TB) (ownStatus, string) {
	tb.Helper()
	code, _, body := c.ask(tb, "/system_keys/status")
	var s ownStatus
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK {
		tb.Fatalf("%d %v %s", code, err, body)
	}
	return s, body
}

func (c controlled) ready(tb testing.TB) (int, string) {
	tb.Helper()
	code, header, body := c.ask(tb, "/system_keys/ready")
	if header.Get("Content-Type") != "application/json" {
		tb.Errorf("the type is %q", header.Get("Content-Type"))
	}
	return code, strings.TrimSpace(body)
}

func TestStatusAndReadiness(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			rootKey := root(t, b.keys(t))
			c := runControlled(t, b, storySite(t))
			key := story(t, c.site, rootKey)
			if code, body := c.ready(t); code != http.StatusOK || body != `{"ready":true,"missing":[]}` {
				t.Errorf("%d %s", code, body)
			}
			s, text := c.status(t)
			if len(s.Instances) != 1 || s.Instances[0].ID != s.Instance.ID || s.Instances[0].Lease != "30s" || s.RevocationEpoch == nil || !s.Watched {
				t.Errorf("all instances are %s", text)
			}
			own := s.Instance
			if !own.Ready || !own.Store.Open || !own.Store.Answers || own.Lease.Standing != "cached" || own.Argon2id.Slots < 1 || own.Audit.Dropped != 0 {
				t.Errorf("this instance is %s", text)
			}
			if redis := strings.Contains(b.options, "redis "); (own.Redis != nil) != redis || redis && own.Redis.State != "ok" {
				t.Errorf("redis is %s", text)
			}
			for _, secret := range []string{key[7:], rootKey[7:], "lm_sys_", "Twitch", "0123456789abcdef", "argon2id$"} {
				if strings.Contains(text, secret) {
					t.Errorf("%q is in %s", secret, text)
				}
			}
			if code, _, _ := do(t, http.MethodPost, "http://"+c.control+"/system_keys/ready", "", nil); code != http.StatusMethodNotAllowed {
				t.Errorf("POST got %d", code)
			}
		})
	}
}

// TestReadinessWithoutTheDatabase loses it under a running server.
func TestReadinessWithoutTheDatabase(t *testing.T) {
	b, server := onPrivatePostgres(t)
	b.options += "\nlease 1s"
	b.keys(t)
	c := runControlled(t, b, "system_key_auth")
	if code, body := c.ready(t); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	server.Kill()
	eventually(t, "the lease ends", func() bool {
		code, body := c.ready(t)
		return code == http.StatusServiceUnavailable && body == `{"ready":false,"missing":["lease"]}`
	})
	s, text := c.status(t)
	if s.RevocationEpoch != nil || !s.Instance.Store.Open || s.Instance.Store.Answers || s.Instance.Lease.Standing != "none" {
		t.Errorf("the status is %s", text)
	}
	families, _ := c.scrape(t)
	if value(families, "ready") != 0 || value(families, "lease_remaining_seconds") != 0 || value(families, "lease_age_seconds") != -1 {
		t.Error("the metrics say nothing of it")
	}
}

// TestReadinessBeforeTheStoreIsOpen has a server that is not there.
func TestReadinessBeforeTheStoreIsOpen(t *testing.T) {
	c := runControlled(t, postgresAt("postgres://127.0.0.1:1/none", ""), "system_key_auth")
	if code, body := c.ready(t); code != http.StatusServiceUnavailable || body != `{"ready":false,"missing":["store"]}` {
		t.Errorf("%d %s", code, body)
	}
	s, text := c.status(t)
	if s.Instance.Store.Open || s.Instance.Ready || s.Instance.Lease != nil ||
		!strings.Contains(s.Instance.Store.Error, "127.0.0.1:1") || s.Instance.Store.Since == nil {
		t.Error(text)
	}
	if families, _ := c.scrape(t); value(families, "ready") != 0 {
		t.Error("the metrics say that it is ready")
	}
}

// TestTheAdminEndpointAfterReloads resolves what runs now: after a reload, after
// one that failed, and without system keys.
func TestTheAdminEndpointAfterReloads(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, key := mint(t, keys, "bot")
	c := runControlled(t, b, storySite(t))
	hits := func() float64 {
		families, _ := c.scrape(t)
		return value(families, "decisions_total", "reason", "key", "result", "allowed")
	}
	use := func() {
		if status, _, body := get(t, "http://"+c.site+"/", "Bearer "+key); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	start := hits()
	want := func(when string, uses float64) {
		t.Helper()
		if code, body := c.ready(t); code != http.StatusOK {
			t.Errorf("%s: %d %s", when, code, body)
		}
		if s, text := c.status(t); len(s.Instances) != 1 || !s.Instance.Ready {
			t.Errorf("%s: %s", when, text)
		}
		if got := hits() - start; got != uses {
			t.Errorf("%s: %v requests were counted, not %v", when, got, uses)
		}
		families, _ := c.scrape(t)
		if value(families, "ready") != 1 || value(families, "memory_hits_total") != uses-1 {
			t.Errorf("%s: the engine is not read", when)
		}
	}
	use()
	want("at first", 1)
	load(t, c.caddyfile(b, storySite(t)+"\nheader X-Second yes"))
	use()
	want("after a reload", 2)

	broken := adapt(t, c.caddyfile(b, "system_key_auth\nrespond ok"))
	broken = []byte(strings.Replace(string(broken), `"apps":{`, `"apps":{"nothing_of_this_name":{},`, 1))
	if err := tryLoad(t, broken); err == nil {
		t.Fatal("a broken configuration was loaded")
	}
	use()
	want("after a reload that failed", 3)

	load(t, strings.Replace(strings.Replace(globals(""), "admin off", "admin "+c.control, 1), "system_keys {", "servers {", 1))
	for _, path := range []string{"ready", "status"} {
		code, _, body := c.ask(t, "/system_keys/"+path)
		if diff := cmp.Diff(`{"error":"system_keys is not configured"}`, strings.TrimSpace(body)); code != http.StatusNotFound || diff != "" {
			t.Errorf("%s without system keys: %d %s", path, code, diff)
		}
	}
}

package page_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestAKeyIsRotatedOnThePage by a form: the new key is shown once, both rows say so, and the
// same form rotates nothing twice.
func TestAKeyIsRotatedOnThePage(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, root := p.MintAdmin(t)
	bot, _ := p.Mint(t, "Twitch Bot", "bots:read")
	v := plane.Visit(t, p.URL)
	v.SignIn(root)
	ask, do := "/system/keys/"+bot.ID.String()+"/rotate", "/api/system-keys/"+bot.ID.String()+"/rotate"
	v.Get("/system").Is(t, "the list", http.StatusOK, ask)
	nonce := v.Get(ask).Is(t, "the form", http.StatusOK, "Twitch Bot").Nonce(t, do)
	fields := []string{"nonce", nonce, "deadline", "7d", "grace", "1h"}
	v.Post(do, "nonce", "x", "deadline", "7d", "grace", "1h").Is(t, "a forged form", http.StatusForbidden, "Open the form again")
	v.Post(do, "nonce", nonce, "deadline", "8d", "grace", "1h").Is(t, "a deadline that is not offered", http.StatusBadRequest, "")
	answer := v.Post(do, fields...).Is(t, "the answer", http.StatusCreated, "or 1 hour after the first use of this one")
	if !regexp.MustCompile(`lm_sys_[0-9A-Za-z]{76}<`).MatchString(answer.Body) {
		t.Errorf("no key is shown in %s", answer.Body)
	}
	again := v.Post(do, fields...).Is(t, "the form once more", http.StatusConflict, "This form was sent before.")
	old, err := p.Keys.Get(t.Context(), admin.CLI(), bot.ID)
	if err != nil || old.ReplacedBy == (store.ID{}) {
		t.Fatalf("the old key is %+v (%v)", old, err)
	}
	if left := time.Until(old.ExpiresAt); left < 6*24*time.Hour || left > 7*24*time.Hour {
		t.Errorf("the old key ends in %v", left)
	}
	tail := old.ReplacedBy.String()[24:]
	if !strings.Contains(again.Body, "It was replaced before by …"+tail) {
		t.Error("the form does not say that there is a successor")
	}
	list := v.Get("/system").Is(t, "the list", http.StatusOK, "…"+tail)
	for _, want := range []string{"replaced by", "ends <time", "replaces", "…" + bot.ID.String()[24:]} {
		if !strings.Contains(list.Body, want) {
			t.Errorf("there is no %q in the list", want)
		}
	}

	// Once the successor was used, the old key is not rotated again.
	first := time.Now()
	if err := p.Keys.Store.RecordUse(t.Context(), []store.Use{{ID: old.ReplacedBy, First: first, At: first, Days: []store.DayUse{{Day: store.DayOf(first), Requests: 1}}}}); err != nil {
		t.Fatal(err)
	}
	if list := v.Get("/system"); strings.Contains(list.Body, ask) {
		t.Error("a key whose successor is in use can be rotated")
	}
	v.Post(do, "nonce", again.Nonce(t, do), "deadline", "7d", "grace", "1h").Is(t, "the key again", http.StatusConflict, "its successor is in use")
	activity := "/system?activity=" + bot.ID.String()
	v.Get(activity).Is(t, "the activity", http.StatusOK, "nobody has sent this key")
	late := first.Add(500 * time.Millisecond)
	err = p.Keys.Store.RecordUse(t.Context(), []store.Use{{
		ID: bot.ID, First: late, At: late, Days: []store.DayUse{{Day: store.DayOf(late), Requests: 3}},
		Networks: []store.NetworkUse{{Network: store.NetworkOf("192.0.2.7"), FirstAt: late, LastAt: late, Requests: 3}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	v.Get(activity).Is(t, "the activity of a key that is sent still", http.StatusOK, "3 requests with this key")
}

// TestOnlyWhoMayRotatesAKeyOnThePage: the button and the form need both permissions, and all
// that the key holds.
func TestOnlyWhoMayRotatesAKeyOnThePage(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	bot, _ := p.Mint(t, "bot", "bots:read")
	ask, do := "/system/keys/"+bot.ID.String()+"/rotate", "/api/system-keys/"+bot.ID.String()+"/rotate"
	for name, c := range map[string]struct {
		holds        []string
		button, form bool
	}{
		"all":              {[]string{admin.PermissionCreate, admin.PermissionDelete, "bots:read"}, true, true},
		"no create":        {[]string{admin.PermissionDelete, "bots:read"}, false, false},
		"no delete":        {[]string{admin.PermissionCreate, "bots:read"}, false, false},
		"less than it has": {[]string{admin.PermissionCreate, admin.PermissionDelete}, false, true},
	} {
		_, plain := p.Mint(t, name, append(c.holds, admin.PermissionAccess, admin.PermissionRead)...)
		v := plane.Visit(t, p.URL)
		if a := v.Post("/system/session", "key", plain); a.Status != http.StatusSeeOther {
			t.Fatalf("%s: sign-in got %d", name, a.Status)
		}
		if has := strings.Contains(v.Get("/system").Body, ask); has != c.button {
			t.Errorf("%s: the button is there: %t", name, has)
		}
		form := v.Get(ask)
		if (form.Status == http.StatusOK) != c.form {
			t.Errorf("%s: the form got %d", name, form.Status)
		}
		if c.form && !c.button {
			v.Post(do, "nonce", form.Nonce(t, do), "deadline", "7d", "grace", "1h").Is(t, name, http.StatusForbidden, "hold no more than you do")
		}
	}
	if key, err := p.Keys.Get(t.Context(), admin.CLI(), bot.ID); err != nil || key.ReplacedBy != (store.ID{}) {
		t.Errorf("the key was rotated: %+v (%v)", key, err)
	}
}

// TestAKeyIsRotatedAtOnceOnThePage: the old key is refused when the new one is shown.
func TestAKeyIsRotatedAtOnceOnThePage(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, root := p.MintAdmin(t)
	bot, plain := p.Mint(t, "bot", "bots:read", admin.PermissionRead)
	v := plane.Visit(t, p.URL)
	v.SignIn(root)
	do := "/api/system-keys/" + bot.ID.String() + "/rotate"
	nonce := v.Get("/system/keys/"+bot.ID.String()+"/rotate").Nonce(t, do)
	v.Post(do, "nonce", nonce, "deadline", "7d", "grace", "1h", "now", "true").
		Is(t, "the answer", http.StatusCreated, "The old key has ended: 1 of 1 instances refuse it")
	plane.Visit(t, p.URL).Get("/v1/admin/system-keys", "Authorization", "Bearer "+plain).Is(t, "the old key", http.StatusUnauthorized, "invalid_token")
}

// waits is a revoker that counts the waits for keys that have ended.
type waits struct {
	admin.Revoker
	keys  atomic.Int64
	fails atomic.Bool
}

func (w *waits) Wait(ctx context.Context, keys []store.ID, committed time.Time, watch func(coherence.Report)) (coherence.Report, error) {
	w.keys.Add(int64(len(keys)))
	if w.fails.Load() {
		return coherence.Report{}, errors.New("a failover may have undone it")
	}
	return w.Revoker.Wait(ctx, keys, committed, watch)
}

// TestAnUnusedSuccessorHasEndedWhenThePageShowsTheNext: an answer says that the keys it has ended
// are refused everywhere.
func TestAnUnusedSuccessorHasEndedWhenThePageShowsTheNext(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, root := p.MintAdmin(t)
	bot, _ := p.Mint(t, "bot", "bots:read")
	counted := &waits{Revoker: p.Keys.Revoker}
	p.Keys.Revoker = counted
	v := plane.Visit(t, p.URL)
	v.SignIn(root)
	ask, do := "/system/keys/"+bot.ID.String()+"/rotate", "/api/system-keys/"+bot.ID.String()+"/rotate"
	for ended := range int64(2) {
		nonce := v.Get(ask).Nonce(t, do)
		v.Post(do, "nonce", nonce, "deadline", "7d", "grace", "1h").Is(t, "the answer", http.StatusCreated, "lm_sys_")
		if got := counted.keys.Load(); got != ended {
			t.Errorf("after %d rotations the page has waited for %d keys", ended+1, got)
		}
	}
	counted.fails.Store(true)
	v.Post(do, "nonce", v.Get(ask).Nonce(t, do), "deadline", "7d", "grace", "1h").
		Is(t, "the answer to a wait that fails", http.StatusCreated, "An earlier successor of this key, which nobody has used, is ending")
}

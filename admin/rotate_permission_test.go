package admin_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestNobodyRotatesWhatTheyCouldNotCreate, by key, token and another handler's word, over REST
// and GraphQL: whoever rotates a key has its successor in hand.
func TestNobodyRotatesWhatTheyCouldNotCreate(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	both := []string{admin.PermissionCreate, admin.PermissionDelete}
	for _, c := range []struct {
		holds    []string
		isSystem bool
		target   admin.NewKey
		want     string
	}{
		{nil, false, admin.NewKey{}, "forbidden"},
		{both[:1], false, admin.NewKey{}, "forbidden"},
		{both[1:], false, admin.NewKey{}, "forbidden"},
		{[]string{admin.PermissionRotate}, false, admin.NewKey{}, "forbidden"},
		{both, false, admin.NewKey{}, ""},
		{both, false, admin.NewKey{Permissions: []string{"bots:read"}}, "escalation"},
		{append([]string{"bots:read"}, both...), false, admin.NewKey{Permissions: []string{"bots:read"}}, ""},
		{append([]string{"bots:read"}, both...), false, admin.NewKey{Permissions: []string{"bots:read", "bots:write"}}, "escalation"},
		{both, false, admin.NewKey{IsSystem: true}, "escalation"},
		{nil, true, admin.NewKey{IsSystem: true, Permissions: []string{"bots:read"}}, ""},
	} {
		c.target.Label = "target"
		for _, caller := range []*plane.Caller{p.ByKey(t, c.isSystem, c.holds...), p.ByToken(c.isSystem, c.holds...)} {
			target, _, err := p.Keys.Create(t.Context(), admin.CLI(), c.target)
			if err != nil {
				t.Fatal(err)
			}
			codes := caller.GraphQL(t, `mutation($id: ID!) { adminRotateSystemKey(id: $id) { id } }`, map[string]any{"id": target.ID.String()}, nil)
			a := caller.Call(t, http.MethodPost, plane.KeysPath+"/"+target.ID.String()+"/rotate", "")
			got := ""
			if a.Status != http.StatusCreated {
				got = refusalOf(t, a).Code
			}
			if got != c.want || strings.Join(codes, " ") != c.want {
				t.Errorf("%s with %s (system: %t) rotates a key with %s: %s, %v, want %q", caller.Kind, c.holds, c.isSystem, c.target.Permissions, a.Body, codes, c.want)
			}
			if old, err := p.Keys.Store.Key(t.Context(), target.ID); err != nil || (old.ReplacedBy != store.ID{}) != (c.want == "") {
				t.Errorf("the key is %+v, %v", old, err)
			}
		}
	}
	target, _ := p.Mint(t, "target")
	ask(t, p.ByName("bob"), http.MethodPost, plane.KeysPath+"/"+target.ID.String()+"/rotate", "", http.StatusForbidden, "forbidden")
	ask(t, p.ByName("ada"), http.MethodPost, plane.KeysPath+"/"+target.ID.String()+"/rotate", "", http.StatusCreated, "")
}

// TestAKeyRotatesItselfAndNothingElse if it holds system-keys:rotate and nothing more of the
// admin plane.
func TestAKeyRotatesItselfAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			bot, other := p.ByKey(t, false, admin.PermissionRotate, "bots:read"), p.ByKey(t, false, "bots:read")
			for _, id := range []string{other.ID, bot.ID} {
				path := plane.KeysPath + "/" + id
				ask(t, bot, http.MethodPost, path+"/rotate", "", http.StatusForbidden, "forbidden")
				ask(t, bot, http.MethodDelete, path, "", http.StatusForbidden, "forbidden")
				ask(t, bot, http.MethodGet, path, "", http.StatusForbidden, "forbidden")
			}
			ask(t, bot, http.MethodPost, plane.KeysPath, `{"label":"x"}`, http.StatusForbidden, "forbidden")
			ask(t, bot, http.MethodPost, selfPath+"/rotate", `{"label":"x"}`, http.StatusBadRequest, "invalid_request")
			ask(t, bot, http.MethodPost, selfPath+"/rotate", `{"permissions":["a:b"]}`, http.StatusBadRequest, "invalid_request")
			ask(t, other, http.MethodPost, selfPath+"/rotate", "", http.StatusForbidden, "forbidden")
			next := rotated(t, bot, selfPath, "")
			if want := []string{"bots:read", admin.PermissionRotate}; !slices.Equal(next.Data.Permissions, want) || next.Data.IsSystem ||
				next.Data.Replaces.String() != bot.ID || *next.Data.CreatedBy != bot.ID {
				t.Errorf("the successor is %+v", next.Data)
			}
			// It goes on by itself, here at once.
			second := p.As(plane.Bearer(next.Data.Key))
			third := rotated(t, second, selfPath, `{"now":true}`)
			ask(t, second, http.MethodGet, selfPath, "", http.StatusUnauthorized, "invalid_token")
			ask(t, p.As(plane.Bearer(third.Data.Key)), http.MethodGet, selfPath, "", http.StatusOK, "")
		})
	}
}

// TestOnlyAKeyHasASelf: the others are told that there is no calling key.
func TestOnlyAKeyHasASelf(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	for _, person := range []*plane.Caller{p.ByToken(true), p.ByToken(false, admin.PermissionRotate), p.ByName("ada")} {
		for method, path := range map[string]string{http.MethodGet: selfPath, http.MethodPost: selfPath + "/rotate"} {
			if a := ask(t, person, method, path, "", http.StatusNotFound, "not_found"); !strings.Contains(a.Body, "there is no calling key") {
				t.Errorf("%s %s", path, a.Body)
			}
		}
	}
	powerless := p.ByKey(t, false)
	powerless.Call(t, http.MethodGet, selfPath, "").Is(t, "a key without permissions", http.StatusOK, `"id":"`+powerless.ID)
	powerless.Call(t, http.MethodHead, selfPath, "").Must(t, http.StatusOK, nil)
	ask(t, p.ByKey(t, true), http.MethodPost, selfPath+"/rotate", "", http.StatusCreated, "")
	_, fenced, err := p.Keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "fenced", IsSystem: true, Networks: []string{"192.0.2.0/24"}})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, p.As(plane.Bearer(fenced)), http.MethodGet, selfPath, "", http.StatusForbidden, "network_not_allowed")
	ask(t, p.As(plane.Bearer(fenced)), http.MethodPost, selfPath+"/rotate", "", http.StatusForbidden, "network_not_allowed")
}

// TestARotationIsCheckedByTheRowOfItsTransaction: what the acting key held when the request
// came in does not count, nor where it was allowed then.
func TestARotationIsCheckedByTheRowOfItsTransaction(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			target, _ := p.Mint(t, "target", "bots:read")
			acting := func(want admin.NewKey) admin.Actor {
				want.Label = "acting"
				key, _, err := p.Keys.Create(t.Context(), admin.CLI(), want)
				if err != nil {
					t.Fatal(err)
				}
				// It held everything when the request came in.
				return admin.Actor{Key: key.ID, Type: store.ActorKey, Name: key.ID.String(), IsSystem: true}
			}
			both := []string{admin.PermissionCreate, admin.PermissionDelete}
			gone := acting(admin.NewKey{IsSystem: true})
			if _, err := p.Keys.Store.DeleteKey(t.Context(), gone.Key, nil); err != nil {
				t.Fatal(err)
			}
			for what, c := range map[string]struct {
				actor      admin.Actor
				want, self error
			}{
				"a revoked key":                {gone, store.ErrActorGone, store.ErrActorGone},
				"a key that may not create":    {acting(admin.NewKey{Permissions: []string{admin.PermissionDelete, "bots:read"}}), admin.ErrForbidden, admin.ErrForbidden},
				"a key that may not delete":    {acting(admin.NewKey{Permissions: []string{admin.PermissionCreate, "bots:read"}}), admin.ErrForbidden, admin.ErrForbidden},
				"a key that holds less":        {acting(admin.NewKey{Permissions: both}), admin.ErrEscalation, admin.ErrForbidden},
				"a key from another network":   {acting(admin.NewKey{IsSystem: true, Networks: []string{"192.0.2.0/24"}}), gate.OtherNetwork(), gate.OtherNetwork()},
				"a key that may rotate itself": {acting(admin.NewKey{Permissions: []string{admin.PermissionRotate}}), admin.ErrForbidden, nil},
			} {
				if _, err := p.Keys.Rotate(t.Context(), c.actor, target.ID, admin.RotateOptions{}); !errors.Is(err, c.want) || !admin.Settled(err) {
					t.Errorf("%s rotates another: %v", what, err)
				}
				_, err := p.Keys.RotateSelf(t.Context(), c.actor, admin.RotateOptions{})
				if !errors.Is(err, c.self) || c.self == nil && err != nil || err != nil && !admin.Settled(err) {
					t.Errorf("%s rotates itself: %v", what, err)
				}
			}
			if key, err := p.Keys.Store.Key(t.Context(), target.ID); err != nil || key.ReplacedBy != (store.ID{}) {
				t.Errorf("the key was rotated: %+v, %v", key, err)
			}
		})
	}
}

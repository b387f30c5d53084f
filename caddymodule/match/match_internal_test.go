package match

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/caller"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

var matched = verify.IdentityOf(&store.Key{
	ID: store.ID{1, 2, 3}, Label: "Twitch Bot", Permissions: []string{"robots:read", "bots:write", "users:read"}, IsSystem: true,
})

// TestWhatASystemKeyMatches says the same in each language of configuration.
func TestWhatASystemKeyMatches(t *testing.T) {
	t.Parallel()
	id := matched.ID.String()
	const other = "0199d3f0-0000-7000-8000-000000000001"
	for name, test := range map[string]struct {
		m    SystemKey
		want bool
	}{
		"a permission":                       {SystemKey{Permission: []string{"bots:write"}}, true},
		"a part of a permission":             {SystemKey{Permission: []string{"bots:read"}}, false},
		"the start of a permission":          {SystemKey{Permission: []string{"bots:writ"}}, false},
		"being a system admin is none":       {SystemKey{Permission: []string{"system-keys:read"}}, false},
		"all permissions":                    {SystemKey{Permission: []string{"users:read", "bots:write"}}, true},
		"one permission is missing":          {SystemKey{Permission: []string{"users:read", "bots:read"}}, false},
		"one of the permissions":             {SystemKey{AnyPermission: []string{"bots:read", "bots:write"}}, true},
		"none of the permissions":            {SystemKey{AnyPermission: []string{"bots:read", "users:write"}}, false},
		"the id":                             {SystemKey{ID: []string{id}}, true},
		"the id in capitals, among others":   {SystemKey{ID: []string{other, strings.ToUpper(id)}}, true},
		"another id":                         {SystemKey{ID: []string{other}}, false},
		"the label":                          {SystemKey{Label: []string{"Twitch Bot"}}, true},
		"the label in another case":          {SystemKey{Label: []string{"twitch bot", "twitch*"}}, false},
		"the start of the label":             {SystemKey{Label: []string{"Twitch"}}, false},
		"a prefix of the label":              {SystemKey{Label: []string{"Twitch *"}}, true},
		"a prefix that is the label":         {SystemKey{Label: []string{"Twitch Bot*"}}, true},
		"a prefix of another label":          {SystemKey{Label: []string{"Bot*"}}, false},
		"one of the labels":                  {SystemKey{Label: []string{"Discord*", "Twitch Bot"}}, true},
		"any label":                          {SystemKey{Label: []string{"*"}}, true},
		"all that is asked for":              {SystemKey{[]string{"bots:write"}, []string{"users:read", "bots:read"}, []string{id}, []string{"T*"}, nil}, true},
		"all but the permission":             {SystemKey{[]string{"bots:read"}, []string{"users:read", "bots:read"}, []string{id}, []string{"T*"}, nil}, false},
		"all but one of the permissions":     {SystemKey{[]string{"bots:write"}, []string{"bots:read"}, []string{id}, []string{"T*"}, nil}, false},
		"all but the id":                     {SystemKey{[]string{"bots:write"}, []string{"users:read"}, []string{other}, []string{"T*"}, nil}, false},
		"all but the label":                  {SystemKey{[]string{"bots:write"}, []string{"users:read"}, []string{id}, []string{"D*"}, nil}, false},
		"a permission that sorts at the end": {SystemKey{Permission: []string{"users:read"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for language, m := range inEveryLanguage(t, &test.m) {
				r := requestWith(t, told(gate.Decision{Identity: matched}, inFlight))
				if got, err := m.MatchWithError(r); err != nil || got != test.want {
					t.Errorf("%s: %v %v, want %v", language, got, err, test.want)
				}
				if got, err := m.MatchWithError(requestWith(t, nil)); err != nil || got {
					t.Errorf("%s: %v %v where nobody was let through", language, got, err)
				}
			}
		})
	}
}

// inEveryLanguage provisions the same matcher from JSON, from a Caddyfile and from CEL.
func inEveryLanguage(t *testing.T, m *SystemKey) map[string]caddyhttp.RequestMatcherWithError {
	t.Helper()
	text := caddyconfig.JSON(m, nil)
	var lists map[string][]string
	if err := json.Unmarshal(text, &lists); err != nil {
		t.Fatal(err)
	}
	var block, cel []string
	for name, values := range lists {
		block = append(block, fmt.Sprintf("%s %q", name, values[0]))
		for _, value := range values[1:] {
			block[len(block)-1] += fmt.Sprintf(" %q", value)
		}
		list := "['" + strings.Join(values, "','") + "']"
		if len(values) == 1 {
			list = "'" + values[0] + "'"
		}
		cel = append(cel, fmt.Sprintf("'%s': %s", name, list))
	}
	fromCaddyfile := new(SystemKey)
	if err := fromCaddyfile.UnmarshalCaddyfile(caddyfile.NewTestDispenser("system_key {\n" + strings.Join(block, "\n") + "\n}")); err != nil {
		t.Fatal(err)
	}
	expression := "system_key({" + strings.Join(cel, ", ") + "})"
	matchers := make(map[string]caddyhttp.RequestMatcherWithError)
	for language, raw := range map[string]caddy.ModuleMap{
		"JSON":       {"system_key": text},
		"Caddyfile":  {"system_key": caddyconfig.JSON(fromCaddyfile, nil)},
		"CEL":        {"expression": caddyconfig.JSON(expression, nil)},
		"not in not": {"not": json.RawMessage(`[{"not": [{"system_key": ` + string(text) + `}]}]`)},
	} {
		set, err := provisioned(t, raw)
		if err != nil {
			t.Fatalf("%s: %v", language, err)
		}
		matchers[language] = set
	}
	// A double negation of "nobody was let through" is false too, as it should be.
	return matchers
}

// provisioned loads a set of matchers as a route does.
func provisioned(t *testing.T, raw caddy.ModuleMap) (caddyhttp.MatcherSet, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	route := &caddyhttp.Route{MatcherSetsRaw: caddyhttp.RawMatcherSets{raw}}
	if err := route.ProvisionMatchers(ctx); err != nil {
		return nil, err
	}
	return route.MatcherSets[0], nil
}

// told is what a handler tells of a request that has come so far.
func told(d gate.Decision, steps ...func(*caller.Caller)) *caller.Caller {
	c := &caller.Caller{Decision: d}
	for _, step := range steps {
		step(c)
	}
	return c
}

func inFlight(c *caller.Caller)  { c.EnterFlight() }
func answered(c *caller.Caller)  { c.Withdraw(true) }
func withdrawn(c *caller.Caller) { c.Withdraw(false) }

// requestWith makes a request of which a handler has told this, with headers that a client
// would like to be believed.
func requestWith(t *testing.T, c *caller.Caller) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	r.Header = http.Header{
		"X-Lumio-Permissions": {"bots:write,users:read,bots:read"}, "X-Lumio-Key-Id": {matched.ID.String()}, "X-Lumio-Key-Label": {matched.Label},
		"X-Lumio-Auth-Type": {"system_key"},
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), new(caddyhttp.Server))
	if c != nil {
		c.Tell(r)
	}
	return r
}

// TestWhenSomebodyWasLetThrough goes through all that an earlier handler can have told.
func TestWhenSomebodyWasLetThrough(t *testing.T) {
	t.Parallel()
	good := gate.Decision{Identity: matched}
	refused := gate.Decision{Identity: matched, Refusal: gate.Invalid(gate.DeniedRevoked)}
	for name, test := range map[string]struct {
		c    *caller.Caller
		want bool
	}{
		"no handler before":                          {nil, false},
		"the provider, or the admin plane":           {told(good), true},
		"in flight":                                  {told(good, inFlight), true},
		"after the answer":                           {told(good, answered), false},
		"in an error route, after a failure":         {told(good, withdrawn), false},
		"in an error route, after a refusal":         {told(refused, withdrawn), false},
		"let through without a key, in an open gate": {told(gate.Decision{}, inFlight), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for language, m := range inEveryLanguage(t, &SystemKey{Label: []string{"*"}}) {
				if got, err := m.MatchWithError(requestWith(t, test.c)); err != nil || got != test.want {
					t.Errorf("%s: %v %v", language, got, err)
				}
			}
		})
	}
	r := requestWith(t, nil)
	caddyhttp.SetVar(r.Context(), "system_keys.caller", "a string that another handler can set")
	if got, _ := (&SystemKey{Label: []string{"*"}}).MatchWithError(r); got {
		t.Error("a variable of another type is believed")
	}
}

// TestAMatcherThatMeansNothingIsRefused in JSON and CEL. The Caddyfile has golden files.
func TestAMatcherThatMeansNothingIsRefused(t *testing.T) {
	t.Parallel()
	const id = "0199d3f0-0000-7000-8000-00000000000a"
	for text, want := range map[string]string{
		`{}`:                                 "say which keys",
		`{"permission": []}`:                 "permission: there is no value",
		`{"any_permission": []}`:             "any_permission: there is no value",
		`{"id": []}`:                         "id: there is no value",
		`{"label": []}`:                      "label: there is no value",
		`{"permission": [""]}`:               "permission",
		`{"permission": ["bots:*"]}`:         `"bots:*" is not of the form`,
		`{"permission": ["a:b", "a:b"]}`:     `permission: "a:b" is there twice`,
		`{"any_permission": ["Bots:read"]}`:  `any_permission: permissions: "Bots:read"`,
		`{"any_permission": ["a:b", "a:b"]}`: "is there twice",
		`{"id": ["1"]}`:                      "id: not a UUID",
		`{"id": ["00000000-0000-0000-0000-000000000000"]}`:      "id: not a UUID",
		`{"id": ["` + id + `", "` + strings.ToUpper(id) + `"]}`: "id: " + id + " is there twice",
		`{"label": [""]}`:                                 "label",
		`{"label": [" Bot"]}`:                             "white space at its ends",
		`{"label": [" *"]}`:                               "white space at its ends",
		`{"label": ["*Bot"]}`:                             "* can only be the last character",
		`{"label": ["Bot**"]}`:                            "* can only be the last character",
		`{"label": ["a\u0007"]}`:                          "must not contain control characters",
		`{"label": ["` + strings.Repeat("a", 101) + `"]}`: "at most 100",
		`{"permissions": ["a:b"]}`:                        "permissions",
		`{"permission": ["a:b"], "label": ["a", "a"]}`:    "is there twice",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			for language, raw := range map[string]caddy.ModuleMap{
				"JSON": {"system_key": json.RawMessage(text)},
				"CEL":  {"expression": caddyconfig.JSON("system_key("+text+")", nil)},
			} {
				_, err := provisioned(t, raw)
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v", language, err)
				}
			}
		})
	}
	for _, expression := range []string{
		`system_key()`, `system_key('bots:write')`, `system_key({'permission': 1})`, `system_key({'permission': ['a:b', 1]})`, `system_key({'id': '` + id + `', 'id': '` + id + `'})`,
	} {
		if _, err := provisioned(t, caddy.ModuleMap{"expression": caddyconfig.JSON(expression, nil)}); err == nil {
			t.Errorf("%s is taken", expression)
		}
	}
}

func TestMatchingDoesNotAllocate(t *testing.T) {
	for name, m := range map[string]*SystemKey{
		"one permission": {Permission: []string{"bots:write"}},
		"everything":     {[]string{"bots:write"}, []string{"bots:read", "users:read"}, []string{matched.ID.String()}, []string{"X", "T*"}, nil},
	} {
		if err := m.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
		r := requestWith(t, told(gate.Decision{Identity: matched}, inFlight))
		if allocs := testing.AllocsPerRun(100, func() {
			if got, err := m.MatchWithError(r); !got || err != nil {
				t.Fatal(got, err)
			}
		}); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

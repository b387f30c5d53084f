package caller

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestACallerPrintsAsNothing in every form in which a variable can be shown.
func TestACallerPrintsAsNothing(t *testing.T) {
	t.Parallel()
	c := &Caller{
		Decision: gate.Decision{
			Key: "lm_sys_canary", Identity: verify.IdentityOf(&store.Key{Label: "canary"}), Refusal: gate.Invalid(gate.DeniedRevoked),
		},
		stage: stageAnswered,
	}
	repl := caddy.NewReplacer()
	w := httptest.NewRecorder()
	r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", http.NoBody), repl, w, new(caddyhttp.Server))
	caddyhttp.SetVar(r.Context(), variable, c)
	vars := r.Context().Value(caddyhttp.VarsCtxKey)

	forms := map[string]string{
		"a placeholder":           repl.ReplaceAll("{http.vars."+variable+"}", ""),
		"a placeholder, if known": repl.ReplaceKnown("{http.vars."+variable+"}", ""),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		forms[verb] = fmt.Sprintf(verb, c)
	}
	for name, form := range forms {
		if form != "" {
			t.Errorf("%s is %q", name, form)
		}
	}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		fmt.Fprintf(&b, verb+" "+verb+"\n", vars, struct{ V any }{c})
	}
	_ = json.NewEncoder(&b).Encode(vars)
	_ = xml.NewEncoder(&b).Encode(struct{ V *Caller }{c})
	slog.New(slog.NewTextHandler(&b, nil)).Info("vars", slog.Any("caller", c), slog.Any("vars", vars))
	slog.New(slog.NewJSONHandler(&b, nil)).Info("vars", slog.Any("caller", c), slog.Any("vars", vars))
	for _, encoder := range []zapcore.Encoder{
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
	} {
		line, err := encoder.EncodeEntry(zapcore.Entry{}, []zap.Field{zap.Any("caller", c), zap.Any("vars", vars), zap.Reflect("reflected", c)})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(line.Bytes())
	}
	shown := template.Must(template.New("").Parse("{{.}} {{index .Vars \"system_keys.caller\"}} {{printf \"%#v\" .Caller}}\n"))
	if err := shown.Execute(&b, map[string]any{"Vars": vars, "Caller": c}); err != nil {
		t.Fatal(err)
	}
	if b.Len() < 500 || strings.Contains(b.String(), "canary") {
		t.Errorf("what holds the key shows it:\n%s", b.String())
	}
}

// TestWhatAHandlerInAnErrorRouteIsGiven looks at the credential before and after its
// check.
func TestWhatAHandlerInAnErrorRouteIsGiven(t *testing.T) {
	t.Parallel()
	k := gate.Decision{Key: "k"}
	for name, test := range map[string]struct {
		c       *Caller
		others  []string
		during  []string
		removed bool // by the gate
		after   []string
	}{
		"no handler before":           {nil, []string{"Basic x"}, []string{"Basic x"}, false, []string{"Basic x"}},
		"no key":                      {&Caller{stage: stageWithdrawn}, nil, nil, false, nil},
		"in flight":                   {&Caller{stage: stageInFlight, Decision: k}, nil, nil, false, nil},
		"after an error":              {&Caller{stage: stageWithdrawn, Decision: k}, nil, []string{"Bearer k"}, true, nil},
		"after an answer":             {&Caller{stage: stageAnswered, Decision: k}, nil, []string{"Bearer k"}, true, nil},
		"after Caddy's own handler":   {&Caller{Decision: k}, nil, []string{"Bearer k"}, true, nil},
		"the key stays":               {&Caller{stage: stageWithdrawn, Decision: k}, []string{"Basic x"}, []string{"Bearer k"}, false, []string{"Bearer k"}},
		"a credential of another one": {&Caller{stage: stageWithdrawn, Decision: k}, []string{"Basic x"}, []string{"Bearer k"}, true, []string{"Basic x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			if test.others != nil {
				r.Header["Authorization"] = test.others
			}
			others := test.c.RestoreKey(r)
			if got := r.Header["Authorization"]; !slices.Equal(got, test.during) {
				t.Errorf("the gate sees %q", got)
			}
			if test.removed {
				delete(r.Header, "Authorization")
			}
			RestoreCredential(r, others)
			if got := r.Header["Authorization"]; !slices.Equal(got, test.after) {
				t.Errorf("the upstream sees %q", got)
			}
		})
	}
}

// TestTheUserIsWhoWasLetThrough, also where another handler has named somebody
// before, whose word would otherwise be in the access log.
func TestTheUserIsWhoWasLetThrough(t *testing.T) {
	t.Parallel()
	identity := verify.IdentityOf(&store.Key{Label: "bot", Permissions: []string{"b:read", "a:read"}})
	want := map[string]any{
		"http.auth.user.id": identity.ID.String(), "http.auth.user.label": "bot",
		"http.auth.user.permissions": "a:read,b:read", "http.auth.user.type": "system_key",
	}
	for name, before := range map[string]map[string]any{
		"nobody before":   nil,
		"another user":    {"http.auth.user.id": "alice", "http.auth.user.label": "hers", "http.auth.user.type": "basic"},
		"a user of no id": {"http.auth.user.id": ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repl := caddy.NewReplacer()
			for key, value := range before {
				repl.Set(key, value)
			}
			w := httptest.NewRecorder()
			r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", http.NoBody), repl, w, new(caddyhttp.Server))
			(&Caller{Decision: gate.Decision{Identity: identity}}).Announce(r)
			for key, value := range want {
				if got, ok := repl.Get(key); !ok || got != value {
					t.Errorf("{%s} is %v, want %v", key, got, value)
				}
			}
			if got, ok := repl.Get("http.auth.user.nickname"); ok {
				t.Errorf("there is a nickname %v", got)
			}
			if Identity(r) != identity || In(request.Vars(r)).IdentityInFlight() != nil {
				t.Error("a second handler does not know who it is")
			}
		})
	}
}

// TestTheUserOfARequestThatFailedIsForTheAccessLogAlone has the request leave its
// flight, with an answer and by an error.
func TestTheUserOfARequestThatFailedIsForTheAccessLogAlone(t *testing.T) {
	t.Parallel()
	identity := verify.IdentityOf(&store.Key{Label: "bot", Permissions: []string{"a:read"}})
	names := []string{userID, userLabel, userPermissions, userType}
	for name, before := range map[string]map[string]any{
		"nobody before": nil,
		"another user":  {userID: "alice", userLabel: "hers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, answered := range []bool{true, false} {
				repl := caddy.NewReplacer()
				for key, value := range before {
					repl.Set(key, value)
				}
				w := httptest.NewRecorder()
				r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", http.NoBody), repl, w, new(caddyhttp.Server))
				c := &Caller{Decision: gate.Decision{Identity: identity, Key: "lm_sys_x"}, stage: stageInFlight}
				c.Announce(r)
				if In(request.Vars(r)).IdentityInFlight() != identity {
					t.Error("in flight the request is not known")
				}
				c.Withdraw(answered)
				if In(request.Vars(r)).IdentityInFlight() != nil || Identity(r) != nil {
					t.Error("the request is taken for one in flight after its end")
				}
				for _, name := range names {
					if value, known := repl.Get(name); known != answered {
						t.Errorf("answered %v: {%s} is %v", answered, name, value)
					}
				}
				repl.Set("http.response.duration", 1) // by logRequest
				if value, _ := repl.Get(userID); value != identity.ID.String() {
					t.Errorf("answered %v: the access log has %v", answered, value)
				}
			}
		})
	}
}

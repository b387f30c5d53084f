package upstream_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/upstream"
)

// who answers with the header that a handler reads, and whose request it is.
func who(w http.ResponseWriter, r *http.Request) {
	id, ok := upstream.FromContext(r.Context())
	if ok {
		w.Header().Set("Caller", id.Label)
	}
	for name, values := range r.Header {
		w.Header()["Saw-"+name] = values
	}
}

func serve(handler http.Handler, header http.Header, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, http.NoBody)
	r.Header = header
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func goodAssertion() string {
	one := signerOf("one")
	return one.sign(one.header(), vectorClaims())
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	v := makeVectors()
	down := &proxy{down: true}
	verifier, dead := verifierOf(v), verifierOf(v, upstream.WithHTTPClient(&http.Client{Transport: down}))
	handler := http.HandlerFunc(who)
	good, forged := goodAssertion(), goodAssertion()[:300]
	for name, test := range map[string]struct {
		handler   http.Handler
		header    http.Header
		status    int
		code      string
		challenge string
		retry     string
	}{
		"a good one":                   {verifier.Require("bots:read")(handler), http.Header{"X-Lumio-Assertion": {good}}, 200, "", "", ""},
		"any key":                      {verifier.Require()(handler), http.Header{"X-Lumio-Assertion": {good}}, 200, "", "", ""},
		"all that is required":         {verifier.Require("bots:read", "bots:write")(handler), http.Header{"X-Lumio-Assertion": {good}}, 200, "", "", ""},
		"nobody, where none need be":   {verifier.Identify(handler), http.Header{}, 200, "", "", ""},
		"somebody, where none need be": {verifier.Identify(handler), http.Header{"X-Lumio-Assertion": {good}}, 200, "", "", ""},
		"nobody":                       {verifier.Require()(handler), http.Header{}, 401, "unauthorized", `Bearer realm="lumio"`, ""},
		"headers alone":                {verifier.Require()(handler), http.Header{"X-Lumio-Key-Id": {"x"}}, 401, "unauthorized", `Bearer realm="lumio"`, ""},
		"headers alone, where none need be": {
			verifier.Identify(handler), http.Header{"X-Lumio-Key-Id": {"x"}}, 401, "unauthorized", `Bearer realm="lumio"`, "",
		},
		"headers alone, in another spelling": {
			verifier.Identify(handler), http.Header{"x_lumio.key_id": {"x"}}, 401, "unauthorized", `Bearer realm="lumio"`, "",
		},
		"two":          {verifier.Require()(handler), http.Header{"X-Lumio-Assertion": {good, good}}, 401, "invalid_assertion", `Bearer realm="lumio"`, ""},
		"a forged one": {verifier.Require()(handler), http.Header{"X-Lumio-Assertion": {forged}}, 401, "invalid_assertion", `Bearer realm="lumio"`, ""},
		"a forged one, where none need be": {
			verifier.Identify(handler), http.Header{"X-Lumio-Assertion": {forged}}, 401, "invalid_assertion", `Bearer realm="lumio"`, "",
		},
		"a permission that is missing": {
			verifier.Require("bots:read", "bots:delete")(handler),
			http.Header{"X-Lumio-Assertion": {good}},
			403, "insufficient_scope",
			`Bearer realm="lumio", error="insufficient_scope", scope="bots:read bots:delete"`, "",
		},
		"no keys":                        {dead.Require()(handler), http.Header{"X-Lumio-Assertion": {good}}, 503, "unavailable", "", "1"},
		"no keys, where none need be":    {dead.Identify(handler), http.Header{"X-Lumio-Assertion": {good}}, 503, "unavailable", "", "1"},
		"no keys, and nobody needs them": {dead.Identify(handler), http.Header{}, 200, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serve(test.handler, test.header, "/bots/17")
			if w.Code != test.status || !strings.Contains(w.Body.String(), `"code":"`+test.code) && test.code != "" {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, test.status, test.code)
			}
			if got := w.Header().Get("WWW-Authenticate"); got != test.challenge {
				t.Errorf("the challenge is %q", got)
			}
			if got := w.Header().Get("Retry-After"); got != test.retry {
				t.Errorf("to be retried after %q", got)
			}
			if strings.Contains(w.Body.String(), good) || test.status == 200 && w.Body.Len() > 0 {
				t.Errorf("the body is %s", w.Body)
			}
		})
	}
}

// TestAnAnswerIsNotForOthers looks at what caches between the proxy and the service go by.
func TestAnAnswerIsNotForOthers(t *testing.T) {
	t.Parallel()
	good, other := http.Header{"X-Lumio-Assertion": {goodAssertion()}}, http.Header{"X-Acme-Assertion": {goodAssertion()}}
	verifier, renamed := verifierOf(makeVectors()), verifierOf(makeVectors(), upstream.WithHeaderPrefix("X-Acme-"))
	handler := http.HandlerFunc(who)
	public := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Header().Add("Vary", "Accept")
	})
	for name, test := range map[string]struct {
		handler       http.Handler
		header        http.Header
		vary, control []string
	}{
		"of a key":                  {verifier.Require()(handler), good, []string{"X-Lumio-Key-Id"}, []string{"private"}},
		"through two handlers":      {verifier.Identify(verifier.Require()(handler)), good, []string{"X-Lumio-Key-Id"}, []string{"private"}},
		"with another prefix":       {renamed.Require()(handler), other, []string{"X-Acme-Key-Id"}, []string{"private"}},
		"the service says it":       {verifier.Require()(public), good, []string{"X-Lumio-Key-Id", "Accept"}, []string{"public, max-age=60"}},
		"where none need be":        {verifier.Identify(handler), good, []string{"X-Lumio-Key-Id"}, []string{"private"}},
		"nobody where none need be": {verifier.Identify(handler), http.Header{}, []string{"X-Lumio-Key-Id"}, nil},
		"a permission is missing":   {verifier.Require("bots:delete")(handler), good, []string{"X-Lumio-Key-Id"}, []string{"no-store"}},
		"nobody":                    {verifier.Require()(handler), http.Header{}, nil, []string{"no-store"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := serve(test.handler, test.header, "/bots/17").Header()
			if diff := cmp.Diff(test.vary, header["Vary"]); diff != "" {
				t.Errorf("Vary: %s", diff)
			}
			if diff := cmp.Diff(test.control, header["Cache-Control"]); diff != "" {
				t.Errorf("Cache-Control: %s", diff)
			}
		})
	}
}

// TestAnAnswerSaysWhatWasAsked, to the proxy. Who has not come through it learns nothing.
func TestAnAnswerSaysWhatWasAsked(t *testing.T) {
	t.Parallel()
	verifier, good := verifierOf(makeVectors()), http.Header{"X-Lumio-Assertion": {goodAssertion()}}
	handler := http.HandlerFunc(who)
	for name, test := range map[string]struct {
		handler http.Handler
		header  http.Header
		want    []string
	}{
		"what the key has":   {verifier.Require("bots:read", "bots:write")(handler), good, []string{"bots:read,bots:write"}},
		"what the key lacks": {verifier.Require("bots:delete")(handler), good, []string{"bots:delete"}},
		"one after another":  {verifier.Require("bots:read")(verifier.Require("bots:write")(handler)), good, []string{"bots:read", "bots:write"}},
		"nothing":            {verifier.Require()(handler), good, nil},
		"of nobody":          {verifier.Require("bots:read")(handler), http.Header{}, nil},
	} {
		if got := serve(test.handler, test.header, "/bots/17").Header().Values("X-Lumio-Required"); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestWhatAHandlerReads is what was signed, whatever else was sent.
func TestWhatAHandlerReads(t *testing.T) {
	t.Parallel()
	good := goodAssertion()
	sent := http.Header{
		"X-Lumio-Assertion": {good}, "X-Lumio-Key-Id": {"forged"}, "X-Lumio-Permissions": {"admin:access"}, "X-Lumio-Else": {"forged"},
		"x-lumio-key-id": {"forged"}, "X_Lumio_Key_Label": {"forged"}, "X.lumio-key_id": {"forged"}, "Accept": {"*/*"}, "X-Lumiose": {"else"},
	}
	before := sent.Clone()
	w := serve(verifierOf(makeVectors()).Require()(http.HandlerFunc(who)), sent, "/bots/17")
	want := http.Header{
		"Caller": {"Ünïcode Bot 🤖"}, "Saw-Accept": {"*/*"}, "Saw-X-Lumiose": {"else"},
		"Saw-X-Lumio-Assertion": {good}, "Saw-X-Lumio-Auth-Type": {"system_key"}, "Saw-X-Lumio-Key-Id": {vectorID},
		"Saw-X-Lumio-Key-Label":   {"%C3%9Cn%C3%AFcode Bot %F0%9F%A4%96"},
		"Saw-X-Lumio-Permissions": {"bots:read,bots:write"},
		"Vary":                    {"X-Lumio-Key-Id"}, "Cache-Control": {"private"},
	}
	if diff := cmp.Diff(want, w.Header()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, sent); diff != "" {
		t.Errorf("the caller's header was changed:\n%s", diff)
	}
}

// TestNamesAreFoldedAsTheProxyDoes has the names that the test of the proxy's own
// rule reads too.
func TestNamesAreFoldedAsTheProxyDoes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var names struct {
		Prefix        string
		Owned, Others []string
	}
	if err := json.Unmarshal(text, &names); err != nil {
		t.Fatal(err)
	}
	handler := verifierOf(makeVectors(), upstream.WithHeaderPrefix(names.Prefix)).Identify(http.HandlerFunc(who))
	for status, all := range map[int][]string{http.StatusUnauthorized: names.Owned, http.StatusOK: names.Others} {
		if len(all) < 10 {
			t.Errorf("there are %d names", len(all))
		}
		for _, name := range all {
			if w := serve(handler, http.Header{name: {"forged"}}, "/bots/17"); w.Code != status {
				t.Errorf("%q without an assertion: %d, want %d", name, w.Code, status)
			}
		}
	}
}

// TestHandlersOfOneVerifierVerifyOnce, also where a part of the path is gone by then;
// another verifier does not take its word.
func TestHandlersOfOneVerifierVerifyOnce(t *testing.T) {
	t.Parallel()
	v := makeVectors()
	one, other := verifierOf(v), upstream.New("https://keys.example.com/", "another", upstream.WithHTTPClient(serving(v.JWKS)),
		upstream.WithLogger(slog.New(slog.DiscardHandler)))
	inner := http.StripPrefix("/bots", one.Require("bots:write")(http.HandlerFunc(who)))
	header := http.Header{"X-Lumio-Assertion": {goodAssertion()}}
	if w := serve(one.Identify(inner), header, "/bots/17"); w.Code != http.StatusOK || w.Header().Get("Caller") == "" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := serve(http.StripPrefix("/bots", one.Require()(http.HandlerFunc(who))), header, "/bots/17"); w.Code != http.StatusOK {
		t.Errorf("under a prefix that is stripped: %d %s", w.Code, w.Body)
	}
	if w := serve(one.Identify(other.Require()(http.HandlerFunc(who))), header, "/bots/17"); w.Code != http.StatusUnauthorized {
		t.Errorf("for another audience: %d %s", w.Code, w.Body)
	}
	if w := serve(other.Identify(http.HandlerFunc(who)), http.Header{}, "/"); w.Header().Get("Caller") != "" {
		t.Error("nobody has an identity")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	v := makeVectors()
	good := goodAssertion()
	var answered error
	handler := verifierOf(v, upstream.WithHeaderPrefix("X-Acme-"), upstream.WithErrorHandler(func(w http.ResponseWriter, _ *http.Request, err error) {
		answered = err
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "mine")
	})).Require("bots:read")(http.HandlerFunc(who))
	if w := serve(handler, http.Header{"X-Acme-Assertion": {good}}, "/bots/17"); w.Code != http.StatusOK || w.Header().Get("Saw-X-Acme-Key-Id") != vectorID {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	if w := serve(handler, http.Header{"X-Lumio-Assertion": {good}}, "/bots/17"); w.Code != http.StatusTeapot || w.Body.String() != "mine" || answered == nil {
		t.Errorf("got %d %s, %v", w.Code, w.Body, answered)
	}
	for name, make := range map[string]func(){
		"no audience":             func() { upstream.New("https://a/", "") },
		"a path for a URL":        func() { upstream.New("/keys", "a") },
		"a file for a URL":        func() { upstream.New("file:///keys", "a") },
		"a base without a scheme": func() { upstream.New("https://a/", "a", upstream.WithBaseURL("api.example.com")) },
		"a base with a query":     func() { upstream.New("https://a/", "a", upstream.WithBaseURL("https://a/?b")) },
		"a leeway of an hour":     func() { upstream.New("https://a/", "a", upstream.WithLeeway(1<<42)) },
		"a prefix of one part":    func() { upstream.New("https://a/", "a", upstream.WithHeaderPrefix("X-")) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was taken", name)
				}
			}()
			make()
		}()
	}
}

// TestClientTarget is what the proxy signs for the same request.
func TestClientTarget(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		target string
		header http.Header
		want   string
	}{
		"its own host":          {"http://API.example.com:80/a%2Fb?c=d", nil, "http://api.example.com/a%2Fb"},
		"over TLS":              {"https://api.example.com:443/", nil, "https://api.example.com/"},
		"as the proxy says":     {"http://internal/x", http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"API.example.com:443"}}, "https://api.example.com/x"},
		"two slashes":           {"http://a//b//c", nil, "http://a//b//c"},
		"an escape that is not": {"http://a/%41", nil, "http://a/%41"},
		"no path":               {"http://a", nil, "http://a/"},
		"a query and no path":   {"http://a?b=c", nil, "http://a/"},
	} {
		r := httptest.NewRequest(http.MethodGet, test.target, http.NoBody)
		maps.Copy(r.Header, test.header)
		if got := upstream.ClientTarget(r); got != (upstream.Target{Method: http.MethodGet, URL: test.want}) {
			t.Errorf("%s: %v, want %s", name, got, test.want)
		}
	}
}

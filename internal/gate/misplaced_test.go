package gate_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// whole is a key of full length, which nobody needs to know.
var whole = token.New([32]byte{1}).Mint([16]byte{2}, [32]byte{3})

func basicOf(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }

// TestAKeyInTheWrongPlaceIsRefused puts one everywhere, at a gate that is open and at
// one that is not, alone and beside a good credential.
func TestAKeyInTheWrongPlaceIsRefused(t *testing.T) {
	t.Parallel()
	type place struct{ field, value, query, named string }
	places := []place{
		{"Cookie", "a=b; token=" + whole, "", "a cookie"},
		{"Cookie", whole + "=1", "", "a cookie"},
		{"Authorization", basicOf("user:" + whole), "", "the Basic credentials in the header field Authorization"},
		{"Authorization", basicOf(whole + ":"), "", "the Basic credentials in the header field Authorization"},
		{"X-Forwarded-Authorization", basicOf(":" + whole), "", "the header field X-Forwarded-Authorization"},
		{whole, "1", "", "the name of a header field"},
		{"X-Api-Key", "%6cm_sys_" + whole[7:], "", "the header field X-Api-Key"},
		{"X-Api-Key", "%256cm%255Fsys_" + whole[7:], "", "the header field X-Api-Key"},
		{"X-Api-Key", "LM_SYS_" + whole[7:27], "", "the header field X-Api-Key"},
		{"X_api_key", whole, "", "the header field X_api_key"},
		{query: "lm_sys_" + whole[7:27], named: "the query"},
		{query: whole + "=1", named: "the query"},
		{query: "q=%256cm%5fsys_" + whole[7:], named: "the query"},
		{query: "a=1;b=" + whole, named: "the query"},
		{query: "a=1%26b=" + whole, named: "the query"},
		{query: "%zz=" + whole, named: "the query"},
	}
	for _, field := range []string{
		"X-Api-Key", "Api-Key", "X-Auth-Token", "Private-Token", "X-Forwarded-Authorization", "Proxy-Authorization", "Sec-Websocket-Protocol", "User-Agent", "Referer", "Accept",
	} {
		places = append(places, place{field: field, value: "before " + whole + " after", named: "the header field " + field})
	}
	for _, name := range []string{"access_token", "api_key", "key", "token", "q"} {
		places = append(places, place{query: "a=1&" + name + "=" + whole + "&b=2", named: "the query"})
	}
	for _, p := range places {
		for _, authorization := range []string{"", "Bearer " + live} {
			for _, open := range []bool{false, true} {
				h := http.Header{"X-Other": {"stays"}}
				if p.field != "" {
					h[p.field] = []string{"harmless", p.value}
				}
				if authorization != "" && p.field != "Authorization" {
					h["Authorization"] = []string{authorization}
				} else if p.field == "Authorization" {
					h[p.field] = []string{p.value}
				}
				r := request("", "/?"+p.query, h)
				v := new(verifier)
				_, refusal := check(newGate(t, func(c *gate.Config) { c.Passthrough = open }), r, v, nil)
				if refusal == nil || refusal.Status != http.StatusBadRequest || refusal.Code != "invalid_request" || refusal.Reason != gate.DeniedMisplaced {
					t.Errorf("%+v: %v", p, refusal)
					continue
				}
				if !strings.Contains(refusal.Message, p.named+":") || strings.Contains(refusal.Message, whole[7:27]) {
					t.Errorf("%+v: %s", p, refusal.Message)
				}
				if diff := cmp.Diff(http.Header{"Www-Authenticate": {`Bearer realm="lumio", error="invalid_request"`}}, refusal.Header); diff != "" {
					t.Error(diff)
				}
				if v.asked != 0 {
					t.Errorf("%+v: the credential beside it was verified", p)
				}
				if left := fmt.Sprint(r.Header, r.URL); token.Holds(left) || p.field != "" && len(r.Header[p.field]) > 0 || r.Header.Get("X-Other") != "stays" {
					t.Errorf("%+v: an error route gets %s", p, left)
				}
			}
		}
	}
}

// TestWhatOnlyLooksLikeAKeyPasses: documentation, searches, and others' names.
func TestWhatOnlyLooksLikeAKeyPasses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"lm_sys_", "keys begin with lm_sys_ here", "lm_sys_" + whole[7:26], "%6cm_sys_abc", "lm_sys_last_visited_dashboard_page", whole[1:], whole[7:]} {
		for name, r := range map[string]*http.Request{
			"a field":  request("", "", http.Header{"X-Api-Key": {text}, "Referer": {"https://h/" + text}}),
			"a cookie": request("", "", http.Header{"Cookie": {"a=" + text}}),
			"a query":  request("", "/?q="+strings.ReplaceAll(text, " ", "+"), nil),
			"a path":   request("", "/"+strings.ReplaceAll(text, " ", "+"), nil),
			"Basic":    request("", "", http.Header{"Authorization": {basicOf("lm_sys_user:" + text)}}),
		} {
			before := fmt.Sprint(r.Header, r.URL)
			if _, refusal := check(newGate(t, func(c *gate.Config) { c.Passthrough = true }), r, new(verifier), nil); refusal != nil {
				t.Errorf("%q in %s: %v", text, name, refusal)
			}
			if after := fmt.Sprint(r.Header, r.URL); after != before {
				t.Errorf("%q in %s: %s became %s", text, name, before, after)
			}
		}
	}
}

// TestAnOwnedFieldIsStrippedFirst: what a client sends there reaches nobody.
func TestAnOwnedFieldIsStrippedFirst(t *testing.T) {
	t.Parallel()
	r := request("", "", http.Header{"X-Lumio-Key": {whole}, "x_lumio_token": {whole}})
	if _, refusal := check(newGate(t, func(c *gate.Config) { c.Passthrough = true }), r, new(verifier), nil); refusal != nil || len(r.Header) > 0 {
		t.Errorf("%v, %v", refusal, r.Header)
	}
}

// TestAnEncodedKeyInAuthorizationIsABrokenOne: it is not passed on as anonymous.
func TestAnEncodedKeyInAuthorizationIsABrokenOne(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"Bearer %6cm_sys_" + whole[7:], "Token lm%255fsys_" + whole[7:]} {
		r := request("", "", http.Header{"Authorization": {value}})
		_, refusal := check(newGate(t, func(c *gate.Config) { c.Passthrough = true }), r, new(verifier), nil)
		if refusal == nil || refusal.Reason != gate.DeniedMalformed || len(r.Header) > 0 {
			t.Errorf("%q: %v, %v is left", value, refusal, r.Header)
		}
	}
}

// TestATrailerWithAKeyIsTakenAway: the upstream has the request by then.
func TestATrailerWithAKeyIsTakenAway(t *testing.T) {
	t.Parallel()
	r := request("", "", nil)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), -1
	r.Trailer = http.Header{"X-Sum": nil, "X-Api-Key": nil}
	if _, refusal := check(newGate(t, func(c *gate.Config) { c.Passthrough = true }), r, new(verifier), nil); refusal != nil {
		t.Fatal(refusal)
	}
	r.Trailer["X-Api-Key"], r.Trailer["X-Sum"] = []string{"%6cm_sys_" + whole[7:]}, []string{"1"}
	if _, err := io.ReadAll(r.Body); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(http.Header{"X-Sum": {"1"}}, r.Trailer); diff != "" {
		t.Error(diff)
	}
}

// FuzzMisplaced holds that a whole key never gets past an open gate, wherever and
// however it is written.
func FuzzMisplaced(f *testing.F) {
	f.Add("X-Api-Key", "a", "b", uint64(0), uint64(0), byte(0))
	f.Add("Cookie", "a=", ";", uint64(1), uint64(2), byte(1))
	f.Add("Authorization", "Token ", "", ^uint64(0), uint64(0), byte(2))
	f.Add("Authorization", "user:", "", uint64(0), uint64(0), byte(3))
	f.Add("Proxy-Authorization", "%", "=", uint64(0), ^uint64(0), byte(3))
	f.Fuzz(func(t *testing.T, name, before, after string, once, twice uint64, way byte) {
		var spelled strings.Builder
		for i := range len(whole) {
			one := whole[i : i+1]
			switch {
			case twice>>(i%64)&1 == 1:
				one = fmt.Sprintf("%%25%02X", one)
			case once>>(i%64)&1 == 1:
				one = fmt.Sprintf("%%%02x", one)
			}
			spelled.WriteString(one)
		}
		if strings.HasSuffix(before, "%") || strings.Contains(before[max(0, len(before)-8):], "%") {
			before += "=" // an escape of its own would eat the beginning
		}
		value := before + spelled.String() + after
		r := request("", "", nil)
		switch way % 4 {
		case 0:
			r.Header[http.CanonicalHeaderKey(name)] = []string{"first", value}
		case 1:
			r.Header["Cookie"] = []string{value}
		case 2:
			r.URL.RawQuery = value
		case 3:
			r.Header[http.CanonicalHeaderKey(name)] = []string{basicOf(value)}
		}
		g := newGate(t, func(c *gate.Config) { c.Passthrough = true })
		if _, refusal := check(g, r, new(verifier), nil); refusal != nil {
			if strings.Contains(refusal.Message, whole[29:72]) {
				t.Errorf("the refusal says %q", refusal.Message)
			}
			if left := fmt.Sprint(r.Header, r.URL.RawQuery); token.Holds(left) {
				t.Errorf("an error route gets %s", left)
			}
			return
		}
		if len(r.Header) > 0 || r.URL.RawQuery != "" { // it may have been in a field that is owned
			t.Errorf("%v ?%s is passed on", r.Header, r.URL.RawQuery)
		}
	})
}

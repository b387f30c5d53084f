package upstream_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/upstream"
)

// TestNestedTextsAreRefused has 64 levels and 65 in each text that is decoded.
func TestNestedTextsAreRefused(t *testing.T) {
	t.Parallel()
	levels := func(n int) json.RawMessage { return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	one := signerOf("one")
	for name, test := range map[string]struct {
		header, claims, set int
		want                error
	}{
		"64 in all":          {header: 63, claims: 63, set: 62},
		"65 in the header":   {header: 64, want: upstream.ErrInvalid},
		"65 in the claims":   {claims: 64, want: upstream.ErrInvalid},
		"65 in the key set":  {set: 63, want: upstream.ErrUnavailable},
		"many in the header": {header: 1000, want: upstream.ErrInvalid},
	} {
		v := makeVectors()
		if test.set > 0 {
			set, err := json.Marshal(object{"keys": []any{one.jwk(nil), levels(test.set)}})
			if err != nil {
				t.Fatal(err)
			}
			v.JWKS = set
		}
		assertion := one.sign(
			with(one.header(), object{"x": levels(max(test.header, 1))}), with(vectorClaims(), object{"x": levels(max(test.claims, 1))}),
		)
		_, err := verifierOf(v).Verify(requestOf(vector{Method: "GET", Path: "/bots/17", Assertion: assertion}))
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// TestTimesOfNoCalendarAreRefused, and those that are text.
func TestTimesOfNoCalendarAreRefused(t *testing.T) {
	t.Parallel()
	one := signerOf("one")
	for name, changes := range map[string]object{
		"an expiry as a text of digits":   {"exp": "1767225650"},
		"a time of issue as text":         {"iat": "1767225590"},
		"times that overflow":             {"iat": int64(9223372036854775747), "exp": int64(9223372036854775807)},
		"times behind the calendar":       {"iat": 253402300790, "exp": 253402300800},
		"times before the calendar":       {"iat": -10, "exp": vectorNow + 50},
		"an expiry with a fraction":       {"exp": vectorNow + 49.5},
		"an expiry that is null":          {"exp": json.RawMessage("null")},
		"an expiry beyond what is stored": {"exp": json.RawMessage("1e400")},
	} {
		_, err := verifierOf(makeVectors()).Verify(requestOf(vector{
			Method: "GET", Path: "/bots/17", Assertion: one.sign(one.header(), with(vectorClaims(), changes)),
		}))
		if !errors.Is(err, upstream.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

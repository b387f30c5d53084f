package upstream_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/upstream"
)

// TestUnboundOnesAreVerifiedOnce shows it by public keys that cannot be read any more.
// They are too old to verify anything with, and what is remembered still passes.
func TestUnboundOnesAreVerifiedOnce(t *testing.T) {
	t.Parallel()
	one := signerOf("one")
	sign := func(changes object) string { return one.sign(one.header(), with(vectorClaims(), changes)) }
	unbound := sign(object{"htm": nil, "htu": nil})
	parts := strings.Split(unbound, ".")
	for name, test := range map[string]struct {
		first, second string
		later         time.Duration
		option        upstream.Option
		want          error
	}{
		"the same":                         {first: unbound, second: unbound},
		"the same, in the last moment":     {first: unbound, second: unbound, later: 54 * time.Second},
		"the same, when it has expired":    {first: unbound, second: unbound, later: 55 * time.Second, want: upstream.ErrInvalid},
		"one that was not there before":    {first: unbound, second: sign(object{"htm": nil, "htu": nil, "jti": "x"}), want: upstream.ErrUnavailable},
		"the same with another signature":  {first: unbound, second: parts[0] + "." + parts[1] + "." + encode(make([]byte, 64)), want: upstream.ErrUnavailable},
		"the same in another spelling":     {first: unbound, second: unbound + "=", want: upstream.ErrInvalid},
		"one that was made for a request":  {first: sign(nil), second: sign(nil), want: upstream.ErrUnavailable},
		"one for another audience":         {first: sign(object{"aud": "b", "htm": nil, "htu": nil}), second: sign(object{"aud": "b", "htm": nil, "htu": nil}), want: upstream.ErrUnavailable},
		"one that was not signed":          {first: parts[0] + "." + parts[1] + "." + encode(make([]byte, 64)), second: parts[0] + "." + parts[1] + "." + encode(make([]byte, 64)), want: upstream.ErrUnavailable},
		"the same where none may be bound": {first: unbound, second: unbound, option: upstream.WithBaseURL(vectorBase), want: upstream.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock, p := time.Unix(vectorNow, 0), newProxy(one)
			p.latency = 0
			option := test.option
			if option == nil {
				option = upstream.WithoutBinding()
			}
			verifier := p.verifier(upstream.WithClock(func() time.Time { return clock }), option)
			verify := func(assertion string) error {
				_, err := verifier.Verify(requestOf(vector{Method: "GET", Path: "/bots/17", Assertion: assertion}))
				return err
			}
			_ = verify(test.first)
			p.change(func() { p.down = true })
			verifier.ForgetKeys()
			clock = clock.Add(test.later)
			if err := verify(test.second); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// TestWhatIsRememberedIsBounded by number, by time, and by the length of each.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	v, one := makeSharedVectors(), sharedOf("one")
	clock := time.Unix(vectorNow, 0)
	verifier := verifierOf(v, upstream.WithoutBinding(), upstream.WithClock(func() time.Time { return clock }))
	verify := func(id string, more object) {
		t.Helper()
		c := with(vectorClaims(), object{"htm": nil, "htu": nil, "jti": id, "iat": clock.Unix(), "exp": clock.Unix() + 60})
		if _, err := verifier.Verify(requestOf(vector{Method: http.MethodGet, Path: "/", Assertion: one.sign(one.header(), with(c, more))})); err != nil {
			t.Fatal(err)
		}
	}
	verify("long", object{"more": strings.Repeat("x", 4<<10)})
	if n := verifier.Remembered(); n != 0 {
		t.Errorf("%d are remembered after one that is too long", n)
	}
	for i := range 3 * upstream.MaxRemembered {
		verify(fmt.Sprint(i), nil)
		if n := verifier.Remembered(); n > upstream.MaxRemembered {
			t.Fatalf("%d are remembered", n)
		}
	}
	for i := range 2 { // the older ones have expired each time
		clock = clock.Add(71 * time.Second)
		verify(fmt.Sprint("late", i), nil)
	}
	if n := verifier.Remembered(); n != 2 {
		t.Errorf("%d are remembered after their life", n)
	}
}

package header_test

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

func newOwner(tb testing.TB, prefix string) *header.Owner {
	tb.Helper()
	owner, err := header.New(prefix)
	if err != nil {
		tb.Fatal(err)
	}
	return owner
}

// TestOwns reads the names that package upstream has to agree on, which imports
// nothing of this package.
func TestOwns(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../upstream/testdata/names.json")
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
	owner := newOwner(t, names.Prefix)
	for want, all := range map[bool][]string{true: names.Owned, false: names.Others} {
		if len(all) < 10 {
			t.Errorf("there are %d names", len(all))
		}
		for _, name := range all {
			if got := owner.Owns(name); got != want {
				t.Errorf("Owns(%q) = %v", name, got)
			}
		}
	}
}

func TestStripHeader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		in, want http.Header
	}{
		{
			"a request without an owned name stays as it is",
			http.Header{"Accept": {"*/*"}, "Authorization": {"Bearer x"}, "X-Lumio": {"1"}, "X-Forwarded-For": {"a", "b"}},
			http.Header{"Accept": {"*/*"}, "Authorization": {"Bearer x"}, "X-Lumio": {"1"}, "X-Forwarded-For": {"a", "b"}},
		},
		{
			"every spelling goes, however often it is repeated",
			http.Header{
				"X-Lumio-Key-Id": {"1", "2"}, "x-lumio-key-id": {"3"}, "X_lumio_key_id": {"4"}, "X.lumio.key.id": {"5"},
				"X-Lumio_Key.Id": {"6"}, "X-Lumio-Anything": {"7"}, "X-Lumio-": {"8"}, "X-Lumio-Assertion": {"9"}, "Host": {"h"},
			},
			http.Header{"Host": {"h"}},
		},
		{
			"an owned token in Connection goes, and with it the empty field",
			http.Header{"Connection": {"X-Lumio-Key-Id"}},
			http.Header{},
		},
		{
			"tokens that are not owned stay",
			http.Header{"Connection": {"close, X-Lumio-Key-Id,keep-alive"}},
			http.Header{"Connection": {"close, keep-alive"}},
		},
		{
			"case, separators, white space and empty tokens hide nothing",
			http.Header{"Connection": {" ,\tX-LUMIO-KEY-ID\t,, x_lumio_key_label ,X.Lumio.Permissions, Upgrade ,"}},
			http.Header{"Connection": {"Upgrade"}},
		},
		{
			"each line of Connection is looked at, and the others stay byte by byte",
			http.Header{"Connection": {"keep-alive ,  TE", "x-lumio-auth-type", "Upgrade,X-Lumio-Key-Id", "x-hop ,y"}},
			http.Header{"Connection": {"keep-alive ,  TE", "Upgrade", "x-hop ,y"}},
		},
		{
			"Authorization cannot be removed by way of Connection",
			http.Header{"Connection": {"AUTHORIZATION, close"}, "Authorization": {"Basic x"}},
			http.Header{"Connection": {"close"}, "Authorization": {"Basic x"}},
		},
		{
			"a name that only contains an owned one is somebody else's",
			http.Header{"Connection": {"My-X-Lumio-Key-Id, X-Lumio"}},
			http.Header{"Connection": {"My-X-Lumio-Key-Id, X-Lumio"}},
		},
		{
			"an announcement of trailers that the server left among the fields",
			http.Header{"Trailer": {"X-Lumio-Key-Id, X-Checksum", "authorization"}},
			http.Header{"Trailer": {"X-Checksum"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &http.Request{Header: tt.in}
			newOwner(t, "X-Lumio-").Strip(r, nil)
			if diff := cmp.Diff(tt.want, r.Header); diff != "" {
				t.Errorf("header after Strip (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStripLeavesValuesOfACopyAlone(t *testing.T) {
	t.Parallel()
	shared := []string{"close, X-Lumio-Key-Id", "X-Lumio-Key-Label"}
	r := &http.Request{Header: http.Header{"Connection": shared}}
	newOwner(t, "X-Lumio-").Strip(r, nil)
	if diff := cmp.Diff([]string{"close, X-Lumio-Key-Id", "X-Lumio-Key-Label"}, shared); diff != "" {
		t.Errorf("slice of the copy (-want +got):\n%s", diff)
	}
}

func TestStripAllocatesNothingForACommonRequest(t *testing.T) {
	owner := newOwner(t, "X-Lumio-")
	r := commonRequest()
	if allocs := testing.AllocsPerRun(100, func() { owner.Strip(r, nil) }); allocs != 0 {
		t.Errorf("Strip allocates %v times", allocs)
	}
}

func BenchmarkStrip(b *testing.B) {
	owner := newOwner(b, "X-Lumio-")
	b.Run("common", func(b *testing.B) {
		r := commonRequest()
		b.ReportAllocs()
		for b.Loop() {
			owner.Strip(r, nil)
		}
	})
	b.Run("attack", func(b *testing.B) {
		r := commonRequest()
		b.ReportAllocs()
		for b.Loop() {
			r.Header["X_lumio_key_id"] = []string{"1"}
			r.Header["Connection"] = []string{"close, X-Lumio-Key-Id"}
			owner.Strip(r, nil)
		}
	})
}

// commonRequest is one with what a browser and a bot send, without a body.
func commonRequest() *http.Request {
	return &http.Request{
		Method: http.MethodGet,
		Body:   http.NoBody,
		Header: http.Header{
			"Accept":            {"application/json"},
			"Accept-Encoding":   {"gzip, deflate, br"},
			"Accept-Language":   {"en"},
			"Authorization":     {"Bearer x"},
			"Cache-Control":     {"no-cache"},
			"Connection":        {"keep-alive, Upgrade"},
			"Cookie":            {"session=1"},
			"User-Agent":        {"lumio-bot/1.0"},
			"X-Request-Id":      {"1"},
			"X-Forwarded-Proto": {"https"},
		},
	}
}

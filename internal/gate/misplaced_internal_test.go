package gate

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestWhatIsHiddenIsNowhere has a key in every place of a request but its path.
func TestWhatIsHiddenIsNowhere(t *testing.T) {
	t.Parallel()
	key := "lm_sys_" + strings.Repeat("0", 76)
	r := &http.Request{
		Method: http.MethodGet, Host: key, URL: &url.URL{Path: "/", RawQuery: "k=" + key},
		Header: http.Header{"X-Api-Key": {key}, http.CanonicalHeaderKey(key): {"1"}, "Cookie": {"k=" + key}, "Accept": {"*/*"}},
	}
	hideMisplaced(r)
	if text := r.Host + r.URL.RawQuery; strings.Contains(text, key) || len(r.Header) != 1 {
		t.Errorf("there is still %s %v", text, r.Header)
	}
}

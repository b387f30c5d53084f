package answer_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/answer"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// TestEachReasonOfA503IsLoggedOnceAMinute has a hundred requests fail in each of three minutes.
// The log names one of them, and counts the others.
func TestEachReasonOfA503IsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := answer.NewRefuser(slog.New(slog.NewTextHandler(&log, nil)))
		for range 180 {
			for _, reason := range []gate.Reason{gate.UnavailableLease, gate.UnavailableBusy} {
				w := httptest.NewRecorder()
				bare := httptest.NewRequest(http.MethodGet, "http://api.example.com/bots", http.NoBody)
				r := caddyhttp.PrepareRequest(bare, caddy.NewReplacer(), w, new(caddyhttp.Server))
				f.Answer(w, r, gate.Unavailable(reason, time.Second, errors.New("down")))
				if id := request.ID(r); strings.Contains(log.String(), id) != strings.HasSuffix(log.String(), "request_id="+id+" host=api.example.com method=GET path=/bots\n") {
					t.Fatal("the request in the log is not the one")
				}
			}
			time.Sleep(time.Second)
		}
		for _, reason := range []string{"no_lease", "busy"} {
			for want, n := range map[string]int{"reason=" + reason: 3, "reason=" + reason + " error=down requests=1 ": 1, "reason=" + reason + " error=down requests=60 ": 2} {
				if got := strings.Count(log.String(), want); got != n {
					t.Errorf("%s is %d times in the log, want %d:\n%s", want, got, n, &log)
				}
			}
		}
	})
}

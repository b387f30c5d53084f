package integration_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// heard is an upstream that keeps all it is told.
type heard struct {
	mu  sync.Mutex
	all strings.Builder
}

func (h *heard) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(&h.all, "%s %s %s %v\n", r.Method, r.RequestURI, r.Host, r.Header)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all.String()
}

// TestAKeyInTheWrongPlaceReachesNobody sends a live key in every other place than its
// own, in several spellings, to a site that lets requests without a key pass, and to
// one whose error route is another proxy. It reaches neither upstream and no log, and
// the answer names the place.
func TestAKeyInTheWrongPlaceReachesNobody(t *testing.T) {
	b := onSQLite(t)
	_, key := mint(t, b.keys(t), "bot")
	upstream := new(heard)
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	open, routed := testenv.FreeAddress(t), testenv.FreeAddress(t)
	log := filepath.Join(t.TempDir(), "log")
	const site = `
		log {
			output file %[2]s
			format redact_system_keys
		}
		system_key_auth {
			passthrough
		}
		reverse_proxy %[1]s`
	load(t, strings.Replace(globals(b.options+"\n"+cheap), "output discard", "output file "+log+"\nlevel DEBUG\nformat redact_system_keys", 1)+
		fmt.Sprintf("http://"+open+" {\n"+site+"\n}\nhttp://"+routed+" {\n"+site+"\nhandle_errors {\nreverse_proxy %[1]s\n}\n}\n", server.Listener.Addr(), log))

	encoded := func(s string) string { return strings.ReplaceAll(fmt.Sprintf("% x", s), " ", "%") }
	sent := 0
	for _, spelled := range []string{key, "LM_SYS_" + key[7:], "%6cm_sys_" + key[7:], "%256C%256d%5fsys_" + key[7:], "%" + encoded(key), key[:27]} {
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+spelled))
		lower := "bASIC " + base64.RawURLEncoding.EncodeToString([]byte(spelled+":"))
		places := []struct{ name, value, query, named string }{
			{"Authorization", basic, "", "Basic"},
			{"Authorization", lower, "", "Basic"},
			{"X-Forwarded-Authorization", basic, "", "X-Forwarded-Authorization"},
			{"Cookie", "a=b; key=" + spelled, "", "cookie"},
			{query: "access_token=" + spelled, named: "query"},
			{query: "a=1&api_key=" + spelled + "&b=2", named: "query"},
			{query: "key=" + spelled, named: "query"},
			{query: spelled, named: "query"},
		}
		for _, name := range []string{
			"X-Api-Key", "Api-Key", "X-Auth-Token", "Private-Token", "X-Forwarded-Authorization", "Proxy-Authorization", "Sec-Websocket-Protocol", "User-Agent", "Referer", "X-Whatever",
		} {
			places = append(places, struct{ name, value, query, named string }{name, spelled, "", name})
		}
		for _, address := range []string{open, routed} {
			for _, p := range places {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/hello?"+p.query, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				if p.name != "" {
					request.Header.Set(p.name, p.value)
				}
				answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				content, _ := io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				body := string(content)
				sent++
				if address == routed {
					continue // what the error route answers
				}
				if answer.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"code":"invalid_request"`) || !strings.Contains(body, p.named) {
					t.Errorf("%+v got %d %s", p, answer.StatusCode, body)
				}
				if got := answer.Header.Get("Www-Authenticate"); got != `Bearer realm="lumio", error="invalid_request"` {
					t.Errorf("%+v: %s", p, got)
				}
			}
		}
	}
	// It does let pass what it should, and a path is no such place: it is only redacted.
	get(t, "http://"+open+"/hello?q=lm_sys_", "")
	get(t, "http://"+open+"/%6cm_sys_"+key[7:], "Bearer "+key)

	written, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	told := strings.ReplaceAll(upstream.String(), "/%6cm_sys_"+key[7:], "")
	if n := strings.Count(told, "GET /hello"); n != sent/2+1 {
		t.Errorf("%d requests got through, of %d to error routes", n, sent/2)
	}
	for where, text := range map[string]string{"the upstream": told, "the log": string(written)} {
		for _, part := range []string{key[7:27], key[27:60], "=" + encoded(key[7:20])} {
			if at := leaks([]byte(text), part); at != "" {
				t.Errorf("%s has a key: %s", where, at)
			}
		}
	}
	if n := strings.Count(string(written), `"system_key_refused":"misplaced"`); n != sent {
		t.Errorf("the log says of %d requests that a key was misplaced, not of %d", n, sent)
	}
}

// TestTheLogSaysWhyAKeyWasRefused has a key of each kind. The access log has the reason, the id
// of the key if it is known, and the id of the request, as the answer and the audit log do.
func TestTheLogSaysWhyAKeyWasRefused(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	bot, plain := mint(t, keys, "bot", "bots:read")
	gone, revoked := mint(t, keys, "gone")
	if _, err := keys.Revoke(t.Context(), admin.CLI(), gone.ID); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{"revoked": gone.ID.String(), "permission": bot.ID.String()}
	var recorded []string // requests that the audit log has to know
	log := filepath.Join(t.TempDir(), "log")
	url := "http://" + run(t, b, "log {\noutput file "+log+"\nformat redact_system_keys\n}\nsystem_keys_admin\nsystem_key_auth {\nrequire bots:write\n}\nrespond ok")
	for path, want := range map[string]map[string]string{
		"/": {
			"": "no_key", "Token " + plain: "malformed", "Bearer " + revoked: "revoked", "Bearer lm_sys_" + flip(plain[7:]): "unminted", "Bearer " + plain: "permission",
			"Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+plain)): "misplaced",
		},
		plane.KeysPath:                 {"Token " + plain: "malformed", "Bearer " + revoked: "revoked", "Bearer lm_sys_" + flip(plain[7:]): "unminted"},
		plane.KeysPath + "?q=" + plain: {"Bearer " + plain: "misplaced"},
	} {
		for authorization, reason := range want {
			if err := os.Truncate(log, 0); err != nil {
				t.Fatal(err)
			}
			_, _, body := get(t, url+path, authorization)
			var written []byte
			eventually(t, "the log says "+reason, func() (logged bool) {
				var err error
				written, err = os.ReadFile(log)
				return err == nil && strings.Contains(string(written), `"system_key_refused":"`+reason+`"`)
			})
			var line struct {
				UUID string
				ID   string `json:"system_key_id"`
			}
			var answer gate.Body
			if err := errors.Join(json.Unmarshal(written, &line), json.Unmarshal([]byte(body), &answer)); err != nil {
				t.Fatalf("%v in %s and %s", err, written, body)
			}
			if line.UUID == "" || line.UUID != answer.Error.RequestID || line.ID != ids[reason] {
				t.Errorf("%s: the log has\n%s\nand the answer is %s", reason, written, body)
			}
			if reason == "revoked" {
				recorded = append(recorded, line.UUID)
			}
		}
	}
	eventually(t, "the audit log has the same requests", func() bool {
		page, err := keys.Store.Audit(t.Context(), &store.AuditQuery{Limit: store.MaxAuditLimit, Key: gone.ID, Event: store.AuditDenied})
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, record := range page.Records {
			found = append(found, record.Request.ID)
		}
		slices.Sort(found)
		slices.Sort(recorded)
		return len(recorded) == 2 && slices.Equal(found, recorded)
	})
	// Searching for what keys begin with is fine.
	_, root, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "root", IsSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := get(t, url+plane.KeysPath+"?q=lm_sys_", "Bearer "+root); status != http.StatusOK {
		t.Errorf("a search for a label got %d %s", status, body)
	}
}

// TestTheLogSaysWhyARequestWasCut, beside whose it was.
func TestTheLogSaysWhyARequestWasCut(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	log := filepath.Join(t.TempDir(), "log")
	address := run(t, b, "log {\noutput file "+log+"\nformat redact_system_keys\n}\nsystem_key_auth\nreverse_proxy "+ticks(t))
	cutBy := func(reason, plain string, key *store.Key, end func()) {
		t.Helper()
		began, ended := make(chan struct{}), make(chan error, 1)
		go stream(address, plain, began, ended)
		<-began
		end()
		t.Logf("its request ended with %v", <-ended)
		eventually(t, "the log says "+reason, func() bool {
			written, err := os.ReadFile(log)
			return err == nil && slices.ContainsFunc(strings.Split(string(written), "\n"), func(line string) bool {
				return strings.Contains(line, `"user_id":"`+key.ID.String()+`"`) && strings.Contains(line, `"system_key_refused":"`+reason+`"`)
			})
		})
	}
	key, plain := mint(t, keys, "revoked")
	cutBy("revoked", plain, key, func() { revokeAndWait(t, keys, key) })
	key, plain, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "expired", ExpiresAt: time.Now().Add(2 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	cutBy("expired", plain, key, func() {})
}

// TestAKeyInAPathIsNotOnRecord: however it is encoded.
func TestAKeyInAPathIsNotOnRecord(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := mint(t, keys, "bot")
	url := "http://" + run(t, b, "system_key_auth\nrespond ok")
	paths := []string{"/" + plain, "/%6cm_sys_" + plain[7:], "/%256cm_sys_" + plain[7:], "/lm%5Fsys%255f" + plain[7:], "/LM_SYS_" + plain[7:]}
	for _, path := range paths {
		if status, _, body := do(t, http.MethodPost, url+path, "Bearer "+plain, nil); status != http.StatusOK {
			t.Fatalf("%s got %d %s", path, status, body)
		}
	}
	eventually(t, "all are on record", func() bool {
		page, err := keys.AuditLog(context.WithoutCancel(t.Context()), admin.CLI(), &store.AuditQuery{Limit: 100, Key: key.ID, Event: store.AuditUsed})
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range page.Records {
			if record.Request.Path != "/REDACTED" {
				t.Fatalf("the path is %s", record.Request.Path)
			}
		}
		return len(page.Records) == len(paths)
	})
}

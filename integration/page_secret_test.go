package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// wiretap keeps what a site has answered, and what it was asked for.
type wiretap struct {
	mu        sync.Mutex
	exchanges []string
}

// tap puts itself between a browser and a site. It returns its address.
func tap(t *testing.T, site string) (*wiretap, string) {
	t.Helper()
	r := &wiretap{}
	address := testenv.FreeAddress(t)
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		out, err := http.NewRequestWithContext(in.Context(), in.Method, site+in.URL.RequestURI(), strings.NewReader(string(body)))
		if err != nil {
			return
		}
		out.Header, out.Host = in.Header.Clone(), in.Host
		out.Header.Set("Accept-Encoding", "identity")
		response, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			return
		}
		defer func() { _ = response.Body.Close() }()
		maps.Copy(w.Header(), response.Header)
		w.WriteHeader(response.StatusCode)
		answer, _ := io.ReadAll(response.Body)
		_, _ = w.Write(answer)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.exchanges = append(r.exchanges, fmt.Sprintf("%s %s %v %s\n%d %v\n%s",
			in.Method, in.URL, in.Header, body, response.StatusCode, response.Header, answer))
	})}
	go func() { _ = server.ListenAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown(context.WithoutCancel(t.Context())) })
	return r, "http://" + address
}

// with are the exchanges in which the text is.
func (r *wiretap) with(text string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.exchanges {
		if strings.Contains(e, text) {
			found = append(found, e)
		}
	}
	return found
}

// TestARevealedKeyIsNowhereElse looks for a new key, and for the admin's, in all
// that the browser and the server keep.
func TestARevealedKeyIsNowhereElse(t *testing.T) {
	for _, scripts := range []bool{true, false} {
		t.Run(fmt.Sprintf("scripts %v", scripts), func(t *testing.T) {
			logs := filepath.Join(t.TempDir(), "caddy.log")
			backend := onSQLite(t)
			keys := backend.keys(t)
			address := testenv.FreeAddress(t)
			load(t, fmt.Sprintf(`{
				admin off
				persist_config off
				log {
					output file %s
					level DEBUG
				}
				system_keys {
					%s
					argon2id 7MiB 1 1
				}
			}
			http://%s {
				log {
					output file %[1]s
				}
				system_keys_admin
				respond "upstream"
			}`, logs, backend.options, address))
			site := &pageSite{keys: keys}
			watch, url := tap(t, "http://"+address)
			_, plain := site.admin(t)
			b := openProfileTab(t, url)
			b.scripts(scripts)
			b.signIn(plain)
			b.sees("#keys .count", "1 key(s)")
			b.choose("a", "Create Key")
			b.fill("#label", "canary")
			b.fill("#permissions", "bots:read")
			b.choose("form button", "Create Key")
			b.state("reveal")
			secret := b.text("#new-key")
			if !keyPattern.MatchString(secret) {
				t.Fatalf("the key is %q", secret)
			}
			b.choose("main a, dialog a", "Dismiss")
			b.sees("#keys .count", "2 key(s)")

			nowhere := func(when string) {
				t.Helper()
				for place, text := range b.keeps() {
					for _, s := range []string{secret, plain} {
						if strings.Contains(text, s) {
							t.Errorf("%s, the key is in %s", when, place)
						}
					}
				}
			}
			nowhere("after Dismiss")
			switch err := b.try(chromedp.NavigateBack()); {
			case err == nil:
				nowhere("after Back")
				b.do(chromedp.NavigateForward())
			case !scripts && strings.Contains(err.Error(), "ERR_CACHE_MISS"):
				// The new key was the answer to a form. The browser has not kept it, and
				// would have to send the form again.
				nowhere("after Back")
				b.open("/system")
			default:
				t.Fatal(err)
			}
			nowhere("after Forward")
			b.do(chromedp.Reload())
			nowhere("after a reload")

			if found := watch.with(secret); len(found) != 1 {
				t.Errorf("the new key crossed the wire %d times:\n%s", len(found), strings.Join(found, "\n\n"))
			} else if !strings.Contains(found[0], "no-store") || strings.Contains(found[0][:strings.Index(found[0], "\n")], secret) {
				t.Errorf("the new key came so:\n%s", found[0])
			}
			if found := watch.with(plain); len(found) != 1 || !strings.HasPrefix(found[0], "POST /system/session ") {
				t.Errorf("the admin's key crossed the wire %d times:\n%s", len(found), strings.Join(found, "\n\n"))
			}
			written, err := os.ReadFile(logs)
			if err != nil || !strings.Contains(string(written), "/api/system-keys") {
				t.Fatalf("the log has %d bytes, and no line of the creation (%v)", len(written), err)
			}
			if strings.Contains(string(written), secret[7:]) || strings.Contains(string(written), plain[7:]) {
				t.Error("a key is in the log")
			}
			b.profile(strings.TrimPrefix(url, "http://"), func(file, content string) {
				if strings.Contains(content, secret) || strings.Contains(content, plain) {
					t.Errorf("a key is in %s of the browser's profile", file)
				}
			})
		})
	}
}

// TestLeavingWithANewKeyAsks: until the key was copied. Copying is what the page leads to.
func TestLeavingWithANewKeyAsks(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	b := site.signedIn(t)
	b.grant("clipboard-read", "clipboard-write")
	create := func() {
		b.open("/system")
		b.choose("a", "Create Key")
		b.fill("#label", "canary")
		b.fill("#permissions", "bots:read")
		b.choose("dialog button", "Create Key")
		b.state("reveal")
	}
	leave := func(what string, want int32) {
		t.Helper()
		before := b.asked.Load()
		b.open("/system")
		if got := b.asked.Load() - before; got != want {
			t.Errorf("%s the page asked %d times, want %d", what, got, want)
		}
	}
	create()
	if primary := b.texts("dialog .primary"); len(primary) != 1 || primary[0] != "Copy Key" {
		t.Errorf("the main button is %q", primary)
	}
	leave("with a key that was not copied", 1)
	leave("without a key", 0)
	create()
	eval[chromedp.Void](b, "(document.querySelector('#new-key').focus(), getSelection().selectAllChildren(document.querySelector('#new-key')), document.execCommand('copy'), undefined)")
	leave("with a key that was selected and copied", 0)
	create()
	b.choose("dialog button", "Copy Key")
	b.until("document.querySelector('#new-key[data-safe]')")
	leave("with a key that was copied", 0)
	create()
	b.choose("dialog a", "Dismiss")
	leave("after Dismiss", 0)
}

// TestAKeyDoesNotOutliveItsTab: a tab that crashes while it shows a new key takes it
// along.
func TestAKeyDoesNotOutliveItsTab(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	_, plain := site.admin(t)
	b := openProfileTab(t, site.url)
	b.signIn(plain)
	b.choose("a", "Create Key")
	b.fill("#label", "canary")
	b.fill("#permissions", "bots:read")
	b.choose("dialog button", "Create Key")
	b.state("reveal")
	secret := b.text("#new-key")
	crashing, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	_, _ = chromedp.Call(crashing, page.Crash, cdp.Empty{}) // is not answered
	if _, err := chromedp.Run(crashing, chromedp.Evaluate[int]("1")); err == nil {
		t.Fatal("the tab lives")
	}

	b = openProfileTab(t, site.url)
	b.open("/system")
	b.sees("tbody", "canary")
	for place, text := range b.keeps() {
		if strings.Contains(text, secret) {
			t.Errorf("the key is in %s", place)
		}
	}
	b.profile(strings.TrimPrefix(site.url, "http://"), func(file, content string) {
		if strings.Contains(content, secret) {
			t.Errorf("the key is in %s of the browser's profile", file)
		}
	})
}

// keeps is all that the page and the browser know of it, by place.
func (b *tab) keeps() map[string]string {
	b.t.Helper()
	b.until("document.readyState === 'complete'")
	kept := map[string]string{
		"the document": eval[string](b, `document.documentElement.outerHTML +
			[...document.querySelectorAll("input, textarea")].map(e => e.value).join()`),
		"the storage":   eval[string](b, "(() => { try { return JSON.stringify([{...localStorage}, {...sessionStorage}, history.state, window.name]) } catch (e) { return e.name } })()"),
		"the caches":    eval[string](b, "globalThis.caches ? caches.keys().then(k => JSON.stringify(k), e => e.name) : ''"),
		"the databases": eval[string](b, "globalThis.indexedDB ? indexedDB.databases().then(d => JSON.stringify(d), e => e.name) : ''"),
		"the URLs":      eval[string](b, "JSON.stringify(performance.getEntries().map(e => e.name).concat(location.href, document.referrer))"),
	}
	text := func(place string, value any) {
		encoded, err := json.Marshal(value)
		if err != nil {
			b.t.Fatal(err)
		}
		kept[place] = string(encoded)
	}
	history, err := chromedp.Run(b.ctx, chromedp.NavigationEntries())
	if err != nil {
		b.t.Fatal(err)
	}
	text("the history", history)
	text("the cookies", command(b, network.GetCookies, network.GetCookiesParams{}))
	return kept
}

// profile looks at the files that the browser has written, once the site is in one
// of them.
func (b *tab) profile(site string, look func(file, content string)) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		visited := false
		_ = filepath.WalkDir(chromiumProfile, func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil //nolint:nilerr // files come and go
			}
			if content, err := os.ReadFile(path); err == nil {
				visited = visited || strings.Contains(string(content), site)
				look(path, string(content))
			}
			return nil
		})
		if visited {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal("the browser has written nothing about the site")
		}
	}
}

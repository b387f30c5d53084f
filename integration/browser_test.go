package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// chromium is the browser that all tests share, each in a profile of its own.
var chromium = sync.OnceValues(func() (context.Context, error) {
	program, err := exec.LookPath("chromium")
	if err != nil {
		return nil, errors.New("chromium is missing (on Debian: apt-get install chromium)")
	}
	if chromiumProfile, err = os.MkdirTemp("", "chromium-"); err != nil {
		return nil, err
	}
	allocated, end := chromedp.NewExecAllocator(context.Background(),
		append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.UserDataDir(chromiumProfile),
			// Pages are laid out with the fonts of Debian, whatever else is there.
			chromedp.Flag("font-render-hinting", "none"), chromedp.Flag("hide-scrollbars", true))...)
	ctx, closeBrowser := chromedp.NewContext(allocated)
	endChromium = func() {
		closeBrowser()
		end()
		_ = os.RemoveAll(chromiumProfile)
	}
	return ctx, chromedp.Do(ctx)
})

// chromiumProfile is the folder of its profile.
var chromiumProfile string

// endChromium ends the browser, if it was begun, and waits for it.
var endChromium = func() {}

// tab is a page in a browser that has nothing in common with those of others.
type tab struct {
	t    testing.TB
	ctx  context.Context
	base string
	// asked counts the questions whether the page shall be left. They get a yes.
	asked atomic.Int32
}

// patience is how long something that is bound to come may take.
const patience = 20 * time.Second

// openTab opens one that leaves nothing behind.
func openTab(t testing.TB, base string) *tab {
	t.Helper()
	return newTab(t, base, chromedp.WithNewBrowserContext())
}

// openProfileTab opens one in the profile that is on disk.
func openProfileTab(t testing.TB, base string) *tab {
	t.Helper()
	b := newTab(t, base)
	t.Cleanup(func() { _, _ = chromedp.Call(b.ctx, network.ClearBrowserCookies, cdp.Empty{}) })
	return b
}

func newTab(t testing.TB, base string, options ...chromedp.ContextOption) *tab {
	t.Helper()
	shared, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := chromedp.NewContext(shared, options...)
	t.Cleanup(end)
	b := &tab{t: t, ctx: ctx, base: base}
	if err := chromedp.Do(ctx); err != nil { // which opens it, without a deadline
		t.Fatal(err)
	}
	err = chromedp.Listen(ctx, func(event any) {
		if _, ok := event.(*page.EventJavascriptDialogOpening); ok {
			b.asked.Add(1)
			go func() { // the answer to a command comes by the same loop
				_, _ = chromedp.Call(ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
			}()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(1100, 850))
	b.language("en")
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := b.try(steps...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) try(steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// command sends a command of the DevTools protocol.
func command[P, R any](b *tab, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, cmd, params)
	if err != nil {
		b.t.Fatalf("%s: %v", cmd.Method, err)
	}
	return result
}

// eval evaluates an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

// until waits until an expression is true. Pages may come and go meanwhile.
func (b *tab) until(expression string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if ok && err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain for %s (%v) on\n%s", expression, err, b.text("body"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sees waits for something with this text in it.
func (b *tab) sees(selector, text string) {
	b.t.Helper()
	b.until(shows(selector, text))
}

// shows is the expression for something with this text in it.
func shows(selector, text string) string {
	return "[...document.querySelectorAll(" + js(selector) + ")].some(e => e.checkVisibility() && e.innerText.includes(" + js(text) + "))"
}

// soon is until for what the next refresh of the list brings. The list is refreshed
// every few seconds, and at once when the page comes to the front.
func (b *tab) soon(expression string) {
	b.t.Helper()
	b.until("(Date.now() > (window.front ?? 0) && (window.front = Date.now() + 200, document.dispatchEvent(new Event('visibilitychange'))), " + expression + ")")
}

// state waits for a part of the page to be in a state.
func (b *tab) state(name string) {
	b.t.Helper()
	b.until(`document.querySelector('[data-state="` + name + `"]')?.checkVisibility()`)
}

func (b *tab) gone(selector string) {
	b.t.Helper()
	b.until("![...document.querySelectorAll(" + js(selector) + ")].some(e => e.checkVisibility())")
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, "document.querySelector("+js(selector)+")?.innerText ?? ''")
}

func (b *tab) texts(selector string) []string {
	b.t.Helper()
	return eval[[]string](b, "[...document.querySelectorAll("+js(selector)+")].map(e => e.innerText.trim())")
}

// click clicks on what is to be seen there, with the mouse.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.clickOn("document.querySelector(" + js(selector) + ")")
}

// choose clicks on the first of the elements that has this text.
func (b *tab) choose(selector, text string) {
	b.t.Helper()
	b.clickOn("[...document.querySelectorAll(" + js(selector) + ")].find(e => e.checkVisibility() && (e.innerText.trim() === " + js(text) + " || e.ariaLabel === " + js(text) + "))")
}

// clickOn clicks on the element that an expression is, once that is visible. A
// part of the page that is drawn anew meanwhile takes the element away before the
// mouse is there; then it is another one, and is looked for again.
func (b *tab) clickOn(element string) {
	b.t.Helper()
	chosen := chromedp.CSS("[data-chosen]")
	for deadline := time.Now().Add(patience); ; {
		b.until("(e => e?.checkVisibility() && (e.setAttribute('data-chosen', ''), true))(" + element + ")")
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		err := chromedp.Do(ctx, chromedp.ScrollIntoView(chosen), chromedp.Click(chosen, chromedp.NodeVisible))
		cancel()
		_, _ = chromedp.Run(b.ctx, chromedp.Evaluate[chromedp.Void]("document.querySelectorAll('[data-chosen]').forEach(e => e.removeAttribute('data-chosen'))"))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("clicked in vain on %s: %v", element, err)
		}
	}
}

func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.until("document.querySelector(" + js(selector) + ")?.checkVisibility()")
	eval[chromedp.Void](b, "(document.querySelector("+js(selector)+").focus(), document.activeElement.select(), undefined)")
	b.press(kb.Delete)
	command(b, input.InsertText, input.InsertTextParams{Text: text})
}

// press types keys, to wherever the focus is.
func (b *tab) press(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		b.do(chromedp.KeyEvent(key))
	}
}

// tabTo presses the tab key until something has the focus that fits.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	for range 80 {
		if eval[bool](b, "document.activeElement.matches("+js(selector)+")") {
			return
		}
		b.press(kb.Tab)
	}
	b.t.Fatalf("the tab key does not lead to %s; the focus is on %s", selector, eval[string](b, "document.activeElement.outerHTML.slice(0, 200)"))
}

// language is what the browser prefers.
func (b *tab) language(accept string) {
	b.t.Helper()
	command(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{
		Headers: network.Headers{"Accept-Language": accept},
	})
}

// theme is what the system prefers: light or dark.
func (b *tab) theme(name string) {
	b.t.Helper()
	command(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

func (b *tab) width(pixels int) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(int64(pixels), 850))
}

// scripts switches scripts off, or on again, for pages that are opened from now on.
func (b *tab) scripts(on bool) {
	b.t.Helper()
	command(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

// signIn exchanges a key for a session.
func (b *tab) signIn(key string) {
	b.t.Helper()
	b.open("/system")
	b.state("signin")
	b.fill("#key", key)
	b.click("main button")
}

// bringAxe brings axe-core along into pages that are opened from now on.
func (b *tab) bringAxe() {
	b.t.Helper()
	script, err := os.ReadFile("testdata/axe/axe.min.js")
	if err != nil {
		b.t.Fatal(err)
	}
	command(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: string(script)})
}

// axe returns what axe-core has against the page as it is, by the rules that the options name.
func (b *tab) axe(options string) []string {
	b.t.Helper()
	return eval[[]string](b, "axe.run("+options+`).then(found => found.violations.map(v =>
		v.id + ": " + v.help + ": " + v.nodes.map(n => n.html + " " + n.failureSummary).join("; ")))`)
}

func (b *tab) screenshot(file string) {
	b.t.Helper()
	image, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(file, image, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// js makes a literal of JavaScript.
func js(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// focus is the text of what has the focus.
func (b *tab) focus() string {
	b.t.Helper()
	return eval[string](b, "document.activeElement.innerText")
}

// grant lets the page do what a browser asks its user about.
func (b *tab) grant(permissions ...string) {
	b.t.Helper()
	for _, name := range permissions {
		_, err := chromedp.CallBrowser(b.ctx, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted, Origin: b.base,
			BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

package ui_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// hostile is a label as somebody might choose it who wants to be more than a
// label.
const hostile = `<script>alert(1)</script>"'&`

func row() ui.Key {
	return ui.Key{Own: true, Key: &store.Key{
		ID: store.ID{1}, Label: hostile, Permissions: []string{"bots:read"}, IsSystem: true,
		CreatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour), LastUsedAt: now.Add(-time.Minute),
	}}
}

// rotated is a key with a successor, which is in use or not.
func rotated(used bool) ui.Key {
	key := row()
	key.Successor = &store.Key{ID: store.ID{9}, Label: hostile, Replaces: key.ID}
	if used {
		key.Successor.LastUsedAt = now
	}
	return key
}

// wide is a key that holds 50 permissions, and is bound to 16 networks.
func wide() ui.Key {
	key := &store.Key{ID: store.ID{3}, Label: "wide"}
	for i := range 50 {
		key.Permissions = append(key.Permissions, fmt.Sprintf("area-%02d:read", i))
	}
	for i := range 16 {
		key.Networks = append(key.Networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16))
	}
	return ui.Key{Key: key}
}

// bodies are one of every kind, in every state that a template tells apart.
func bodies() map[string]ui.Body {
	state := ui.State{Sort: ui.DefaultSort, Page: 2, Search: hostile, Unused: ui.UnusedDays, Activity: "0199d3f0-0000-7000-8000-000000000001"}
	all := ui.Keys{State: state, Keys: []ui.Key{row(), {Key: &store.Key{ID: store.ID{2}, Label: "y"}}, wide()}, Total: 87, Next: "n", Prev: "p", MayRead: true, MayCreate: true, MayRevoke: true, MayAudit: true}
	var records []ui.Record
	for _, r := range []store.AuditRecord{
		{
			Event: "api_key.used", Key: store.AuditKey{ID: store.ID{2}, Label: hostile}, Actor: store.AuditActor{ID: "ada", Label: hostile},
			Request: store.AuditRequest{Method: "GET", Path: "/" + hostile, Status: 200, ClientIP: "::1"},
		},
		{Event: "api_key.created", Key: store.AuditKey{ID: store.ID{2}}, Actor: store.AuditActor{ID: "cli"}},
		{Event: "api_key.revoked", Actor: store.AuditActor{ID: "sql"}},
		{Event: "api_key.denied", Actor: store.AuditActor{ID: "sql"}},
		{Event: "api_key.expired", Actor: store.AuditActor{ID: "server"}},
		{Event: "api_key.new_network", Key: store.AuditKey{ID: store.ID{2}}, Details: []byte(`{"network":"192.0.2.0/24","count":3}`)},
		{Event: "api_key.audit_gap", Actor: store.AuditActor{ID: "server"}, Details: []byte(`{"dropped":7}`)},
	} {
		r.At = now
		records = append(records, ui.Record{AuditRecord: &r})
	}
	log := ui.Audit{State: state, Records: records, Events: []store.AuditEvent{"api_key.used"}, Total: 9, More: true, Next: "o", Label: hostile, MayRead: true}
	log.State.Older = "o"
	log.Use = used()
	unused := log
	unused.Use = &ui.Use{Key: &store.Key{Label: hostile}, Activity: new(store.Activity), Now: now}
	bodies := map[string]ui.Body{
		"sign in":         ui.SignIn{},
		"the page":        ui.System{Keys: all, Audit: log},
		"nothing yet":     ui.System{Keys: ui.Keys{MayRead: true}, Audit: ui.Audit{MayRead: true}},
		"nothing allowed": ui.System{},
		"a store that is down": ui.System{
			Keys: ui.Keys{MayRead: true, Fault: "unavailable"}, Audit: ui.Audit{MayRead: true, Fault: "unavailable"},
		},
		"no match":          ui.Keys{State: state, MayRead: true},
		"keys":              all,
		"audit":             log,
		"never used":        unused,
		"create":            ui.Create{Today: now},
		"reveal":            ui.Reveal{Label: hostile, Key: "lm_sys_x", URL: "https://api.example.com/"},
		"revoke":            ui.Revoke{Key: row()},
		"revoke recently":   ui.Revoke{Key: row(), Confirm: true, Mismatch: true},
		"revoking":          ui.Revoked{Label: hostile, Total: 3, Refusing: 1, Awaited: []string{"a", "b"}},
		"revoked":           ui.Revoked{Label: hostile, Total: 3, Refusing: 3, Expired: 1, Cut: 2, Done: true},
		"rotate":            ui.Rotate{Key: row(), Deadline: "7d", Grace: "1h"},
		"rotate again":      ui.Rotate{Key: rotated(false), Now: true},
		"rotated":           ui.Reveal{Label: hostile, Key: "lm_sys_x", Old: rotated(false).Key, Grace: "1h"},
		"rotated now":       ui.Reveal{Label: hostile, Key: "lm_sys_x", Old: row().Key, Ended: &ui.Revoked{Total: 3, Refusing: 2, Awaited: []string{"a"}}},
		"rotated, unused":   ui.Reveal{Label: hostile, Key: "lm_sys_x", Old: row().Key, Grace: "1h", Unused: &ui.Revoked{Total: 3, Refusing: 2, Awaited: []string{"a"}}},
		"rotated and ended": ui.Reveal{Label: hostile, Key: "lm_sys_x", Old: row().Key, Ended: &ui.Revoked{Total: 3, Refusing: 3, Done: true}},
		"relations":         ui.Keys{Keys: []ui.Key{rotated(false), {Key: rotated(true).Successor, Predecessor: row().Key, Rotatable: true}}, MayRead: true, MayRevoke: true},
		"lack":              ui.Problem{Code: "forbidden", Missing: "admin:access", RequestID: "r"},
	}
	for _, reason := range []string{"spent", "used", "meanwhile", "ended", "escalation", "short", "unknown"} {
		bodies["rotate with "+reason] = ui.Rotate{Key: rotated(true), Error: reason}
	}
	for _, choice := range append(ui.Rotate{}.Deadlines(), ui.Rotate{}.Graces()...) {
		bodies["rotated after "+choice] = ui.Reveal{Old: row().Key, Grace: choice}
	}
	for _, notice := range []string{"ended", "bye", "wrong"} {
		bodies["sign in "+notice] = ui.SignIn{Notice: notice, Failed: notice == "wrong"}
	}
	for _, code := range []string{"session", "forbidden", "unavailable", "not_found", "csrf", "cross_origin", "invalid_request", "network_not_allowed"} {
		bodies["problem "+code] = ui.Problem{Code: code}
	}
	for field, reasons := range map[string][]string{
		"form": {"spent", "unavailable", "unknown"}, "label": {"label", "secret"}, "permissions": {"permissions", "escalation", "none"},
		"expires_at": {"expires_at"}, "networks": {"networks"}, "is_system": {"escalation"},
	} {
		for _, reason := range reasons {
			bodies["create with "+field+" "+reason] = ui.Create{
				Label: hostile, Suggestions: []string{"a:b"}, MayGrantSystem: true, Today: now, Errors: map[string]string{field: reason},
			}
		}
	}
	return bodies
}

func draw(t *testing.T, language ui.Language, body ui.Body, fragment bool) string {
	t.Helper()
	u := ui.New("", "/system")
	frame := ui.Frame{Language: language, Who: hostile, SignOut: "nonce", Now: now}
	var b bytes.Buffer
	drawing := u.Page
	if fragment {
		drawing = u.Fragment
	}
	if err := drawing(&b, frame, body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// elements are the names of the elements of a page, and whether each has an id.
func elements(t *testing.T, text string, look func(node *html.Node, attributes map[string]string)) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for node := range root.Descendants() {
		if node.Type == html.ElementNode {
			attributes := make(map[string]string)
			for _, a := range node.Attr {
				attributes[a.Key] = a.Val
			}
			look(node, attributes)
		}
	}
}

func TestEveryStateIsDrawnInEveryLanguage(t *testing.T) {
	t.Parallel()
	for name, body := range bodies() {
		for _, language := range ui.Languages {
			for _, fragment := range []bool{true, false} {
				text := draw(t, language, body, fragment)
				if strings.Contains(text, "<script>alert") || strings.Contains(text, "%!") || strings.Contains(text, "ZgotmplZ") {
					t.Errorf("%s in %s:\n%s", name, language, text)
				}
				checkMarkup(t, name, text, fragment)
			}
		}
	}
}

// checkMarkup looks for what the policy of the page would block, and for what a
// reader would stumble over.
func checkMarkup(t *testing.T, name, text string, fragment bool) {
	t.Helper()
	ids, pointed := map[string]bool{}, map[string]bool{}
	elements(t, text, func(node *html.Node, attributes map[string]string) {
		for attribute, value := range attributes {
			if attribute == "style" || strings.HasPrefix(attribute, "on") || strings.HasPrefix(value, "javascript:") {
				t.Errorf("%s: %s has %s=%q, which the policy of the page forbids", name, node.Data, attribute, value)
			}
		}
		if id := attributes["id"]; id != "" && ids[id] {
			t.Errorf("%s: the id %q is there twice", name, id)
		} else {
			ids[id] = true
		}
		for id := range strings.FieldsSeq(attributes["for"] + " " + attributes["aria-describedby"] + " " + attributes["aria-labelledby"]) {
			pointed[id] = true
		}
		if (node.Data == "script" || node.Data == "style") && node.FirstChild != nil {
			t.Errorf("%s: %s is inline", name, node.Data)
		}
	})
	for id := range pointed {
		// The title of the dialog is in what is put into it.
		if !ids[id] && id != "dialog-title" && !fragment {
			t.Errorf("%s: something points to %q, which is not there", name, id)
		}
	}
}

func TestLongListsAreFolded(t *testing.T) {
	t.Parallel()
	key := wide()
	for _, c := range []struct{ all, shown, folded int }{{0, 0, 0}, {1, 1, 0}, {5, 5, 0}, {6, 4, 2}, {50, 4, 46}} {
		short := *key.Key
		short.Permissions, short.Networks = short.Permissions[:c.all], nil
		text := draw(t, ui.English, ui.Keys{Keys: []ui.Key{{Key: &short}}, MayRead: true}, true)
		shown, folded := 0, 0
		elements(t, text, func(node *html.Node, attributes map[string]string) {
			if attributes["class"] != "tag" {
				return
			}
			for above := range node.Ancestors() {
				if above.Data == "details" {
					folded++
					return
				}
			}
			shown++
		})
		if shown != c.shown || folded != c.folded || strings.Contains(text, fmt.Sprintf("&#43;%d more", folded)) != (folded > 0) {
			t.Errorf("of %d permissions %d are shown, and %d folded:\n%s", c.all, shown, folded, text)
		}
	}
}

func TestARecordNamesItsKeyAndItsActor(t *testing.T) {
	t.Parallel()
	id := store.ID{2}
	for name, c := range map[string]struct {
		record  store.AuditRecord
		key, by string
		missing int64
	}{
		"labels":                  {store.AuditRecord{Key: store.AuditKey{ID: id, Label: "bot"}, Actor: store.AuditActor{ID: "x", Label: "Ada"}}, "bot", "Ada", 0},
		"ids":                     {store.AuditRecord{Key: store.AuditKey{ID: id}, Actor: store.AuditActor{ID: "cli"}}, id.String(), "cli", 0},
		"by the key itself":       {store.AuditRecord{Key: store.AuditKey{ID: id, Label: "bot"}, Actor: store.AuditActor{ID: id.String(), Label: "bot"}}, "bot", "", 0},
		"a gap":                   {store.AuditRecord{Event: store.AuditGap, Actor: store.AuditActor{ID: "server"}, Details: []byte(`{"dropped":7}`)}, "", "server", 7},
		"a gap that says nothing": {store.AuditRecord{Event: store.AuditGap, Actor: store.AuditActor{ID: "server"}}, "", "server", 0},
		"no gap":                  {store.AuditRecord{Event: store.AuditUsed, Actor: store.AuditActor{ID: "x"}, Details: []byte(`{"dropped":7}`)}, "", "x", 0},
	} {
		r := ui.Record{AuditRecord: &c.record}
		if r.KeyName() != c.key || r.By() != c.by || r.Missing() != c.missing {
			t.Errorf("%s: %q by %q, %d missing", name, r.KeyName(), r.By(), r.Missing())
		}
	}
}

func TestAFragmentIsOneElement(t *testing.T) {
	t.Parallel()
	for name, body := range bodies() {
		if name == "the page" || strings.HasPrefix(name, "nothing") || name == "a store that is down" {
			continue // is never asked for as a fragment
		}
		root, err := html.Parse(strings.NewReader(draw(t, ui.English, body, true)))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for node := range root.LastChild.LastChild.ChildNodes() {
			if node.Type == html.ElementNode {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s has %d elements", name, n)
		}
	}
}

func TestProgressComesInLines(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]ui.Body{
		"revoking": ui.Revoked{Label: "a", Total: 3, Refusing: 1, Awaited: []string{"b", "c"}},
		"revoked":  ui.Revoked{Label: "a", Total: 3, Refusing: 3, Done: true},
	} {
		if text := draw(t, ui.English, body, true); strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

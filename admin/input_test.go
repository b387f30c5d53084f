package admin_test

import (
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestTextThatNoStoreKeepsIsNobodys has a token whose subject PostgreSQL cannot keep.
func TestTextThatNoStoreKeepsIsNobodys(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			by := func(subject string) *plane.Caller {
				return p.As(plane.Bearer("lm_" + p.Issuer.Token(map[string]any{"sub": subject, "is_system": true})))
			}
			for subject, want := range map[string]int{"u-1": 201, "u\x00-1": 401, "u\n-1": 401, "\ufffd": 401} {
				by(subject).Call(t, "POST", plane.KeysPath, `{"label":"x"}`).Is(t, plane.Quote(subject), want, "")
			}
			for _, body := range []string{`{"label":"a\u0000b"}`, `{"label":"\u200b"}`, `{"label":"\u3164\u2800"}`, `{"label":"x","permissions":["a\u0000:b"]}`} {
				ask(t, by("u-1"), "POST", plane.KeysPath, body, 422, "validation_failed")
			}
			for _, target := range []string{
				plane.KeysPath + "?q=%00", plane.KeysPath + "?q=%ff", plane.KeysPath + "?sort=%00", plane.KeysPath + "?cursor=%00",
				plane.AuditPath + "?label=%00", plane.AuditPath + "?actor=%00", plane.AuditPath + "?event=%00", plane.AuditPath + "?key_id=%00",
			} {
				ask(t, by("u-1"), "GET", target, "", 422, "validation_failed")
			}
		})
	}
}

// TestALabelHoldsNoKey: not by REST or GraphQL.
func TestALabelHoldsNoKey(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, root := p.MintAdmin(t)
	c := p.As(plane.Bearer(root))
	for _, label := range []string{root, " for " + root, strings.ToUpper(root), "%6cm_sys_" + root[7:], "%256cm_sys_" + root[7:], root[:27]} {
		for _, a := range []plane.Reply{
			c.Call(t, "POST", plane.KeysPath, `{"label":`+plane.Quote(label)+`}`).Is(t, label, 422, ""),
			c.Call(t, "POST", admin.GraphQLPath, plane.GQL(`mutation { adminCreateSystemKey(input: {label: `+plane.Quote(label)+`}) { id } }`)).Is(t, label, 200, ""),
		} {
			if !strings.Contains(a.Body, `"fields":{"label":"must not hold a system key"}`) || strings.Contains(a.Body, root[7:27]) {
				t.Errorf("%q got %s", label, a.Body)
			}
		}
	}
	for _, label := range []string{"lm_sys_ keys", root[:26], "lm_sys_last_visited_page"} {
		ask(t, c, "POST", plane.KeysPath, `{"label":`+plane.Quote(label)+`}`, 201, "")
	}
}

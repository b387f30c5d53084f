package admin_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// A key that was deleted after its expiry is known to the audit log, so its revocation has
// the same answer as that of a revoked one.
func TestAKeyThatWasDeletedAfterItsExpiryIsRevokedOnceMore(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	root := p.ByKey(t, true)
	key, _, err := p.Keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "ended", ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	record := func(key *store.Key) store.AuditRecord {
		return store.AuditRecord{
			Event: store.AuditExpired, At: time.Now(), Actor: store.AuditActor{Type: store.ActorServer, ID: "here"},
			Key: store.AuditKey{ID: key.ID, Label: key.Label},
		}
	}
	filter := &store.KeyFilter{ExpiredBefore: time.Now().Add(2 * time.Hour)}
	if _, err := p.Keys.Store.DeleteKeys(t.Context(), filter, &store.Write{Record: record, Sealer: p.Keys.Sealer}); err != nil {
		t.Fatal(err)
	}
	var revoked plane.OneRevoked
	root.Call(t, http.MethodDelete, plane.KeysPath+"/"+key.ID.String(), "").Must(t, http.StatusOK, &revoked)
	if revoked.Data.Label != "ended" || revoked.Data.RevokedAt.IsZero() {
		t.Errorf("got %+v", revoked.Data)
	}
	var log plane.AuditList
	root.Call(t, http.MethodGet, plane.AuditPath+"?event=api_key.expired", "").Must(t, http.StatusOK, &log)
	if len(log.Data) != 1 || log.Data[0].Key.ID != key.ID {
		t.Errorf("the log has %+v", log.Data)
	}
}

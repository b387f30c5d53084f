package admin_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// revoked revokes a key by REST, and returns the answer.
func revoked(t *testing.T, c *plane.Caller, id string) admin.RevokedJSON {
	t.Helper()
	var answer plane.OneRevoked
	c.Call(t, http.MethodDelete, plane.KeysPath+"/"+id, "").Must(t, http.StatusOK, &answer)
	return answer.Data
}

func namesOf(keys []admin.NamedKeyJSON) string {
	var ids []string
	for _, key := range keys {
		ids = append(ids, key.ID.String()+" "+key.Label)
	}
	return strings.Join(ids, ", ")
}

// TestAStolenKeyDoesNotOutliveItsRevocation by successors that it has minted of itself, and
// that these have minted. Whatever else replaces it is named.
func TestAStolenKeyDoesNotOutliveItsRevocation(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			root := p.ByKey(t, true)
			stolen := p.ByKey(t, false, admin.PermissionRotate)
			first := rotated(t, stolen, selfPath, "").Data
			use(t, p, first.ID)
			second := rotated(t, p.As(plane.Bearer(first.Key)), selfPath, "").Data
			use(t, p, second.ID)
			third := rotated(t, root, plane.KeysPath+"/"+second.ID.String(), "").Data // by another: it lives on

			answer := revoked(t, root, stolen.ID)
			want := first.ID.String() + " caller, " + second.ID.String() + " caller"
			if namesOf(answer.AlsoRevoked) != want || answer.ReplacedBy != nil || answer.Instances.Acknowledged != 1 {
				t.Errorf("got %+v, want %s", answer, want)
			}
			for what, plain := range map[string]string{"first": first.Key, "second": second.Key} {
				p.As(plane.Bearer(plain)).Call(t, http.MethodGet, selfPath, "").Is(t, what, http.StatusUnauthorized, "")
			}
			p.As(plane.Bearer(third.Key)).Call(t, http.MethodGet, selfPath, "").Is(t, "third", http.StatusOK, "")
			for _, id := range []store.ID{first.ID, second.ID} {
				if r := records(t, p, id, store.AuditRevoked); len(r) != 1 || r[0]["reason"] != "minted by a revoked key" || r[0]["revoked_with"] != stolen.ID {
					t.Errorf("the record is %v", r)
				}
			}
			if diff := cmp.Diff(answer, revoked(t, root, stolen.ID)); diff != "" {
				t.Errorf("the same call again: %s", diff)
			}
			// The second key has ended too. Its successor was minted by another.
			if answer := revoked(t, root, second.ID.String()); len(answer.AlsoRevoked) != 0 || *answer.ReplacedBy != third.ID {
				t.Errorf("got %+v", answer)
			}
			revoked(t, root, third.ID.String())
			if answer := revoked(t, root, second.ID.String()); answer.ReplacedBy != nil {
				t.Errorf("once that is revoked: %+v", answer)
			}
		})
	}
}

// TestAKeyThatIsGoneStillEndsItsSuccessors, and is known by them: it was retired before
// somebody noticed that it was stolen.
func TestAKeyThatIsGoneStillEndsItsSuccessors(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			root := p.ByKey(t, true)
			stolen := &store.Key{
				ID: store.ID(uuid.New()), Label: "bot", Hash: anyHash, Permissions: []string{}, CreatedBy: "cli", ReplacedBy: store.ID(uuid.New()),
				CreatedAt: time.Now().Add(-time.Hour).Truncate(time.Microsecond), ExpiresAt: time.Now().Add(-time.Minute).Truncate(time.Microsecond),
			}
			next := *stolen
			next.ID, next.ReplacedBy, next.Ancestors, next.ExpiresAt = stolen.ReplacedBy, store.ID{}, []store.ID{stolen.ID}, time.Time{}
			for _, key := range []*store.Key{stolen, &next} {
				if err := p.Keys.Store.CreateKey(t.Context(), key, nil); err != nil {
					t.Fatal(err)
				}
			}
			// That is how a server deletes it. Its record was pruned since.
			silent := func(*store.Key) store.AuditRecord {
				return store.AuditRecord{Event: store.AuditUsed, At: time.Now(), Actor: store.AuditActor{Type: store.ActorServer, ID: "here"}}
			}
			deleted, err := p.Keys.Store.DeleteKeys(t.Context(), &store.KeyFilter{ExpiredBefore: time.Now()}, &store.Write{Record: silent, Sealer: p.Keys.Sealer})
			if err != nil || len(deleted) != 1 || deleted[0].ID != stolen.ID {
				t.Fatalf("%v, %v", deleted, err)
			}
			root.Call(t, http.MethodGet, plane.KeysPath+"/"+next.ID.String(), "").Must(t, http.StatusOK, nil)
			answer := revoked(t, root, stolen.ID.String())
			if namesOf(answer.AlsoRevoked) != next.ID.String()+" bot" || answer.RevokedAt.IsZero() || answer.Label != "bot" {
				t.Errorf("got %+v", answer)
			}
			root.Call(t, http.MethodGet, plane.KeysPath+"/"+next.ID.String(), "").Is(t, "the successor", http.StatusNotFound, "")
		})
	}
}

// TestALiveSuccessorIsNamed by REST and GraphQL: it is accepted after the revocation.
func TestALiveSuccessorIsNamed(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	root := p.ByKey(t, true)
	byREST, _ := p.Mint(t, "rest")
	byGraphQL := p.ByKey(t, false, admin.PermissionRotate)
	next := rotated(t, root, plane.KeysPath+"/"+byREST.ID.String(), "").Data
	if answer := revoked(t, root, byREST.ID.String()); *answer.ReplacedBy != next.ID || answer.AlsoRevoked == nil || len(answer.AlsoRevoked) != 0 {
		t.Errorf("got %+v", answer)
	}
	own := rotated(t, byGraphQL, selfPath, "").Data
	const document = `mutation($id: ID!) { adminDeleteSystemKey(id: $id) { alsoRevoked { id label } replacedBy } }`
	for id, want := range map[string]string{
		byREST.ID.String(): `{"alsoRevoked":[],"replacedBy":"` + next.ID.String() + `"}`,
		byGraphQL.ID:       `{"alsoRevoked":[{"id":"` + own.ID.String() + `","label":"caller"}],"replacedBy":null}`,
	} {
		body := plane.GQL(document, `,"variables":{"id":"`+id+`"}`)
		root.Call(t, http.MethodPost, admin.GraphQLPath, body).Is(t, "GraphQL", http.StatusOK, want)
	}
	var list struct {
		AdminSystemKeys struct {
			Data []struct{ ID, Replaces, ReplacedBy string }
		}
	}
	old, _ := p.Mint(t, "old")
	next = rotated(t, root, plane.KeysPath+"/"+old.ID.String(), "").Data
	root.GraphQL(t, `{ adminSystemKeys(q: "old", sort: "created_at") { data { id replaces replacedBy } } }`, nil, &list)
	if d := list.AdminSystemKeys.Data; len(d) != 2 || d[0].ReplacedBy != next.ID.String() || d[1].Replaces != old.ID.String() || d[0].Replaces+d[1].ReplacedBy != "" {
		t.Errorf("the list is %+v", d)
	}
}

// TestASuccessorThatRevokesItsOriginGetsItsAnswer, although it ends with it.
func TestASuccessorThatRevokesItsOriginGetsItsAnswer(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	first := p.ByKey(t, false, admin.PermissionRotate, admin.PermissionDelete)
	next := rotated(t, first, selfPath, "").Data
	second := p.As(plane.Bearer(next.Key))
	if answer := revoked(t, second, first.ID); namesOf(answer.AlsoRevoked) != next.ID.String()+" caller" {
		t.Errorf("got %+v", answer)
	}
	ask(t, second, http.MethodGet, selfPath, "", http.StatusUnauthorized, "invalid_token")
}

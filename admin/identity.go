package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/jwtauth"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Person is somebody for whom another part of the server vouches. The permissions are as that
// part has them, and are cleaned before they count.
type Person struct {
	ID          string
	Permissions []string
	IsSystem    bool
}

// Identities finds out who calls, for every surface of the admin plane. Admit is
// required.
//
// It is the only place that decides who is an admin, so that REST, GraphQL and the page cannot
// differ. The functions are called by many requests at the same time.
type Identities struct {
	// Admit says whose key the client of a request presents, as [verify.Verifier.Admit] does.
	Admit func(r *http.Request, key string) (store.ID, *verify.Identity, error)
	// Token verifies `Bearer lm_` + JWT, as [jwtauth.Verifier.Verify] does. Nil: nobody has
	// such a token.
	Token func(ctx context.Context, token string) (*jwtauth.Claims, error)
	// Earlier returns the identity that an earlier handler of ours has let through on
	// the same request. That handler has taken the key away. Earlier may be nil.
	Earlier func(r *http.Request) *verify.Identity
	// Trusted returns the person for whom another handler vouches, or nil. It is nil
	// if no other handler is trusted.
	Trusted func(r *http.Request) *Person
	// Announce is called with the identity of a good key, and Refused for a key that is
	// not accepted. Both may be nil.
	Announce func(r *http.Request, identity *verify.Identity)
	Refused  func(r *http.Request, d *gate.Decision)
}

// personPrefix is what the tokens of people begin with. System keys begin with lm_sys_, and are
// looked for first.
const personPrefix = "lm_"

// actor finds out who calls, and refuses an anonymous caller with 401.
func (i *Identities) actor(r *http.Request) (Actor, error) {
	actor, named, err := i.Known(r)
	if err == nil && !named {
		err = gate.Anonymous()
	}
	return actor, err
}

// Known finds out who calls, and whether the request says so. If a request carries a credential,
// only that credential counts. A bad one is refused, even if another handler has authenticated
// the user. Otherwise a caller who believes to use one key would act under another name.
//
// The order is: the system key of the request, the token of a person, the identity that an
// earlier handler of ours has let through, the person for whom another handler vouches. If there
// is none of them, named is false and there is no error.
func (i *Identities) Known(r *http.Request) (actor Actor, named bool, err error) {
	key, refusal := gate.Credential(r)
	if refusal != nil {
		return Actor{}, false, i.refuse(r, &gate.Decision{Refusal: refusal})
	}
	if key != "" {
		actor, err = i.ByKey(r, key)
		return actor, true, err
	}
	if token, ok := personToken(r); ok && i.Token != nil {
		actor, err = i.byToken(r.Context(), token)
		return actor, true, err
	}
	// The request itself carries nothing. Handlers before this one may vouch for it.
	if i.Earlier != nil {
		if identity := i.Earlier(r); identity != nil {
			return KeyActor(identity), true, nil
		}
	}
	if i.Trusted != nil {
		if person := i.Trusted(r); person != nil {
			return personActor(person.ID, "", person.Permissions, person.IsSystem), true, nil
		}
	}
	return Actor{}, false, nil
}

// ByKey finds out whose key this is. Announce or Refused is told. The error is a refusal. The
// request says where the key comes from: its address counts for the networks of the key and for
// the limit of failures.
func (i *Identities) ByKey(r *http.Request, key string) (Actor, error) {
	d := gate.Decision{Key: key}
	d.Admitted(i.Admit(r, key))
	if d.Refusal != nil {
		return Actor{}, i.refuse(r, &d)
	}
	return i.accept(r, d.Identity), nil
}

// BySession finds out whose session this is: that of the key, whose row was read for this
// request. Client is where the request comes from. Announce or Refused is told. The error is a
// refusal. The caller has checked the expiry.
func (i *Identities) BySession(r *http.Request, client string, key *store.Key) (Actor, error) {
	d := gate.Decision{KeyID: key.ID, Identity: verify.IdentityOf(key)}
	if !key.Networks.Allow(client) {
		d.Refusal = gate.OtherNetwork()
		return Actor{}, i.refuse(r, &d)
	}
	return i.accept(r, d.Identity), nil
}

// accept tells Announce of a key that is accepted.
func (i *Identities) accept(r *http.Request, identity *verify.Identity) Actor {
	if i.Announce != nil {
		i.Announce(r, identity)
	}
	return KeyActor(identity)
}

// refuse tells Refused of a key that is not accepted.
func (i *Identities) refuse(r *http.Request, d *gate.Decision) error {
	if i.Refused != nil {
		i.Refused(r, d)
	}
	return d.Refusal
}

// byToken finds out which person has this token. The message of a refusal speaks of a token,
// where the gate's own speaks of a key. A token that cannot be verified now gets 503 and not
// 401: a client must not throw away a token that is good.
func (i *Identities) byToken(ctx context.Context, token string) (Actor, error) {
	claims, err := i.Token(ctx, token)
	switch {
	case errors.Is(err, jwtauth.ErrInvalid):
		refusal := gate.Invalid("")
		refusal.Message = "the token is not valid"
		return Actor{}, refusal
	case err != nil:
		refusal := gate.Unavailable("", time.Second, err)
		refusal.Message = "the token cannot be verified at the moment"
		return Actor{}, refusal
	}
	return personActor(claims.Subject, claims.Name, claims.Permissions, claims.IsSystem), nil
}

// personActor makes an actor of a person. It drops permissions that no key could hold: nobody
// could grant them. A person has no acting key, so writes are not bound to a row.
func personActor(id, name string, permissions []string, isSystem bool) Actor {
	actor := Actor{Type: store.ActorUser, Name: id, Label: name, IsSystem: isSystem}
	for _, p := range permissions {
		if store.ValidPermission(p) {
			actor.Permissions = append(actor.Permissions, p)
		}
	}
	return actor
}

// personToken returns the JWT of a bearer token with the prefix of a person's token. The scheme
// may be in any case (RFC 9110 section 11.1).
func personToken(r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.CutPrefix(strings.TrimSpace(token), personPrefix)
}

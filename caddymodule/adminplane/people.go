package adminplane

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	maphandler "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/resolve"
	"github.com/lumio-vision/caddy-system-keys/internal/jwtauth"
)

// JWT says which JSON Web Tokens (RFC 7519) make a person an admin. A token must have a
// subject and an expiry.
type JWT struct {
	// The keys of the issuer: the URL or the file of a JSON Web Key Set. It is
	// read again every five minutes, and sooner if a token names a key that is
	// not in it. While it cannot be read, the last one serves for an hour. After
	// that, tokens get 503. Either this or `key` is required.
	JWKS string `json:"jwks,omitempty"`

	// The one key: a public key in PEM form, or the secret of an HS algorithm.
	// Use `{file.…}` or `{env.…}`.
	Key string `json:"key,omitempty"`

	// The signature algorithms that are accepted, such as `RS256` or `EdDSA`.
	// Required.
	Algorithms []string `json:"algorithms,omitempty"`

	// The issuer that a token must have. Required.
	Issuer string `json:"issuer,omitempty"`

	// The audience that a token must have among its own. Required.
	Audience string `json:"audience,omitempty"`

	// The claim that lists permissions, as an array of strings or as one string
	// with blanks between them. If no claim has this very name, it is a path into nested
	// claims, such as `realm_access.roles`. Default: `permissions`.
	PermissionsClaim string `json:"permissions_claim,omitempty"`

	// The claim that makes a system admin if it is the boolean true. It may be a path
	// too. Default: `is_system`.
	SystemClaim string `json:"system_claim,omitempty"`

	verifier *jwtauth.Verifier // set before the app has started
}

func (j *JWT) config() *jwtauth.Config {
	return &jwtauth.Config{
		JWKS: j.JWKS, Key: []byte(j.Key), Algorithms: j.Algorithms, Issuer: j.Issuer, Audience: j.Audience,
		PermissionsClaim: j.PermissionsClaim, SystemClaim: j.SystemClaim,
	}
}

// start makes the verifier of tokens. The app calls it when placeholders may be resolved.
func (j *JWT) start(repl *caddy.Replacer, signers app.Signers) (err error) {
	config, key := j.config(), j.Key
	err = resolve.Fields(repl, map[string]*string{
		"jwks": &config.JWKS, "key": &key, "issuer": &config.Issuer, "audience": &config.Audience,
	})
	if err != nil {
		return fmt.Errorf("jwt: %w", err)
	}
	config.Key = []byte(key)
	if j.verifier, err = jwtauth.New(*config); err != nil || key == "" {
		return err
	}
	return signers.Claim(app.OwnSecret, config.Key)
}

// TrustAuthUser makes an admin of the user that an earlier authentication handler has let
// through. The user is `{http.auth.user.id}`. Other placeholders of that handler
// (`{http.auth.user.…}`), or placeholders that a `map` handler of this configuration sets,
// such as `{admin_permissions}`, say what the user may do. All others are refused, since a
// client may fill `{http.request.…}`, `{http.vars.…}`, `{http.regexp.…}`,
// `{http.reverse_proxy.…}` and their like. A `map` must not hand on what a client has sent
// either: give it `{http.auth.user.id}` for its source.
type TrustAuthUser struct {
	// The user's permissions, separated by commas or blanks, such as
	// `{http.auth.user.permissions}`.
	Permissions string `json:"permissions,omitempty"`

	// Makes a system admin if it is exactly `true`.
	System string `json:"system,omitempty"`
}

func (t *TrustAuthUser) check() error {
	if t.Permissions == "" && t.System == "" {
		return errors.New("trust_auth_user: permissions or system is needed: without either nobody may do anything")
	}
	return t.checkPlaceholders()
}

func (t *TrustAuthUser) checkPlaceholders() error {
	for _, value := range []string{t.Permissions, t.System} {
		if _, err := mapPlaceholders(value); err != nil {
			return err
		}
	}
	return nil
}

var (
	inBraces       = regexp.MustCompile(`\{[^{}]*\}`)
	authUserSets   = regexp.MustCompile(`^\{http\.auth\.user\.[\w.-]+\}$`)
	mapHandlerSets = regexp.MustCompile(`^\{[\w-]+\}$`) // those with a dot belong to Caddy and other modules
)

// mapPlaceholders returns the placeholders in a value that only a map handler can set. A
// placeholder that a client may fill is an error.
func mapPlaceholders(value string) (found []string, err error) {
	for _, placeholder := range inBraces.FindAllString(value, -1) {
		switch {
		case mapHandlerSets.MatchString(placeholder):
			found = append(found, placeholder)
		case !authUserSets.MatchString(placeholder):
			return nil, fmt.Errorf("trust_auth_user: %s is nobody's word, since a client may fill it: "+
				"only {http.auth.user.…} can be trusted, and what a map handler sets, such as {admin_permissions}", placeholder)
		}
	}
	if strings.ContainsAny(inBraces.ReplaceAllString(value, ""), `{}\`) {
		return nil, fmt.Errorf("trust_auth_user: the braces in %q are not those of placeholders", value)
	}
	return found, nil
}

// checkMaps refuses placeholders that no map handler of the configuration sets. Call it
// when the app starts, since only then all routes are known.
func (t *TrustAuthUser) checkMaps(ctx caddy.Context) error {
	module, err := ctx.AppIfConfigured("http")
	if err != nil {
		return fmt.Errorf("trust_auth_user: %w", err)
	}
	set := make(map[string]bool)
	for _, server := range module.(*caddyhttp.App).Servers {
		collectDestinations(server.Routes, set)
		if server.Errors != nil {
			collectDestinations(server.Errors.Routes, set)
		}
		for _, route := range server.NamedRoutes {
			collectDestinations(caddyhttp.RouteList{*route}, set)
		}
	}
	for _, value := range []string{t.Permissions, t.System} {
		placeholders, _ := mapPlaceholders(value) // Provision has checked it
		for _, placeholder := range placeholders {
			if !set[placeholder] {
				return fmt.Errorf("trust_auth_user: no map handler sets %s", placeholder)
			}
		}
	}
	return nil
}

// collectDestinations adds the placeholders that the map handlers of routes set.
func collectDestinations(routes caddyhttp.RouteList, set map[string]bool) {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *maphandler.Handler:
				for _, name := range handler.Destinations { // its Provision has removed the braces
					set["{"+name+"}"] = true
				}
			case *caddyhttp.Subroute:
				collectDestinations(handler.Routes, set)
				if handler.Errors != nil {
					collectDestinations(handler.Errors.Routes, set)
				}
			}
		}
	}
}

// person returns the user of the request, or nil. Call it only if no handler of ours has
// let the request through, since the user would then be a system key.
func (t *TrustAuthUser) person(r *http.Request) *admin.Person {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return nil
	}
	id, _ := repl.GetString("http.auth.user.id")
	if id == "" || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) { // no store can keep it
		return nil
	}
	return &admin.Person{
		ID:          id,
		Permissions: strings.FieldsFunc(repl.ReplaceAll(t.Permissions, ""), func(c rune) bool { return c == ',' || c == ' ' }),
		IsSystem:    repl.ReplaceAll(t.System, "") == "true",
	}
}

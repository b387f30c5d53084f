package integration_test

import (
	"io"
	"net/http"
	"testing"
)

// TestMethodsNeedPermissions runs the recipe of docs/recipes.md, and the same in CEL.
func TestMethodsNeedPermissions(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, reader := mint(t, keys, "reader", "bots:read", "robots:write") // of which bots:write is a part
	_, writer := mint(t, keys, "writer", "bots:read", "bots:write")
	site := "http://" + run(t, b, `
		handle /recipe {
			system_key_auth
			@write {
				not method GET HEAD OPTIONS
				not system_key {
					permission bots:write
				}
			}
			error @write 403
			respond done
		}
		handle /cel {
			system_key_auth
			@write `+"`!method('GET', 'HEAD', 'OPTIONS') && !system_key({'permission': 'bots:write'})`"+`
			error @write 403
			respond done
		}
		handle /open {
			system_key_auth {
				passthrough
			}
			@write {
				not method GET HEAD OPTIONS
				not system_key {
					permission bots:write
				}
			}
			error @write 403
			respond done
		}`)
	const open = http.StatusOK
	for method, needed := range map[string]bool{
		http.MethodGet: false, http.MethodHead: false, http.MethodOptions: false,
		http.MethodPost: true, http.MethodPut: true, http.MethodPatch: true, http.MethodDelete: true,
		"BREW": true, "get": true,
	} {
		reads := open
		if needed {
			reads = http.StatusForbidden
		}
		for _, request := range []struct {
			path, authorization string
			want                int
		}{
			{"/recipe", "Bearer " + reader, reads},
			{"/recipe", "Bearer " + writer, open},
			{"/recipe", "", http.StatusUnauthorized},
			{"/cel", "Bearer " + reader, reads},
			{"/cel", "Bearer " + writer, open},
			{"/cel", "", http.StatusUnauthorized},
			{"/open", "Bearer " + reader, reads},
			{"/open", "Bearer " + writer, open},
			{"/open", "", reads},
		} {
			if got, _, _ := do(t, method, site+request.path, request.authorization, nil); got != request.want {
				t.Errorf("%s %s with %.20q: %d, want %d", method, request.path, request.authorization, got, request.want)
			}
		}
	}
}

// TestAMatcherKnowsWhoWasLetThrough and by whom, whatever the client sends.
func TestAMatcherKnowsWhoWasLetThrough(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	id, key := mint(t, keys, "bot", "bots:read")
	const answers = `
		respond @known known
		respond anonymous`
	site := "http://" + run(t, b, `
		@known system_key {
			permission bots:read
			label b*
			id `+id.ID.String()+`
		}
		@closed path /closed* /failed
		handle /before {
			route {
				respond @known known
				system_key_auth
				respond "not before its handler"
			}
		}
		handle @closed {
			system_key_auth
			error /failed 502
			`+answers+`
		}
		handle /open {
			system_key_auth {
				passthrough
			}
			`+answers+`
		}
		handle {
			`+answers+`
		}
		handle_errors {
			`+answers+`
		}`)
	for _, test := range []struct{ path, authorization, want string }{
		{"/closed", "Bearer " + key, "known"},
		{"/closed", "", "anonymous"}, // by the error route
		{"/closed", "Bearer " + key[:len(key)-1] + "-", "anonymous"},
		{"/open", "Bearer " + key, "known"},
		{"/open", "", "anonymous"},
		{"/before", "Bearer " + key, "not before its handler"},
		{"/failed", "Bearer " + key, "anonymous"},
		{"/without", "Bearer " + key, "anonymous"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site+test.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{
			"X-Lumio-Auth-Type": {"system_key"}, "X-Lumio-Key-Id": {id.ID.String()}, "X-Lumio-Key-Label": {"bot"}, "X-Lumio-Permissions": {"bots:read"},
		}
		if test.authorization != "" {
			request.Header.Set("Authorization", test.authorization)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if _ = response.Body.Close(); err != nil || string(body) != test.want {
			t.Errorf("%s with %.20q: %q %v, want %q", test.path, test.authorization, body, err, test.want)
		}
	}
}

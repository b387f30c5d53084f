package integration_test

import (
	"fmt"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// newPlane runs an admin plane in front of an API, at the two addresses of a
// [plane.Plane]. Ada is a system admin, and bob may create keys for bots:read.
func newPlane(t *testing.T, b *backend, options string) *plane.Plane {
	t.Helper()
	p := &plane.Plane{Keys: b.keys(t), Issuer: plane.NewIssuer(t), API: plane.ReadOpenAPI(t)}
	hash, err := bcrypt.GenerateFromPassword([]byte(plane.Password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	knowing, trusting := testenv.FreeAddress(t), testenv.FreeAddress(t)
	p.URL, p.Trusting = "http://"+knowing, "http://"+trusting
	load(t, globals(b.options+"\nlast_used_interval 100ms\n"+cheap+options)+fmt.Sprintf(`
		http://%s {
			system_keys_admin {
				jwt {
					jwks %s
					algorithms EdDSA
					issuer https://lumio.example
					audience lumio-admin
				}
			}
			@privileged path /privileged
			system_key_auth @privileged {
				require bots:admin
				failure_limit 1000000 1s
			}
			system_key_auth {
				passthrough
				failure_limit 1000000 1s
			}
			reverse_proxy %s
		}
		http://%s {
			basic_auth {
				ada %[5]s
				bob %[5]s
			}
			map {http.auth.user.id} {admin_permissions} {admin_system} {
				ada "" true
				bob "system-keys:create, bots:read" no
			}
			system_keys_admin {
				trust_auth_user {
					permissions {admin_permissions}
					system {admin_system}
				}
			}
			respond "upstream"
		}`, knowing, p.Issuer.URL, echo(t), trusting, hash))
	return p
}

// Package admin is the admin plane: minting, listing and revoking system keys.
//
// [Service] holds the rules and knows no transport; [Handler] speaks REST over
// net/http. Neither knows Caddy.
package admin

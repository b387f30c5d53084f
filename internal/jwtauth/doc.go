// Package jwtauth verifies the JSON Web Tokens (RFC 7519) of people, which
// another service has signed.
//
// What is accepted follows RFC 8725 (JWT Best Current Practices): the algorithm
// is pinned by configuration and never taken from the token, a key is used with
// the algorithms of its own type only, issuer and audience are compared, an
// expiry is demanded, and tokens of another kind are told apart by their type.
package jwtauth

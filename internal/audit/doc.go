// Package audit keeps the audit log honest and bounded.
//
// A [Sealer] chains records by an HMAC under the installation's secret, so that
// one that was changed, moved or taken away shows; [Verify] looks for that. A
// [Writer] writes behind what requests leave, with bounded memory, and says so
// where it had to drop some. A [Keeper] seals what others wrote, and removes what
// is too old.
package audit

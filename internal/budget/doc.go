// Package budget counts failures by the address of the client, and says when an
// address has had its share.
//
// It holds a token bucket (golang.org/x/time/rate) for each address in a cache of
// bounded size. Whoever has more addresses than the cache has places pushes out
// the counts of others: they then fail a little longer before they are told to
// wait. Nobody is refused for want of a place.
package budget

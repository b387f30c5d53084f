// Package session keeps browsers signed in to the System page. What is over is
// removed from the store by a [Pruner].
package session

// Package engine is what lives: one per store, shared by every handler of a
// process, and untouched by a reload of the configuration.
//
// An engine is made without any input or output, so that a configuration can be
// checked anywhere. Start opens the store. An embedded database that cannot be
// opened is an error; a server that is not there yet is waited for in the
// background, and until then every request is told to come back.
package engine

// Package usage writes behind what requests leave in memory: when each key was
// last used.
//
// A request pays one atomic store. A [Recorder] collects the marks that changed
// and writes them in one batch per interval; a crash loses one interval at
// most, and a single use is never lost to throttling.
package usage

package store

import "time"

// Inspection is what [Store.Inspect] finds.
type Inspection struct {
	// Version is the version of the schema. It is 0 if there is no schema, and -1 if the role
	// may not read it. Newest is the version that this program works with.
	Version, Newest int
	// Triggers names the triggers of the schema that are missing or disabled. There are none
	// unless the schema has the newest version.
	Triggers []string
	// Enable are the statements by which the owner of the tables enables those of Triggers that
	// are there. SQLite has none.
	Enable []string
	// Role is the role that the connection has, and Lacking the rights of a server that the
	// role has not. A file has neither.
	Role    string
	Lacking []string
	// Bound says that there are keys which may be used from some networks alone. It is false
	// unless the schema has the newest version, and the role its rights.
	Bound bool
	// Now is what the clock of the store says.
	Now time.Time
}

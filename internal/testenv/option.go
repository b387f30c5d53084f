package testenv

// Option changes a server that a test starts for itself.
type Option func(*options)

type options struct {
	settings []setting
}

type setting struct{ name, value string }

// Setting gives the server a setting of its configuration file, such as
// ("max_connections", "10") for PostgreSQL or ("requirepass", "secret") for
// Redis. It wins over the settings that this package makes.
func Setting(name, value string) Option {
	return func(o *options) { o.settings = append(o.settings, setting{name, value}) }
}

// Durable makes PostgreSQL wait for the disk at every commit, for tests of what
// survives a crash. Without it a commit is in the operating system's hands,
// which is enough to survive [Postgres.Kill].
func Durable() Option {
	return func(o *options) {
		Setting("fsync", "on")(o)
		Setting("full_page_writes", "on")(o)
	}
}

func collect(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// value returns the last value given to a setting, or "".
func (o options) value(name string) string {
	value := ""
	for _, s := range o.settings {
		if s.name == name {
			value = s.value
		}
	}
	return value
}

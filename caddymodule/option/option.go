// Package option reads the options of our Caddyfile blocks, and checks the kinds of values that
// several of them have.
package option

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// Reader reads the arguments, and the block, of one option of a Caddyfile.
type Reader func(d *caddyfile.Dispenser) error

// Block is the options that a block may have, by name.
type Block map[string]Reader

// ReadDirective reads a directive or global option that has no arguments. Unknown is the
// format of the error about an option that there is not; the error lists the options.
func (b Block) ReadDirective(d *caddyfile.Dispenser, unknown string) error {
	d.Next() // consume the name
	if d.NextArg() {
		return d.ArgErr()
	}
	return b.Read(d, unknown)
}

// Read reads the block that follows.
//
// A repeated option is a mistake, unless it is repeatable. So is an empty value: it comes
// from a variable that is not set, and the option's default may allow more than the user
// wanted. Only redis may be empty, which means that there is none.
func (b Block) Read(d *caddyfile.Dispenser, unknown string, repeatable ...string) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if seen[name] && !slices.Contains(repeatable, name) {
			return d.Errf("%s is already specified: write it once", name)
		}
		seen[name] = true
		ahead := *d
		if name != "redis" && slices.ContainsFunc(ahead.RemainingArgs(), IsBlank) {
			return d.Errf("%s: a value is empty (is a variable not set?)", name)
		}
		read, ok := b[name]
		if !ok {
			return d.Errf(unknown+"; it must be one of %s", name, strings.Join(slices.Sorted(maps.Keys(b)), ", "))
		}
		if err := read(d); err != nil {
			if !strings.Contains(err.Error(), name) { // an argument that does not know whose it is
				err = fmt.Errorf("%s: %w", name, err)
			}
			return err
		}
	}
	return nil
}

// IsBlank reports whether a value is empty, as it is if it comes from a variable that is not set.
func IsBlank(s string) bool { return strings.TrimSpace(s) == "" }

// Checked reads an option and checks it at once, so that the error names its line.
func Checked(read Reader, check func() error) Reader {
	return func(d *caddyfile.Dispenser) error {
		if err := read(d); err != nil {
			return err
		}
		return AtLine(d, check())
	}
}

// AtLine gives an error its file and line. Nil stays nil.
func AtLine(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(err)
}

// Flag reads an option without arguments. Its presence sets the value.
func Flag(value *bool) Reader {
	return func(d *caddyfile.Dispenser) error {
		if *value = true; d.NextArg() {
			return d.ArgErr()
		}
		return nil
	}
}

// List reads one argument or more, and appends them to what a repeated option had.
func List(values *[]string) Reader {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if *values = append(*values, args...); len(args) == 0 {
			return d.ArgErr()
		}
		return nil
	}
}

// Arg reads exactly one argument, and parses it.
func Arg[T any](value *T, parse func(arg string) (T, error)) Reader {
	return func(d *caddyfile.Dispenser) (err error) {
		var arg string
		if !d.AllArgs(&arg) {
			return d.ArgErr()
		}
		*value, err = parse(arg)
		return AtLine(d, err)
	}
}

// Text reads exactly one argument as it is.
func Text(value *string) Reader {
	return Arg(value, func(arg string) (string, error) { return arg, nil })
}

// OnOff reads the argument `on` or `off`. Name is for the error.
func OnOff(name string, value *bool) Reader {
	return Arg(value, func(arg string) (bool, error) { return arg == "on", CheckWord(name, arg, "on", "off") })
}

// Duration reads exactly one argument as a duration.
func Duration(value *caddy.Duration) Reader { return Arg(value, parseDuration) }

// parseDuration parses a duration such as 30s or 90d.
func parseDuration(arg string) (caddy.Duration, error) {
	d, err := caddy.ParseDuration(arg)
	if err != nil {
		return 0, fmt.Errorf("not a duration, such as 30s: %q", arg)
	}
	return caddy.Duration(d), nil
}

// Size parses a number of bytes such as 19MiB. A number without a unit is most likely
// one of something else than bytes.
func Size(arg string) (int64, error) {
	size, err := humanize.ParseBytes(arg)
	if err != nil || strings.Trim(arg, "0123456789., ") == "" || size == 0 || size > 1<<50 {
		return 0, fmt.Errorf("not a size with a unit, such as 64MiB: %q", arg)
	}
	return int64(size), nil
}

// RefuseBlock refuses a block where there can be none. Caddy would skip it.
func RefuseBlock(d *caddyfile.Dispenser) error {
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unrecognized option %q", d.Val())
	}
	return nil
}

// CheckWord checks that a value is one of two words or more.
func CheckWord(name, value string, words ...string) error {
	if slices.Contains(words, value) {
		return nil
	}
	last := len(words) - 1
	return fmt.Errorf("%s: must be %s or %s, not %q", name, strings.Join(words[:last], ", "), words[last], value)
}

// CheckDuration checks the bounds of a duration. If most is 0 there is no upper bound.
func CheckDuration(name string, value caddy.Duration, least, most time.Duration) error {
	d := time.Duration(value)
	switch {
	case most == 0 && d < least:
		return fmt.Errorf("%s: must be at least %s, not %s", name, least, d)
	case most > 0 && (d < least || d > most):
		return fmt.Errorf("%s: must be from %s to %s, not %s", name, least, most, d)
	}
	return nil
}

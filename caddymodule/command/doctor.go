package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// doctorCommand is for an operator who sees 503 and does not know why. It looks at one part
// after the other, in the order in which a server needs them, and each message names the next
// step. Unlike other commands it does not migrate the store, and opens a SQLite file for reading
// only.
//
// Standard output has a line for each check, the good ones too, so that two runs can be
// compared. Standard error has only the number of those that failed. A check that depends on one
// that failed is left out, or a single cause would look like many.
func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [--json]",
		Short: "Checks the configuration, the store and Redis, and says what to do",
		Long: `
Prints one line for each check: ok, or what is wrong and what to do. It fails if
something is wrong. What depends on a check that has failed is left out.

  configuration  the settings of system_keys, and whether its secrets are there
  files          who can use the SQLite file, and replace it
  store          whether the store answers
  schema         its version
  grants         the rights of the role in PostgreSQL
  triggers       whether each is there, and enabled
  members        the servers that hold a lease, and those that are dead
  clock          the clock of the database server, beside the one of this machine
  redis          a read and a write
  proxies        whose word counts for the address of a client

Run it as the user of the server and with its environment. The store is only read.
In Redis it writes one key of its own, for a second.`,
		Args: cobra.NoArgs,
		RunE: runDoctor,
	}
	cmd.Flags().Bool("json", false, "Print a JSON object for each check, one a line")
	return cmd
}

// diagnosis is what a check has found. Its fields are those of the JSON output.
type diagnosis struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	// Message says what to do, or what is fine.
	Message string `json:"message"`
}

// doctor runs the checks, one after the other. Its target has no store until the check of that
// name has opened it.
//
// Report prints a diagnosis. Sick counts those that were wrong. Bound comes from the store, and
// says whether the addresses of clients matter.
type doctor struct {
	target
	report func(diagnosis) error
	sick   int   // checks
	failed error // the first line of the output that could not be written
	bound  bool  // there are keys that may be used from some networks alone
}

// errSick means that a line on standard output says what is wrong. The command then ends with
// status 1.
var errSick = errors.New("something is wrong")

// runDoctor prints a line for each check as soon as it is done: the next one may wait for a
// database that does not answer. A flag that is wrong is no finding but wrong usage.
func runDoctor(cmd *cobra.Command, _ []string) error {
	d := &doctor{target: target{now: time.Now}} //nolint:forbidigo // the real clock is wired here
	out := cmd.OutOrStdout()
	d.report = func(f diagnosis) error {
		state := "ok"
		if !f.OK {
			state = "wrong"
		}
		_, err := fmt.Fprintf(out, "%-13s  %-5s  %s\n", f.Check, state, printable(f.Message))
		return err
	}
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		encoder := newEncoder(out)
		d.report = func(f diagnosis) error { return encoder.Encode(f) }
	}
	location, err := d.locate(cmd)
	if _, usage := errors.AsType[*usageError](err); usage {
		return err
	}
	// An error of locate is a finding about the configuration, as no store was looked for yet.
	if d.check("configuration", d.checkConfiguration, err) {
		d.checkStore(cmd.Context(), location)
	}
	// These need the configuration alone, so they run even if the store is not found.
	if d.app != nil {
		d.check("redis", func() (string, error) { return d.checkRedis(cmd.Context()) }, nil)
		d.check("proxies", func() (string, error) { return checkProxies(d.raw, d.bound) }, nil)
	}
	if d.sick > 0 {
		return errors.Join(fmt.Errorf("%w: %d check(s) failed", errSick, d.sick), d.failed)
	}
	return d.failed
}

// check runs a check, unless there is an error already, and reports what it has found. Run
// returns a message for a check that went well, which may be empty, or what is wrong and what to
// do.
func (d *doctor) check(name string, run func() (string, error), err error) (ok bool) {
	var message string
	if err == nil {
		message, err = run()
	}
	if err != nil {
		d.sick++
		message = err.Error()
	}
	if err := d.report(diagnosis{Check: name, OK: err == nil, Message: message}); err != nil && d.failed == nil {
		d.failed = fmt.Errorf("write the output: %w", err)
	}
	return err == nil
}

// checkConfiguration checks the settings of system_keys, and whether the secrets can be
// resolved. Without the environment of the server they may be missing here and be there in the
// server, which the message says. No secret at all is allowed.
func (d *doctor) checkConfiguration() (string, error) {
	if d.app == nil {
		return "none: --store names the store", nil
	}
	// A check is one line, and Validate reports several mistakes on several lines.
	if err := d.app.Validate(); err != nil {
		return "", errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if secrets, err := d.secrets(); err != nil {
		return "", fmt.Errorf("%w: set it, or run this with the environment of the server", err)
	} else if len(secrets) == 0 {
		return "no secret: the audit log is chained without one", nil
	}
	return "", nil
}

// checkStore runs the checks of the store. A check is left out if it could say nothing: no
// schema without an answer, no triggers without the schema and the rights to read them.
func (d *doctor) checkStore(ctx context.Context, location open.Location) {
	if location.Driver == open.SQLite {
		d.check("files", func() (string, error) { return checkFiles(location.Name) }, nil)
	}
	var found *store.Inspection
	var before, after time.Time
	reached := d.check("store", func() (string, error) {
		opened, err := location.Open(ctx, open.Options{ReadOnly: true, SameOwner: true})
		if err != nil {
			return "", missing(location, err)
		}
		// The answer was made between the two readings of this clock.
		d.store, before = opened, d.now()
		found, err = d.store.Inspect(ctx)
		after = d.now()
		if err != nil {
			return "", fmt.Errorf("%w: start the database server, or correct the DSN", err)
		}
		return location.Driver, nil
	}, nil)
	if d.store != nil {
		defer func() { _ = d.store.Close() }()
	}
	if !reached {
		return
	}
	fits := d.check("schema", func() (string, error) { return checkSchema(found) }, nil)
	if found.Role != "" && found.Version != 0 {
		fits = d.check("grants", func() (string, error) { return checkGrants(found) }, nil) && fits
		d.check("clock", func() (string, error) { return checkClock(found.Now, before, after) }, nil)
	}
	if !fits {
		return
	}
	d.check("triggers", func() (string, error) { return d.checkTriggers(ctx, found) }, nil)
	d.check("members", func() (string, error) { return d.checkMembers(ctx, found) }, nil)
	d.bound = found.Bound
}

// checkFiles looks at the rights on a SQLite file, on those beside it and on their folder. The
// file has the mint key, and whoever can write to it can make keys. Whoever can write to the
// folder can put another file in its place, unless the sticky bit prevents that. Files that are
// not there are skipped. The rights of the group are left to the operator.
func checkFiles(path string) (string, error) {
	if runtime.GOOS == "windows" {
		return "not looked at on Windows", nil
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err == nil && info.Mode()&0o007 != 0 {
			return "", fmt.Errorf("every user of this machine can use %s (mode %04o): run chmod 600 %s", name, info.Mode().Perm(), name)
		}
	}
	folder := filepath.Dir(path)
	info, err := os.Stat(folder)
	if err != nil {
		return "", fmt.Errorf("%w: make the folder, for the user of the server", err)
	}
	if info.Mode()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
		return "", fmt.Errorf("every user of this machine can replace the files in %s (mode %04o): run chmod o-w %s", folder, info.Mode().Perm(), folder)
	}
	return "", nil
}

// checkSchema compares the version of the schema with the one that this program needs. A newer
// one was made by a newer program, and no server of this version can use it.
func checkSchema(found *store.Inspection) (string, error) {
	const migrate = "run caddy system-keys migrate as the owner of the tables"
	switch {
	case found.Version == 0:
		return "", fmt.Errorf("there is none: start a server, or %s", migrate)
	case found.Version < 0:
		return "not known: the role may not read it", nil // checkGrants says what to do
	case found.Version < found.Newest:
		return "", fmt.Errorf("it has version %d, and this program needs %d: start a server of this version, or %s", found.Version, found.Newest, migrate)
	case found.Version > found.Newest:
		return "", fmt.Errorf("it has version %d, and this program knows %d at most: use the program that has upgraded it", found.Version, found.Newest)
	}
	return fmt.Sprintf("version %d", found.Version), nil
}

// checkGrants names the first rights that the role lacks. The remedy gives it all of them.
func checkGrants(found *store.Inspection) (string, error) {
	if len(found.Lacking) > 0 {
		return "", fmt.Errorf("the role %q lacks %s: run caddy system-keys grants --role %s, and what it prints as the owner of the tables",
			found.Role, firstOf(found.Lacking, 2), quoted(found.Role))
	}
	return fmt.Sprintf("the role %q may do what a server does", found.Role), nil
}

// firstOf lists the first elements, and says how many more there are. A message is one line.
func firstOf(all []string, n int) string {
	if len(all) <= n {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s +%d more", strings.Join(all[:n], ", "), len(all)-n)
}

// quoted quotes a word for a POSIX shell. The name of a role may have blanks and quotes, and the
// operator pastes the line.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// checkTriggers looks for triggers that are missing or disabled. Without those of the store,
// changes of keys are not logged, and servers must read every key anew. Without those of a table
// that is followed, servers refuse the keys that came from it.
func (d *doctor) checkTriggers(ctx context.Context, found *store.Inspection) (string, error) {
	if len(found.Triggers) > 0 {
		// The triggers of a file cannot be switched off, so somebody has changed its schema.
		remedy := "stop the servers, and restore a backup of the file"
		if found.Role != "" {
			remedy = "as the owner of the tables run " + strings.Join(found.Enable, " ") +
				" Restore what is not there any more from a dump of the schema"
		}
		return "", fmt.Errorf("missing or disabled: %s: %s", strings.Join(found.Triggers, ", "), remedy)
	}
	if in, ok := d.store.(*postgres.Store); ok {
		followed, err := in.FollowedTable(ctx)
		if err != nil {
			return "", err
		}
		if followed != nil && !followed.Carried {
			return "", errors.New("changes of the table that is followed do not all get here: run import --follow again")
		}
	}
	return "", nil
}

// checkMembers lists the servers. One is dead if it was silent for longer than its lease, by the
// clock of the store. The other servers remove a dead one after a while, so that no revocation
// waits for it.
func (d *doctor) checkMembers(ctx context.Context, found *store.Inspection) (string, error) {
	progress, err := d.store.Progress(ctx, nil, nil)
	if err != nil {
		return "", err
	}
	if len(progress.Members) == 0 {
		return "no server runs on the store", nil
	}
	var alive, dead []string
	for _, m := range progress.Members {
		name := printable(m.Name)
		silent := found.Now.Sub(m.SeenAt).Round(time.Second)
		// Times are rounded to a second, and a beat may be on its way.
		if silent > m.TTL+time.Second {
			dead = append(dead, fmt.Sprintf("%s, not seen for %s", name, silent))
			continue
		}
		alive = append(alive, fmt.Sprintf("%s (lease %s)", name, m.TTL))
	}
	switch {
	// The advice differs: without another server nobody removes the dead ones.
	case len(dead) > 0 && len(alive) > 0:
		return "", fmt.Errorf("dead: %s: look whether that server is up and reaches the store; the others remove it if not", strings.Join(dead, "; "))
	case len(dead) > 0:
		return "", fmt.Errorf("dead: %s, and no other server runs: start one, which removes those that are gone", strings.Join(dead, "; "))
	}
	return strings.Join(alive, ", "), nil
}

// maxClockDifference is how far the clocks may be apart. A last use that is further ahead is
// cut: see [store.Store].
const maxClockDifference = time.Second

// checkClock compares the clock of the store with that of this machine, which was read before
// and after. Only what the two readings do not explain counts, so a slow connection is no fault.
// The clock that matters is that of the machine on which the server runs, so run doctor there.
func checkClock(now, before, after time.Time) (string, error) {
	var difference time.Duration
	switch {
	case now.Before(before):
		difference = now.Sub(before)
	case now.After(after):
		difference = now.Sub(after)
	}
	switch {
	case difference > maxClockDifference:
		return "", fmt.Errorf("the clock of the database server is %s ahead of this machine's: let both follow NTP", difference.Round(time.Second/10))
	case difference < -maxClockDifference:
		return "", fmt.Errorf("the clock of the database server is %s behind this machine's: let both follow NTP", (-difference).Round(time.Second/10))
	}
	return "", nil
}

// checkRedis reads and writes a key of its own. No proof is ever kept under that name, and it is
// gone after a second. Redis that fails is wrong, but servers verify keys without it.
//
// The user of Redis needs no right but GET and SET below the prefix of our keys, so the probe
// asks for no more.
func (d *doctor) checkRedis(ctx context.Context) (string, error) {
	logger := slog.New(slog.DiscardHandler)
	settings, err := d.app.Redis.Resolve(caddy.NewReplacer(), logger)
	switch {
	case err != nil:
		return "", err
	case settings == nil:
		return "none is configured", nil
	}
	cache, err := settings.NewCache(logger)
	if err != nil {
		return "", err
	}
	defer func() { _ = cache.Close() }()
	cache.Check(ctx, verify.ProbeAddress)
	health := cache.Health()
	switch {
	case health.Condition == redis.Unreachable:
		return "", fmt.Errorf("it does not answer: %s: start it, or correct its URL; servers do without it meanwhile", health.Error)
	case health.Reads != redis.OK:
		return "", fmt.Errorf("reads fail: %s: give the user GET and SET on sk1:*", health.Error)
	case health.Writes != redis.OK:
		return "", fmt.Errorf("writes fail: %s: name the primary, and give the user GET and SET on sk1:*", health.Error)
	}
	return "", nil
}

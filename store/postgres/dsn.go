package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// settings are the names that a DSN may set. pgx would send any other name to the server as a
// parameter, and the server would repeat it in its error. The last two lines are parameters
// of the server. Others are set by options.
var settings = strings.Fields(`
host port dbname database user password passfile connect_timeout service servicefile target_session_attrs
sslmode sslkey sslcert sslcertmode sslrootcert sslnegotiation sslpassword sslsni
krbspn krbsrvname min_protocol_version max_protocol_version channel_binding require_auth
default_query_exec_mode statement_cache_capacity description_cache_capacity
pool_max_conns pool_min_conns pool_min_idle_conns pool_max_conn_lifetime pool_max_conn_idle_time
pool_health_check_period pool_max_conn_lifetime_jitter pool_ping_timeout
options application_name client_encoding search_path timezone role statement_timeout lock_timeout
idle_in_transaction_session_timeout idle_session_timeout`)

// These errors say what is wrong with a DSN. No text repeats a part of it: if the DSN is
// not what its author meant, any part may be the password.
var (
	errMark   = errors.New("begins with a byte order mark (U+FEFF): save the file without one")
	errQuotes = errors.New("is in quotes: leave them out (docker run --env-file passes them on)")
	errScheme = errors.New("must begin with postgres:// or postgresql://, in lower case")
	errEscape = errors.New("is not a valid URL: in a user name and a password, " +
		"everything but letters, digits and -._~ is written as %XX")
	errPairs = errors.New("is neither a postgres:// URL nor of the form key=value: there is no blank beside a =, " +
		"and a value that is empty or has a blank is written in single quotes")
	errValue = errors.New(`has a value with = or " outside of single quotes: write it in them`)
	errName  = errors.New("sets something that is not known: a password with special characters must be written as %XX in " +
		"a URL, and in single quotes in the form key=value; a parameter of the server goes into options")
)

// ofPrisma are options of Prisma's connection URLs that PostgreSQL does not have, and what to
// do instead: https://www.prisma.io/docs/orm/overview/databases/postgresql
var ofPrisma = []struct{ name, instead string }{
	{"schema", "schema is not part of the DSN (in a Caddyfile: store postgres <dsn> { schema <name> }; on the command line: --schema)"},
	{"connection_limit", "for connection_limit write pool_max_conns"},
	{"pgbouncer", "leave out pgbouncer (nothing depends on it)"},
	{"statement_cache_size", "leave out statement_cache_size"},
	{"pool_timeout", "leave out pool_timeout"},
	{"socket_timeout", "leave out socket_timeout"},
	{"max_connection_lifetime", "for max_connection_lifetime write pool_max_conn_lifetime, with a unit"},
	{"max_idle_connection_lifetime", "for max_idle_connection_lifetime write pool_max_conn_idle_time, with a unit"},
	{"sslaccept", "for sslaccept write sslmode (verify-full or require)"},
	{"sslidentity", "for sslidentity write sslcert and sslkey"},
}

// CheckDSN returns the mistakes that the text of a DSN shows. It reads no file and asks no
// server. It is stricter than pgx, which takes text that it does not understand for the name
// of a user, a database or a parameter. pgx and the server repeat such names in their
// errors.
func CheckDSN(dsn string) error {
	if err := checkDSN(dsn); err != nil {
		return fmt.Errorf("the DSN %w", err)
	}
	return nil
}

// checkDSN is [CheckDSN] without the subject of the sentence.
func checkDSN(dsn string) error {
	before, rest, isURL := strings.Cut(dsn, "://")
	switch {
	case strings.HasPrefix(dsn, "\ufeff"):
		return errMark
	case strings.ContainsAny(firstOf(dsn), quotes):
		return errQuotes
	case isURL && (before == "postgres" || before == "postgresql"):
		return checkURL(rest)
	case isURL && !strings.Contains(before, "="):
		return errScheme
	}
	return checkPairs(dsn)
}

// Quotation marks of word processors count as well as those of shells. Blanks are those of isspace
// in C, which libpq asks.
const (
	quotes = "\"'`“”‘’"
	blanks = " \t\n\r\v\f"
)

// firstOf returns the first character of s, which may have several bytes, or "".
func firstOf(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

// checkURL checks the part of a URL after the scheme. In pgx and libpq the password ends at
// the first @. In other programs it ends at the last @ before a slash. So a second @ is
// refused.
func checkURL(rest string) error {
	_, err := url.PathUnescape(rest)
	switch at, end := strings.IndexByte(rest, '@'), strings.IndexAny(rest, "/?"); {
	case err != nil, strings.ContainsAny(rest, blanks+"#"), strings.Count(rest, "@") > 1, at > end && end >= 0:
		return errEscape
	case strings.HasSuffix(rest, `"`), strings.HasSuffix(rest, "'"):
		return errQuotes
	}
	rest, query, _ := strings.Cut(rest, "?")
	hosts, _, _ := strings.Cut(rest[strings.IndexByte(rest, '@')+1:], "/")
	for host := range strings.SplitSeq(hosts, ",") {
		colon := strings.LastIndexByte(host, ':')
		if colon > strings.LastIndexByte(host, ']') && strings.Trim(host[colon+1:], "0123456789") != "" {
			return errEscape
		}
	}
	// The names of the options are compared after they are unescaped, as pgx does.
	values, err := url.ParseQuery(query)
	if err != nil {
		return errEscape
	}
	return checkNames(slices.Collect(maps.Keys(values)))
}

// checkNames checks the names that a DSN sets. The error about those of Prisma names all of
// them, in words of ours.
func checkNames(names []string) error {
	var instead []string
	for _, option := range ofPrisma {
		if slices.Contains(names, option.name) {
			instead = append(instead, option.instead)
		}
	}
	if instead != nil {
		return errors.New("has options of Prisma, which PostgreSQL does not know: " + strings.Join(instead, "; "))
	}
	for _, name := range names {
		if !slices.Contains(settings, name) {
			return errName
		}
	}
	return nil
}

// checkPairs checks the form key=value. The grammar is that of libpq, but without blanks
// beside a =. With those, the user in `user= password=x` would be `password=x`.
func checkPairs(dsn string) error {
	for s := strings.Trim(dsn, blanks); s != ""; s = strings.TrimLeft(s, blanks) {
		name, rest, found := strings.Cut(s, "=")
		if !found || strings.ContainsAny(name, blanks) {
			return errPairs
		}
		if err := checkNames([]string{name}); err != nil {
			return err
		}
		quoted := strings.HasPrefix(rest, "'")
		stop := blanks
		if quoted {
			stop, rest = "'", rest[1:]
		}
		end := endOf(rest, stop)
		value := rest[:end]
		s = rest[end:]
		if quoted {
			if s == "" {
				return errPairs
			}
			if s = s[1:]; s != "" && !strings.ContainsAny(s[:1], blanks) {
				return errPairs
			}
			continue
		}
		// A password may hold a = as it is: pgx reads up to the next blank.
		password := name == "password" || name == "sslpassword"
		switch {
		case value == "":
			return errPairs
		case strings.Contains(value, "=") && !password, strings.HasPrefix(value, `"`):
			return errValue
		}
	}
	if strings.Trim(dsn, blanks) == "" {
		return errPairs
	}
	return nil
}

// endOf returns the index of the first character of stop that has no backslash before it, or
// the length of s.
func endOf(s, stop string) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case strings.IndexByte(stop, s[i]) >= 0:
			return i
		}
	}
	return len(s)
}

// Server returns the servers and the database that a DSN leads to. It is for people, and has no
// password. Of a DSN that [CheckDSN] refuses it returns nothing.
func Server(dsn string) string {
	if CheckDSN(dsn) != nil {
		return ""
	}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return ""
	}
	// pgx tries the servers in this order.
	servers := []string{address(config.Host, config.Port)}
	for _, fallback := range config.Fallbacks { // the same server without TLS is one too
		if next := address(fallback.Host, fallback.Port); !slices.Contains(servers, next) {
			servers = append(servers, next)
		}
	}
	return strings.Join(servers, ",") + "/" + cmp.Or(config.Database, config.User)
}

// address joins a host or the folder of a unix socket, and a port.
func address(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// complaints are the parts of pgx's errors about a DSN that quote nothing of it.
var complaints = []string{
	"failed to parse as URL", "failed to parse as keyword/value", "failed to read service", "sslmode is invalid",
	"failed to configure TLS", "invalid port", "invalid connect_timeout", "invalid sslcertmode",
	"invalid require_auth", "unknown channel_binding value", "unknown target_session_attrs value",
	"invalid default_query_exec_mode", "cannot parse pool_max_conns", "pool_max_conns too small", "cannot parse pool_",
}

// explainDSN turns an error of pgx about a DSN into one that does not repeat the DSN. pgx
// masks the passwords that it recognizes, but in a DSN that cannot be parsed any part may be
// the password.
func explainDSN(err error) error {
	text := err.Error()
	for _, complaint := range complaints {
		if strings.Contains(text, complaint) {
			return fmt.Errorf("the DSN: %s", complaint)
		}
	}
	return fmt.Errorf("the DSN %w", errPairs)
}

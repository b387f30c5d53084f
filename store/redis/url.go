package redis

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// target is the Redis that a list of URLs describes: a node, a cluster or sentinels.
type target struct {
	scheme string
	// addrs holds host:port pairs, or the path of one unix socket.
	addrs              []string
	username, password string
	db                 int
	parameters         parameters
}

// parameters are the names and values behind a URL's question mark.
type parameters map[string]string

// The parameters that a URL may have. See the package's documentation.
const (
	clientName       = "client_name"
	clusterMode      = "cluster"
	database         = "db"
	masterName       = "master_name"
	poolSize         = "pool_size"
	sentinelPassword = "sentinel_password"
	sentinelUsername = "sentinel_username"
	skipVerify       = "skip_verify"
)

var knownParameters = []string{
	clientName, clusterMode, database, masterName, poolSize, sentinelPassword, sentinelUsername, skipVerify,
}

// parseURLs reads a list of URLs. Its errors say which URL is wrong and how. They repeat
// nothing of the URL except the name of an unknown parameter: a mistake can move a
// password to any part of a URL.
func parseURLs(urls []string) (*target, error) {
	if len(urls) == 0 {
		return nil, errors.New("redis: no URL is given")
	}
	var all *target
	for i, raw := range urls {
		parsed, err := parseURL(raw)
		switch {
		case err != nil:
		case i == 0:
			all = parsed
		default:
			err = all.add(parsed)
		}
		if err != nil {
			return nil, fmt.Errorf("redis: URL %d of %d: %w", i+1, len(urls), err)
		}
	}
	return all, all.check()
}

func parseURL(raw string) (*target, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil { // its text repeats the URL
		return nil, errors.New("is malformed (special characters of a password are written as %XX)")
	}
	if u.Fragment != "" || strings.Contains(u.RawQuery, "@") {
		return nil, errors.New("has a # or ? before its last @ (special characters of a password are written as %XX)")
	}
	t := &target{scheme: u.Scheme}
	if t.parameters, err = parseParameters(u.RawQuery); err != nil {
		return nil, err
	}
	if t.username, t.password, err = credentials(u.User); err != nil {
		return nil, err
	}

	db := t.parameters[database]
	switch t.scheme {
	case "redis", "rediss":
		addr, err := t.address(u)
		if err != nil {
			return nil, err
		}
		t.addrs = []string{addr}
		if path := strings.Trim(u.Path, "/"); path != "" {
			if db != "" && db != path {
				return nil, errors.New("names two databases")
			}
			db = path
		}
	case "unix":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/" {
			return nil, errors.New("needs the absolute path of a socket (unix:///path/to.sock)")
		}
		t.addrs = []string{u.Path}
	default:
		return nil, errors.New("must begin with redis://, rediss:// or unix://")
	}
	if db != "" {
		n, err := strconv.ParseUint(db, 10, 31)
		if err != nil {
			return nil, errors.New("has a database that is not a number")
		}
		t.db = int(n)
	}
	return t, nil
}

func parseParameters(query string) (parameters, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("has malformed parameters")
	}
	found := parameters{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch given := values[name]; {
		case !slices.Contains(knownParameters, name):
			return nil, fmt.Errorf("has an unknown parameter %q (known are %s)", name, strings.Join(knownParameters, ", "))
		case len(given) > 1:
			return nil, fmt.Errorf("has the parameter %s twice", name)
		case given[0] == "":
			return nil, fmt.Errorf("has a parameter %s without a value", name)
		default:
			found[name] = given[0]
		}
	}
	if n, ok := found[poolSize]; ok {
		if size, err := strconv.ParseUint(n, 10, 16); err != nil || size == 0 {
			return nil, fmt.Errorf("has a %s that is not a number from 1 to 65535", poolSize)
		}
	}
	if b, ok := found[clusterMode]; ok && b != "true" {
		return nil, fmt.Errorf("has a %s that is not true", clusterMode)
	}
	if b, ok := found[skipVerify]; ok {
		if _, err := strconv.ParseBool(b); err != nil {
			return nil, fmt.Errorf("has a %s that is not true or false", skipVerify)
		}
	}
	return found, nil
}

func credentials(info *url.Userinfo) (username, password string, err error) {
	if info == nil {
		return "", "", nil
	}
	if password, _ = info.Password(); password == "" {
		return "", "", errors.New("has a user name without a password (a password alone is written as :password@)")
	}
	return info.Username(), password, nil
}

// address returns the host:port of a URL. The default port is that of Redis, or that of
// a sentinel.
func (t *target) address(u *url.URL) (string, error) {
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return "", errors.New("names no host")
	}
	if port == "" {
		port = "6379"
		if t.parameters[masterName] != "" {
			port = "26379"
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("has a port that is not a number from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// add adds the host of a further URL. Everything else in that URL must be left out or be
// the same as in the first one.
func (t *target) add(other *target) error {
	switch {
	case other.scheme != t.scheme:
		return errors.New("has another scheme than the first")
	case t.scheme == "unix":
		return errors.New("is a second unix socket; a cluster or sentinels are reached by host and port")
	case slices.Contains(t.addrs, other.addrs[0]):
		return errors.New("names the same host and port as one before it")
	case other.password != "" && (other.username != t.username || other.password != t.password):
		return errors.New("has another user or password than the first")
	case other.db != 0 && other.db != t.db:
		return errors.New("names another database than the first")
	}
	for name, value := range other.parameters {
		if name != database && t.parameters[name] != value {
			return fmt.Errorf("has the parameter %s, and the first URL has not, or with another value", name)
		}
	}
	t.addrs = append(t.addrs, other.addrs...)
	return nil
}

// cluster reports whether the servers are a cluster: there are several, or the first URL
// says so.
func (t *target) cluster() bool {
	return t.parameters[masterName] == "" && (len(t.addrs) > 1 || t.parameters[clusterMode] != "")
}

// check refuses settings that contradict each other.
func (t *target) check() error {
	sentinels := t.parameters[masterName] != ""
	_, cluster := t.parameters[clusterMode]
	_, user := t.parameters[sentinelUsername]
	_, password := t.parameters[sentinelPassword]
	_, unverified := t.parameters[skipVerify]
	switch {
	case sentinels && t.scheme == "unix":
		return fmt.Errorf("redis: %s goes with redis:// or rediss://, not with a unix socket", masterName)
	case cluster && t.scheme == "unix":
		return fmt.Errorf("redis: %s goes with redis:// or rediss://, not with a unix socket", clusterMode)
	case cluster && sentinels:
		return fmt.Errorf("redis: %s does not go with %s", clusterMode, masterName)
	case !sentinels && (user || password):
		return fmt.Errorf("redis: %s and %s go with %s only", sentinelUsername, sentinelPassword, masterName)
	case user && !password:
		return fmt.Errorf("redis: %s goes with %s", sentinelUsername, sentinelPassword)
	case unverified && t.scheme != "rediss":
		return fmt.Errorf("redis: %s goes with rediss:// only", skipVerify)
	case t.cluster() && t.db != 0:
		return errors.New("redis: a cluster has no database but 0")
	}
	return nil
}

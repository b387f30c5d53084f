// Package resolve replaces the placeholders of settings, such as `{env.DATABASE_URL}` or
// `{file./run/secrets/dsn}`. It takes no result that a forgotten variable, or the quotes of
// another program, have left behind.
package resolve

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// harmlessPlaceholder matches placeholders that an error may name. Other text in braces
// may be part of a secret.
var harmlessPlaceholder = regexp.MustCompile(`\{(?:env|file|system)\.[^{}]*\}`)

// Text replaces the placeholders of a value, and trims blanks and line ends of files
// and variables. It returns an error if the result, or a placeholder, is empty, in quotes,
// or begins with a byte order mark.
func Text(repl *caddy.Replacer, value string) (string, error) {
	text, err := repl.ReplaceFunc(value, func(_ string, found any) (any, error) {
		part := strings.TrimSpace(caddy.ToString(found))
		if part == "" {
			return nil, errors.New("a placeholder is unknown or empty")
		}
		return part, checkText(part)
	})
	if err == nil {
		text = strings.TrimSpace(text)
		err = checkText(text)
	}
	if placeholders := harmlessPlaceholder.FindAllString(value, -1); err != nil && placeholders != nil {
		err = fmt.Errorf("%w %s", err, placeholders)
	}
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", errors.New("is empty")
	}
	return text, nil
}

// checkText refuses a byte order mark and quotes, which are not meant to be part of a
// value. Other programs that read the same file or variable may remove them, and would
// then have another value.
func checkText(s string) error {
	if strings.HasPrefix(s, "\ufeff") {
		return errors.New("begins with a byte order mark (U+FEFF): save it without one")
	}
	for _, quote := range []string{`"`, "'"} {
		if len(s) > 1 && strings.HasPrefix(s, quote) && strings.HasSuffix(s, quote) {
			return errors.New("is in quotes: leave them out (docker run --env-file passes them on)")
		}
	}
	return nil
}

// All replaces the placeholders of all values. The error gives the number of the
// value, and never its text, which may be a secret.
func All(repl *caddy.Replacer, name string, values []string) ([]string, error) {
	var resolved []string
	for i, value := range values {
		text, err := Text(repl, value)
		if err != nil {
			return nil, fmt.Errorf("%s, value %d: %w", name, i+1, err)
		}
		resolved = append(resolved, text)
	}
	return resolved, nil
}

// Fields replaces the placeholders of the named values in place. Empty values stay
// empty: Validate has checked which of them are required.
func Fields(repl *caddy.Replacer, fields map[string]*string) error {
	for name, value := range fields {
		if *value == "" {
			continue
		}
		text, err := Text(repl, *value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*value = text
	}
	return nil
}

// Secrets replaces the placeholders of secrets.
func Secrets(repl *caddy.Replacer, values []string) ([][]byte, error) {
	texts, err := All(repl, "secret", values)
	secrets := make([][]byte, 0, len(texts))
	for _, text := range texts {
		secrets = append(secrets, []byte(text))
	}
	return secrets, err
}

package integration_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// spellingsOf are the forms in which a text may turn up in an output: as it is,
// escaped, and encoded. Base64 has three, by where in a longer text it stands.
func spellingsOf(secret string) []string {
	quoted, err := json.Marshal(secret)
	if err != nil {
		panic(err)
	}
	forms := []string{
		secret, strings.Trim(string(quoted), `"`), url.QueryEscape(secret), url.PathEscape(secret),
		hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]"), // as %v prints bytes
	}
	for offset := range 3 {
		padded := append(make([]byte, offset), secret...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			// The first and last groups depend on what stands beside the secret.
			forms = append(forms, text[4:len(text)-len(text)%4-4])
		}
	}
	return forms
}

// leaks returns where in an output a secret stands, with what is around it; empty
// if it does not.
func leaks(output []byte, secret string) string {
	for _, form := range spellingsOf(secret) {
		if i := bytes.Index(output, []byte(form)); i >= 0 {
			return fmt.Sprintf("%q", output[max(0, i-120):min(len(output), i+len(form)+40)])
		}
	}
	return ""
}

// TestTheSearchForSecretsFindsThem plants one in each form.
func TestTheSearchForSecretsFindsThem(t *testing.T) {
	t.Parallel()
	const secret = "lm_sys_0Secret+With/Some=Characters<and>\"more\" 0123456789"
	quoted, _ := json.Marshal(map[string]string{"a": secret})
	for name, output := range map[string]string{
		"as it is":           "x" + secret + "x",
		"JSON":               string(quoted),
		"a URL":              "https://h/?a=" + url.QueryEscape(secret),
		"a path":             "https://h/" + url.PathEscape(secret),
		"hex":                fmt.Sprintf("%x", "a"+secret),
		"HEX":                fmt.Sprintf("%X", "ab"+secret),
		"bytes":              fmt.Sprintf("%d", []byte("x"+secret+"y")),
		"base64":             base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 of more":     base64.StdEncoding.EncodeToString([]byte("a" + secret + "bcd")),
		"base64 of yet more": base64.URLEncoding.EncodeToString([]byte("ab" + secret + "b")),
		"basic":              base64.StdEncoding.EncodeToString([]byte("user:" + secret)),
	} {
		if leaks([]byte(output), secret) == "" {
			t.Errorf("%s: not found in %s", name, output)
		}
	}
	if at := leaks([]byte(strings.Repeat("nothing of the kind ", 100)), secret); at != "" {
		t.Errorf("found at %s", at)
	}
}

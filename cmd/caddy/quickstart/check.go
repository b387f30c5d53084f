package quickstart

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// step is one call of the story, and what it must be answered with.
type step struct {
	name   string
	method string
	path   string
	key    string
	header http.Header
	body   any
	form   url.Values
	want   int
	// then looks at the body of the answer.
	then func(body []byte) error
}

// story is what happens to one bot key.
type story struct {
	adminKey string
	botKey   string
	created  admin.KeyJSON
}

// check plays the story through real sockets and stops at the first step that
// is not answered as promised.
func (d *demo) check(ctx context.Context, out io.Writer) error {
	actor := admin.Command("quickstart")
	_, adminKey, err := d.service.Create(ctx, actor, admin.NewKey{Label: "Quickstart admin", IsSystem: true})
	if err != nil {
		return err
	}
	s := &story{adminKey: adminKey}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Jar: jar}
	defer client.CloseIdleConnections()
	for _, next := range s.steps() {
		st := next()
		began := time.Now() //nolint:forbidigo // the time is only printed
		status, body, err := st.call(ctx, client, d.url)
		if err != nil {
			return fmt.Errorf("%s: %w", st.name, err)
		}
		fmt.Fprintf(out, "  %d  %7.1f ms  %s\n", status, float64(time.Since(began).Microseconds())/1000, st.name)
		if status != st.want {
			return fmt.Errorf("%s: got status %d in place of %d", st.name, status, st.want)
		}
		if st.then != nil {
			if err := st.then(body); err != nil {
				return fmt.Errorf("%s: %w", st.name, err)
			}
		}
	}
	_, err = fmt.Fprintln(out, "quickstart: ok")
	return err
}

// steps are made one after the other: later ones need what earlier ones got.
func (s *story) steps() []func() step {
	const keys = "/v1/admin/system-keys"
	hello := func(name string, want int, header http.Header, then func([]byte) error) func() step {
		return func() step {
			return step{name: name, path: "/hello", key: s.botKey, header: header, want: want, then: then}
		}
	}
	return []func() step{
		func() step {
			return step{name: "a call without a key is refused", path: "/hello", want: http.StatusUnauthorized, then: code("unauthorized")}
		},
		func() step {
			return step{name: "so is a key that was never minted", path: "/hello", key: "lm_sys_" + strings.Repeat("1", 76), want: http.StatusUnauthorized, then: code("invalid_token")}
		},
		func() step {
			return step{
				name: "the admin mints a bot key", method: http.MethodPost, path: keys, key: s.adminKey,
				body: map[string]any{"label": "Twitch Bot Key", "permissions": []string{demoPermission}},
				want: http.StatusCreated, then: s.minted,
			}
		},
		hello("the bot calls, the upstream learns who it is", http.StatusOK, nil, s.identified),
		hello("again, from memory", http.StatusOK, nil, s.identified),
		hello("identity that the client made up does not arrive", http.StatusOK,
			http.Header{"X-Lumio-Key-Id": {"forged"}, "X-Lumio-Admin": {"yes"}, "Connection": {"X-Lumio-Key-Id"}}, s.identified),
		func() step {
			return step{name: "the admin lists the keys", path: keys, key: s.adminKey, want: http.StatusOK, then: s.listed}
		},
		func() step {
			return step{
				name: "the admin signs in on the System page, and sees the key", method: http.MethodPost, path: admin.DefaultPage + "/session",
				form: url.Values{"key": {s.adminKey}}, want: http.StatusOK, then: s.listed,
			}
		},
		func() step {
			return step{name: "the bot may not", path: keys, key: s.botKey, want: http.StatusForbidden, then: code("forbidden")}
		},
		func() step {
			return step{name: "the admin revokes the bot key", method: http.MethodDelete, path: keys + "/" + s.created.ID.String(), key: s.adminKey, want: http.StatusOK}
		},
		hello("the bot's next call is refused", http.StatusUnauthorized, nil, code("invalid_token")),
		func() step {
			return step{name: "once more, the answer is the same", method: http.MethodDelete, path: keys + "/" + s.created.ID.String(), key: s.adminKey, want: http.StatusOK}
		},
	}
}

func (st *step) call(ctx context.Context, client *http.Client, url string) (int, []byte, error) {
	var body io.Reader = http.NoBody
	if st.body != nil {
		encoded, err := json.Marshal(st.body)
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(encoded)
	}
	if st.form != nil {
		body = strings.NewReader(st.form.Encode())
	}
	method := st.method
	if method == "" {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(ctx, method, url+st.path, body)
	if err != nil {
		return 0, nil, err
	}
	maps.Copy(request.Header, st.header)
	if st.key != "" {
		request.Header.Set("Authorization", "Bearer "+st.key)
	}
	switch {
	case st.body != nil:
		request.Header.Set("Content-Type", "application/json")
	case st.form != nil:
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, answer, err
}

func (s *story) minted(body []byte) error {
	var answer struct {
		Data admin.KeyJSON `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	s.created, s.botKey = answer.Data, answer.Data.Key
	if s.botKey == "" {
		return fmt.Errorf("the answer holds no key")
	}
	return nil
}

func (s *story) identified(body []byte) error {
	var answer demoAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	want := map[string]string{
		"X-Lumio-Auth-Type":   "system_key",
		"X-Lumio-Key-Id":      s.created.ID.String(),
		"X-Lumio-Key-Label":   "Twitch Bot Key",
		"X-Lumio-Permissions": demoPermission,
	}
	if len(answer.Identity) != len(want) {
		return fmt.Errorf("the upstream saw %v", answer.Identity)
	}
	for name, value := range want {
		if answer.Identity[name] != value {
			return fmt.Errorf("the upstream saw %q in %s, not %q", answer.Identity[name], name, value)
		}
	}
	if answer.Credentials {
		return fmt.Errorf("the key was handed on to the upstream")
	}
	return nil
}

func (s *story) listed(body []byte) error {
	if !bytes.Contains(body, []byte(s.created.ID.String())) {
		return fmt.Errorf("the key is not in the list")
	}
	if bytes.Contains(body, []byte(s.botKey)) {
		return fmt.Errorf("the list shows the key itself")
	}
	return nil
}

// code expects an error with this code.
func code(want string) func([]byte) error {
	return func(body []byte) error {
		var answer gate.Body
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		if answer.Error.Code != want {
			return fmt.Errorf("got the code %q in place of %q", answer.Error.Code, want)
		}
		return nil
	}
}

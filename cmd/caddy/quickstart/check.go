package quickstart

import (
	"bytes"
	"cmp"
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

// step is one call of the story, and the answer that it must get. A step without a key sends
// none.
//
// Key is a pointer, as the key may not be minted when the step is made. Then checks the body of
// the answer, if the status is the right one.
type step struct {
	name   string
	method string // default: GET
	path   string // {id} stands for the id of the bot key
	key    *string
	header http.Header
	body   any        // sent as JSON
	form   url.Values // sent as a form
	want   int
	then   func(body []byte) error // checks the body of the answer
}

// story is what the steps have learned so far. Later steps read it by their pointers when they
// are called.
type story struct {
	adminKey string
	botKey   string
	created  admin.KeyJSON
}

// check plays the story through real sockets. It stops at the first step with another answer
// than promised. The cookie of the System page is kept as a browser keeps it. The last line of a
// good run is "quickstart: ok".
func (d *demo) check(ctx context.Context, out io.Writer) error {
	// The audit log of the demo says that no person has made this key.
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
	// An answer that does not come must not hang a build that runs the check.
	client := &http.Client{Timeout: 10 * time.Second, Jar: jar}
	defer client.CloseIdleConnections()
	for _, st := range s.steps() {
		began := time.Now() //nolint:forbidigo // the time is only printed
		status, body, err := s.call(ctx, client, d.url, &st)
		if err != nil {
			return fmt.Errorf("%s: %w", st.name, err)
		}
		// The line comes before the judgement, so that a run that fails shows the status that it
		// got.
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

// steps returns the story. Its keys are pointers, since an earlier step mints the bot key. The
// order matters: each step relies on those before it. Together they are what the project
// promises: a key is needed, the upstream learns who calls, made-up identity does not arrive,
// and a revocation holds at once.
func (s *story) steps() []step {
	const keys = "/v1/admin/system-keys"
	// It has the form of a key and not the tag of one, so it is refused without Argon2id.
	unminted := "lm_sys_" + strings.Repeat("1", 76)
	forged := http.Header{"X-Lumio-Key-Id": {"forged"}, "X-Lumio-Admin": {"yes"}, "Connection": {"X-Lumio-Key-Id"}}
	return []step{
		{name: "a call without a key is refused", path: "/hello", want: http.StatusUnauthorized, then: code("unauthorized")},
		{name: "so is a key that was never minted", path: "/hello", key: &unminted, want: http.StatusUnauthorized, then: code("invalid_token")},
		{
			name: "the admin mints a bot key", method: http.MethodPost, path: keys, key: &s.adminKey,
			body: map[string]any{"label": "Twitch Bot Key", "permissions": []string{demoPermission}},
			want: http.StatusCreated, then: s.minted,
		},
		{name: "the bot calls, the upstream learns who it is", path: "/hello", key: &s.botKey, want: http.StatusOK, then: s.identified},
		{name: "again, from memory", path: "/hello", key: &s.botKey, want: http.StatusOK, then: s.identified},
		{
			name: "identity that the client made up does not arrive", path: "/hello", key: &s.botKey, header: forged,
			want: http.StatusOK, then: s.identified,
		},
		{name: "the admin lists the keys", path: keys, key: &s.adminKey, want: http.StatusOK, then: s.listed},
		{
			name: "the admin signs in on the System page, and sees the key", method: http.MethodPost, path: admin.DefaultPage + "/session",
			form: url.Values{"key": {s.adminKey}}, want: http.StatusOK, then: s.listed,
		},
		{name: "the bot may not", path: keys, key: &s.botKey, want: http.StatusForbidden, then: code("forbidden")},
		{name: "the admin revokes the bot key", method: http.MethodDelete, path: keys + "/{id}", key: &s.adminKey, want: http.StatusOK},
		{name: "the bot's next call is refused", path: "/hello", key: &s.botKey, want: http.StatusUnauthorized, then: code("invalid_token")},
		{name: "once more, the answer is the same", method: http.MethodDelete, path: keys + "/{id}", key: &s.adminKey, want: http.StatusOK},
	}
}

// call sends a step's request, and returns status and body of the answer. It follows redirects,
// as after the form of the System page. An answer with another status is no error here.
func (s *story) call(ctx context.Context, client *http.Client, url string, st *step) (int, []byte, error) {
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
	// The id is known only since the key was minted.
	path := strings.ReplaceAll(st.path, "{id}", s.created.ID.String())
	request, err := http.NewRequestWithContext(ctx, cmp.Or(st.method, http.MethodGet), url+path, body)
	if err != nil {
		return 0, nil, err
	}
	maps.Copy(request.Header, st.header)
	if st.key != nil {
		request.Header.Set("Authorization", "Bearer "+*st.key)
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

// minted keeps the key that the admin has minted. It is nowhere else.
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

// identified checks that the upstream saw the bot's identity, nothing else under the prefix,
// and no key.
//
// The identity must be whole: a field that is missing means that an upstream cannot tell who
// calls.
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
	// One field too many is a failure as well: a client could have made it up.
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

// listed checks that the answer has the bot key's id, and not the key.
//
// It is for the JSON of the API and for the HTML of the page, so it looks for texts.
func (s *story) listed(body []byte) error {
	if !bytes.Contains(body, []byte(s.created.ID.String())) {
		return fmt.Errorf("the key is not in the list")
	}
	if bytes.Contains(body, []byte(s.botKey)) {
		return fmt.Errorf("the list shows the key itself")
	}
	return nil
}

// code checks that the answer is an error with this code.
//
// Clients go by the code, so it is as much a promise as the status.
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

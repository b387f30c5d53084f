package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

func (p *product) record(who string, what []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrote[who] = append(append(p.wrote[who], what...), '\n')
}

// writer records what a process writes.
type writer struct {
	product *product
	who     string
}

func (w writer) Write(b []byte) (int, error) {
	w.product.record(w.who, b)
	return len(b), nil
}

func (p *product) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program(p.tb), args...)
	cmd.Dir, cmd.Env = p.folder, p.environ
	return cmd
}

// call makes a request and records the answer, unless it is one that shows a key
// on purpose.
func (p *product) call(method, address, target, authorization, body string, header ...string) plane.Reply {
	request, err := http.NewRequestWithContext(context.Background(), method, "http://"+address+target, strings.NewReader(body))
	if err != nil {
		p.tb.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return plane.Reply{}
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body) // a part is an answer too
	var head bytes.Buffer
	_ = response.Header.WriteSubset(&head, map[string]bool{"Set-Cookie": true})
	for _, cookie := range response.Cookies() {
		if len(cookie.Value) == 43 { // a session's token, which is told here alone
			p.mu.Lock()
			p.secrets["the token of a session"] = cookie.Value
			p.mu.Unlock()
		}
	}
	if key := createdKey(text); key != "" {
		p.mu.Lock()
		p.secrets["a key that was created"] = key
		p.mu.Unlock()
	} else {
		p.record("the answers", append(head.Bytes(), text...))
	}
	return plane.Reply{Status: response.StatusCode, Header: response.Header, Body: string(text)}
}

// createdKey is the key in an answer that shows one, by REST, by GraphQL or as a
// page.
func createdKey(text []byte) string {
	if _, shown, ok := strings.Cut(string(text), `id="new-key"`); ok {
		_, key, _ := strings.Cut(shown, ">")
		key, _, _ = strings.Cut(key, "<")
		return key
	}
	var answer struct {
		Data struct {
			Key     string
			Created struct{ Key string }
		}
	}
	if json.Unmarshal(text, &answer) != nil {
		return ""
	}
	return answer.Data.Key + answer.Data.Created.Key
}

// files records whatever the server and its commands have left in their folders.
func (p *product) files() {
	for _, folder := range []string{"data", "config"} {
		err := filepath.WalkDir(filepath.Join(p.folder, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return nil //nolint:nilerr // a folder that was never made
			}
			content, err := os.ReadFile(path)
			p.record("the file "+path, content)
			return err
		})
		if err != nil {
			p.tb.Error(err)
		}
	}
}

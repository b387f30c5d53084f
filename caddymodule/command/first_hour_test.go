package command_test

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestFirstHour types what README.md and docs/getting-started.md show, each from its first
// line to its last in a folder that is empty at first, and compares what is printed.
func TestFirstHour(t *testing.T) {
	t.Parallel()
	for document, commands := range map[string]int{"README.md": 5, "docs/getting-started.md": 15} {
		t.Run(filepath.Base(document), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("../..", document))
			if err != nil {
				t.Fatal(err)
			}
			if typed := newTerminal(t).play(string(text)); typed < commands {
				t.Errorf("%d commands were typed", typed)
			}
		})
	}
}

// terminal is what a reader of a document types into. Commands that serve run on in the
// background, as in a terminal of their own.
type terminal struct {
	t           *testing.T
	folder      string
	environment []string
	settings    string                     // lines that count for all commands after them
	ours        *strings.Replacer          // addresses of the documents → those of this test
	ids         map[string]string          // ids of keys in the document → those that were printed
	servers     map[*exec.Cmd]<-chan error // → closed at its end
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	port := func() string {
		_, port, _ := strings.Cut(testenv.FreeAddress(t), ":")
		return port
	}
	folder, first := t.TempDir(), port()
	x := &terminal{
		t: t, folder: folder, ids: make(map[string]string), servers: make(map[*exec.Cmd]<-chan error),
		environment: append(os.Environ(), "HOME="+folder+"/home", "XDG_DATA_HOME="+folder+"/data", "CADDY_ADMIN=localhost:"+port()),
		ours: strings.NewReplacer("localhost:8000", "localhost:"+port(), "8080", first,
			"8081", port(), "localhost:2020", "localhost:"+port(),
			"postgres://lumio:password@localhost/lumio", testenv.Database(t), "redis://localhost:6379/0", testenv.RedisURL(t)),
	}
	t.Cleanup(x.stop)
	return x
}

// blocks are headings, Caddyfiles, and lines to type with what they print.
var blocks = regexp.MustCompile("(?ms)^## [^\n]*$|^```(caddyfile|console)\n(.*?)^```$")

// play returns how many commands there were. A heading ends the servers
// of the section before it.
func (x *terminal) play(document string) int {
	typed := 0
	for _, block := range blocks.FindAllStringSubmatch(document, -1) {
		switch block[1] {
		case "": // a heading
			x.stop()
		case "caddyfile":
			if err := os.WriteFile(filepath.Join(x.folder, "Caddyfile"), []byte(x.ours.Replace(block[2])), 0o600); err != nil {
				x.t.Fatal(err)
			}
		case "console":
			for _, command := range strings.Split("\n"+block[2], "\n$ ")[1:] {
				line, expected, _ := strings.Cut(command, "\n")
				x.enter(line, strings.TrimSuffix(expected, "\n"))
				typed++
			}
		}
	}
	return typed
}

var (
	setting = regexp.MustCompile(`^(export|umask|cd) `)
	serving = regexp.MustCompile(`^([A-Z_]+=\S+ )*caddy (run|respond) `)
	id      = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	moment  = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d UTC`)
)

// enter runs a line, and compares what it prints.
func (x *terminal) enter(line, expected string) {
	x.t.Helper()
	typed := x.ours.Replace(id.ReplaceAllStringFunc(line, func(id string) string { return x.ids[id] }))
	if setting.MatchString(typed) {
		x.settings += typed + "\n"
		return
	}
	ctx, cancel := context.WithTimeout(x.t.Context(), time.Minute)
	defer cancel()
	file, err := os.CreateTemp(x.t.TempDir(), "printed")
	if err != nil {
		x.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	printed := func() string {
		text, err := os.ReadFile(file.Name())
		if err != nil {
			x.t.Error(err)
		}
		return string(text)
	}
	command := exec.Command("bash", "-c", x.settings+"exec env "+typed)
	if !serving.MatchString(typed + " ") {
		command = exec.CommandContext(ctx, "bash", "-c", x.settings+typed)
	}
	command.Dir, command.Env, command.Stdout, command.Stderr = x.folder, x.environment, file, file
	if err := command.Start(); err != nil {
		x.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- command.Wait()
		close(ended)
	}()
	if !serving.MatchString(typed + " ") {
		if err := <-ended; err != nil || !x.compare("^"+pattern(expected)+"$", printed()) {
			x.t.Fatalf("$ %s\n%s\n(%v), expected:\n%s", typed, printed(), err, expected)
		}
		x.t.Logf("$ %s\n%s", typed, printed())
		return
	}
	x.servers[command] = ended
	for !x.compare(pattern(expected), printed()) {
		select {
		case err := <-ended:
			x.t.Fatalf("$ %s\n%s\nended (%v)", typed, printed(), err)
		case <-ctx.Done():
			x.t.Fatalf("$ %s\n%s\nexpected:\n%s", typed, printed(), expected)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pattern is a regular expression for a text in which an ellipsis stands for anything, an
// id for one id, and a time for some time.
func pattern(expected string) string {
	text := strings.ReplaceAll(regexp.QuoteMeta(expected), "…", "(?s:.*)")
	text = moment.ReplaceAllString(text, moment.String())
	text = regexp.MustCompile(` +`).ReplaceAllString(text, " +")
	return id.ReplaceAllStringFunc(text, func(example string) string {
		return "(?P<id" + strings.ReplaceAll(example, "-", "") + ">" + id.String() + ")"
	})
}

// compare says whether a text is as expected, and remembers the ids that are new in it.
func (x *terminal) compare(pattern, text string) bool {
	expression := regexp.MustCompile(pattern)
	found := expression.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
	if found == nil {
		return false
	}
	seen := make(map[string]string)
	for i, name := range expression.SubexpNames() {
		if hex, ok := strings.CutPrefix(name, "id"); ok {
			example := strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
			if known, ok := x.ids[example]; ok && known != found[i] || seen[example] != "" && seen[example] != found[i] {
				return false
			}
			seen[example] = found[i]
		}
	}
	maps.Copy(x.ids, seen)
	return true
}

// stop ends what serves, as Ctrl-C does.
func (x *terminal) stop() {
	for server, ended := range x.servers {
		_ = server.Process.Signal(syscall.SIGINT)
		for range ended { // until it is closed
		}
		delete(x.servers, server)
	}
}

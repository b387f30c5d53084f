package command_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAKeyThatCannotBePrintedIsRevoked runs the command as a process, with an
// output that takes nothing.
func TestAKeyThatCannotBePrintedIsRevoked(t *testing.T) {
	t.Parallel()
	for name, output := range map[string]func() (*os.File, error){
		"a reader that has gone": func() (*os.File, error) {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			return w, r.Close()
		},
		"the null device, or none": func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_WRONLY, 0) },
		"a disk that is full":      func() (*os.File, error) { return os.OpenFile("/dev/full", os.O_WRONLY, 0) },
	} {
		for _, form := range []string{"plain", "--json"} {
			for _, joined := range []string{"", ", with standard error"} {
				t.Run(name+", "+form+joined, func(t *testing.T) {
					t.Parallel()
					store := "sqlite://" + filepath.Join(t.TempDir(), "keys.db")
					args := []string{"create", "--label", "lost", "--store", store}
					if form != "plain" {
						args = append(args, form)
					}
					out, err := output()
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = out.Close() }()
					var said bytes.Buffer
					var stderr io.Writer = &said
					if joined != "" {
						stderr = out
					}
					err = systemKeys(t, out, stderr, args...)
					if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
						t.Errorf("it ended with %v, want exit status 1", err)
					}
					if joined == "" && !strings.Contains(said.String(), "could not be printed, so it was revoked again") {
						t.Errorf("it said %q", &said)
					}
					var list, audit bytes.Buffer
					if err := systemKeys(t, &list, nil, "list", "--store", store); err != nil || !strings.Contains(list.String(), "0 key(s)") {
						t.Errorf("the list is, with %v,\n%s", err, &list)
					}
					if err := systemKeys(t, &audit, nil, "audit", "--event", "api_key.revoked", "--store", store); err != nil || !strings.Contains(audit.String(), "1 record(s)") {
						t.Errorf("the audit log is, with %v,\n%s", err, &audit)
					}
				})
			}
		}
	}
}

// systemKeys runs `caddy system-keys …`.
func systemKeys(t *testing.T, stdout, stderr io.Writer, args ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "caddy", append([]string{"system-keys"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd.Run()
}

// TestASuccessorThatCannotBePrintedIsRevoked, and the old key ends all the same.
func TestASuccessorThatCannotBePrintedIsRevoked(t *testing.T) {
	t.Parallel()
	for _, now := range []bool{false, true} {
		store := "sqlite://" + filepath.Join(t.TempDir(), "keys.db")
		var created, said, list bytes.Buffer
		if err := systemKeys(t, &created, nil, "create", "--label", "bot", "--json", "--store", store); err != nil {
			t.Fatal(err)
		}
		out, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = out.Close() }()
		args, want, left := []string{"rotate", strings.Split(created.String(), `"`)[3], "--store", store}, "all the same: rotate it again", "1 key(s)"
		if now {
			args, want, left = append(args, "--now"), "the old key has ended too: create another", "0 key(s)"
		}
		err = systemKeys(t, out, &said, args...)
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.Contains(said.String(), want) ||
			// It has waited until no server accepts the old key.
			now != strings.Contains(said.String(), "Revoked the old key (") {
			t.Errorf("it ended with %v and said %q", err, &said)
		}
		if err := systemKeys(t, &list, nil, "list", "--store", store); err != nil || !strings.Contains(list.String(), left) {
			t.Errorf("the list is, with %v,\n%s", err, &list)
		}
	}
}

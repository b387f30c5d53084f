package testenv_test

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

func TestNothingOutlivesTheTestBinary(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"exit", "panic", "kill"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), endVariable+"="+end)
			out, err := child.Output()
			if (err == nil) != (end == "exit") {
				t.Fatalf("the child ended with %v", err)
			}
			folders := foldersOf(t, strings.Fields(string(out)))
			if len(folders) != 4 {
				t.Fatalf("the child started %d servers, want 4:\n%s", len(folders), out)
			}
			for _, folder := range folders {
				awaitNobody(t, folder)
			}
		})
	}
}

func TestNothingOutlivesItsTest(t *testing.T) { //nolint:tparallel // looks at what its subtest leaves
	t.Parallel()
	var folders []string
	t.Run("uses servers", func(t *testing.T) {
		postgres, redis := testenv.StartPostgres(t), testenv.StartRedis(t)
		connect(t, postgres.Database())
		folders = []string{postgres.Folder(), redis.Folder()}
		for _, folder := range folders {
			if len(inhabitants(t, folder)) == 0 {
				t.Errorf("nobody runs in %s", folder)
			}
		}
	})
	for _, folder := range folders {
		if _, err := os.Stat(folder); err == nil {
			t.Errorf("%s is still there", folder)
		}
		// The backends of a server that was cut end by themselves.
		awaitNobody(t, folder)
	}
}

// foldersOf finds the servers' folders in their addresses.
func foldersOf(t *testing.T, addresses []string) []string {
	t.Helper()
	var folders []string
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case u.Scheme == "unix":
			folders = append(folders, filepath.Dir(u.Path))
		case u.Scheme == "":
			folders = append(folders, u.Path)
		case u.Query().Has("host"):
			folders = append(folders, u.Query().Get("host"))
		}
	}
	return folders
}

// awaitNobody waits until a folder is gone and no process lives in it.
func awaitNobody(t *testing.T, folder string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := os.Stat(folder)
		left := inhabitants(t, folder)
		if os.IsNotExist(err) && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v, processes %v", folder, err, left)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// inhabitants lists the processes that work in a folder, or are told of it.
func inhabitants(t *testing.T, folder string) []string {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, process := range processes {
		cwd, _ := os.Readlink(filepath.Join(process, "cwd"))
		cmdline, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		if strings.HasPrefix(cwd, folder) || strings.Contains(string(cmdline), folder) {
			found = append(found, filepath.Base(process))
		}
	}
	return found
}

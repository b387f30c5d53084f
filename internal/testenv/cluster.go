package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// initdbFlags make a superuser "postgres" who needs no password. --no-sync
// leaves it to the operating system when the files reach the disk.
var initdbFlags = []string{
	"--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "--no-instructions",
}

// program finds a program of PostgreSQL. Debian keeps those of the server in a
// folder for each major version, outside PATH; the newest is taken.
func program(name string) (string, error) {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 {
		return slices.MaxFunc(found, func(a, b string) int { return major(a) - major(b) }), nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("PostgreSQL's %q is missing (on Debian: apt-get install postgresql)", name)
	}
	return path, nil
}

func major(path string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return version
}

// serverUser is the user as whom PostgreSQL runs: it refuses to run as root.
// nil means this process's own.
var serverUser = sync.OnceValues(func() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
})

// newCluster makes PostgreSQL's data folder. It copies one that initdb made
// once for this user and version, which saves two seconds of processor time
// for every server.
func newCluster(data string, cred *syscall.Credential) error {
	template, err := clusterTemplate(cred)
	if err != nil {
		return err
	}
	if err := os.CopyFS(data, os.DirFS(template)); err != nil {
		return fmt.Errorf("copy %s: %w", template, err)
	}
	if err := os.Chmod(data, 0o700); err != nil { // PostgreSQL insists
		return err
	}
	return giveAway(data, cred)
}

// clusterTemplate returns the folder to copy from, and makes it if need be.
// Test binaries that come here at the same time each make one, and the first
// to finish wins.
func clusterTemplate(cred *syscall.Credential) (string, error) {
	initdb, err := program("initdb")
	if err != nil {
		return "", err
	}
	version, err := exec.Command(initdb, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", initdb, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "caddy-system-keys")
	digest := sha256.Sum256([]byte(string(version) + strings.Join(initdbFlags, " ")))
	template := filepath.Join(cache, "postgres-"+hex.EncodeToString(digest[:8]))
	if _, err := os.Stat(template); err == nil {
		return template, nil
	}

	work, err := newFolder(syscall.SIGKILL, cred)
	if err != nil {
		return "", err
	}
	defer func() { _ = work.remove() }()
	made := filepath.Join(work.path, "data")
	cmd := exec.Command(initdb, append(slices.Clone(initdbFlags), "--pgdata="+made)...)
	cmd.Dir = work.path
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}

	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	// On the file system of the cache, so that the rename is atomic.
	draft, err := os.MkdirTemp(cache, "draft-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(draft) }()
	if err := os.CopyFS(draft, os.DirFS(made)); err != nil {
		return "", fmt.Errorf("copy %s: %w", made, err)
	}
	if err := os.Rename(draft, template); err != nil {
		if _, err := os.Stat(template); err == nil {
			return template, nil
		}
		return "", err
	}
	return template, nil
}

func giveAway(root string, cred *syscall.Credential) error {
	if cred == nil {
		return nil
	}
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(cred.Uid), int(cred.Gid))
	})
}

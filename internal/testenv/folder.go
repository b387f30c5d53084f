package testenv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// folders is where every server's folder lives. It is not [os.TempDir], which
// may be too deep for the path of a unix socket (about 100 bytes).
const folders = "/tmp/system-keys-test-"

// watchdog runs when the test binary is gone, however it went. Its standard
// input names the processes to end, one line for each time that they changed.
const watchdog = `
trap '' HUP INT TERM
pids=
while read -r line; do pids=$line; done

running() {
	for pid in $pids; do
		case $(cat "/proc/$pid/stat" 2>/dev/null) in
		'' | *') Z '*) ;;
		*) return 0 ;;
		esac
	done
	return 1
}

if [ -n "$pids" ]; then
	kill -CONT $pids
	kill "-$2" $pids
	tries=0
	while running && [ "$tries" -lt 100 ]; do
		sleep 0.05
		tries=$((tries + 1))
	done
	kill -KILL $pids
fi
rm -rf "$1"
`

// A folder is one server's home. It and the server in it are ended by a
// watchdog when this process ends.
type folder struct {
	path     string
	watchdog *exec.Cmd
	pipe     io.WriteCloser
}

var sweepOnce sync.Once

// newFolder makes a folder that belongs to cred (nil for this process's own
// user). end is the signal that makes the server end at once and tidily.
func newFolder(end syscall.Signal, cred *syscall.Credential) (_ *folder, err error) {
	sweepOnce.Do(sweep)
	path, err := os.MkdirTemp(filepath.Dir(folders), filepath.Base(folders))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(path)
		}
	}()
	if cred != nil {
		if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	lock, err := lockFolder(path)
	if err != nil {
		return nil, err
	}
	defer lock.Close()

	f := &folder{path: path}
	f.watchdog = exec.Command("/bin/sh", "-c", watchdog, "watchdog", path, strconv.Itoa(int(end)))
	f.watchdog.Dir = "/"
	// The watchdog inherits the lock and so holds it for as long as it runs.
	f.watchdog.ExtraFiles = []*os.File{lock}
	// Ctrl-C in a terminal goes to the whole group of the test binary.
	f.watchdog.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if f.pipe, err = f.watchdog.StdinPipe(); err != nil {
		return nil, err
	}
	if err := f.watchdog.Start(); err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	return f, nil
}

// serves tells the watchdog which processes to end, instead of those it was
// told before.
func (f *folder) serves(pids ...int) error {
	words := make([]string, len(pids))
	for i, pid := range pids {
		words[i] = strconv.Itoa(pid)
	}
	_, err := io.WriteString(f.pipe, strings.Join(words, " ")+"\n")
	return err
}

// remove ends what is running in the folder and deletes it.
func (f *folder) remove() error {
	return errors.Join(f.pipe.Close(), f.watchdog.Wait())
}

// lockFolder takes the lock that says that somebody looks after a folder. It
// is a lock on a file, and not a process id in one, because /tmp may be shared
// between containers, where the same id means different processes.
func lockFolder(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// sweep removes the folders that nobody looks after any more. A young one may
// belong to a process that is about to lock it.
func sweep() {
	stale, _ := filepath.Glob(folders + "*")
	for _, path := range stale {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if lock, err := lockFolder(path); err == nil {
			_ = os.RemoveAll(path)
			_ = lock.Close()
		}
	}
}

// Unraced builds the test program of the current folder without the race detector, for
// processes of which many are started, or whose memory is measured. Where this program
// has none either it is the same.
func Unraced(program string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	info, _ := debug.ReadBuildInfo()
	if !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return os.Symlink(self, program)
	}
	build := exec.Command("go", "test", "-c", "-race=false", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build without the race detector: %w: %s", err, out)
	}
	return nil
}

package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// patience is how long a server may take to start, stop or halt. It is long,
// because a machine that runs many tests is slow, and only a failure waits.
const patience = time.Minute

// server is a server program in a folder of its own, a child of this process.
type server struct {
	name    string
	folder  *folder
	cred    *syscall.Credential
	command func() []string
	// ready returns nil once the server answers.
	ready func(ctx context.Context) error
	// finish asks for an orderly end, in which clients are told.
	finish syscall.Signal

	mu sync.Mutex
	// pid is 0 while the server does not run.
	pid int
	// paused holds every process that was halted, the server's first.
	paused []int
}

// start runs the program and returns when it answers.
func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 {
		return fmt.Errorf("%s is running already", s.name)
	}
	logPath := filepath.Join(s.folder.path, "log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()

	argv := s.command()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.folder.path
	// The variables of this process (PGPORT, LANG) must not change the server.
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.cred}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	// Waiting with wait4 needs no goroutine, which goleak would report.
	s.pid = cmd.Process.Pid
	_ = cmd.Process.Release()
	if err := s.folder.serves(s.pid); err != nil {
		return fmt.Errorf("tell the watchdog of %s: %w", s.name, err)
	}
	if err := s.awaitReady(); err != nil {
		return fmt.Errorf("%s does not start: %w\n%s", s.name, err, tail(logPath))
	}
	return nil
}

func (s *server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := s.ready(ctx)
		switch {
		case err == nil:
			return nil
		case s.reaped():
			return errors.New("the program ended")
		case ctx.Err() != nil:
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stop ends the server in good order. It is not an error if it is stopped.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return nil
	}
	if err := s.continuePaused(); err != nil {
		return err
	}
	if err := syscall.Kill(s.pid, s.finish); err != nil {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	return s.reap()
}

// kill ends every process of the server without warning, as a power cut does.
func (s *server) kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return nil
	}
	// Halted first, so that none is started while the others are being killed.
	if err := s.halt(); err != nil {
		return err
	}
	victims := s.paused
	for _, pid := range victims {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
	}
	if err := s.reap(); err != nil {
		return err
	}
	return await("gone", gone, victims[1:]...)
}

// pause halts every process of the server: connections stay open, and nobody
// answers.
func (s *server) pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return fmt.Errorf("%s is not running", s.name)
	}
	return s.halt()
}

// resume lets a server that was paused go on.
func (s *server) resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.continuePaused()
}

// close ends the server at once and removes its folder.
func (s *server) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The watchdog ends the server: the way that is needed when this process
	// dies is the only way there is, and so the one that is tested.
	err := s.folder.remove()
	if s.pid != 0 {
		err = errors.Join(err, s.reap())
	}
	return err
}

func (s *server) halt() error {
	if s.paused != nil {
		return nil
	}
	if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pause %s: %w", s.name, err)
	}
	// Only a parent that has come to rest has no more children.
	if err := await("halted", halted, s.pid); err != nil {
		return err
	}
	forked, err := children(s.pid)
	if err != nil {
		return err
	}
	s.paused = append([]int{s.pid}, forked...)
	if err := s.folder.serves(s.paused...); err != nil {
		return err
	}
	for _, pid := range forked {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it may be gone already
	}
	return await("halted", halted, forked...)
}

func (s *server) continuePaused() error {
	if s.paused == nil {
		return nil
	}
	for _, pid := range s.paused {
		_ = syscall.Kill(pid, syscall.SIGCONT) // it may be gone already
	}
	s.paused = nil
	return s.folder.serves(s.pid)
}

// reap waits for the end of the server's process.
func (s *server) reap() error {
	deadline := time.Now().Add(patience)
	for !s.reaped() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not end", s.name)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// reaped buries the server's process if it has ended, and reports whether.
func (s *server) reaped() bool {
	if s.pid == 0 {
		return true
	}
	pid, err := syscall.Wait4(s.pid, nil, syscall.WNOHANG, nil)
	if pid == 0 || errors.Is(err, syscall.EINTR) {
		return false
	}
	s.pid, s.paused = 0, nil
	_ = s.folder.serves() // closed if the folder is being removed
	return true
}

// tail returns the end of a server's log, for an error message.
func tail(path string) string {
	log, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(log[max(0, len(log)-2000):])
}

package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestProcessorTimeOfAProcess compares it, of this process, with getrusage(2).
func TestProcessorTimeOfAProcess(t *testing.T) {
	t.Parallel()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: &exec.Cmd{Process: self}}
	used := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	before := used()
	got, err := p.cpu()
	if err != nil {
		t.Fatal(err)
	}
	after := used()
	const tick = 10 * time.Millisecond // by which getrusage may lag
	if got < before-tick || got > after+tick {
		t.Errorf("it has used %v, want %v to %v", got, before, after)
	}
}

func TestMemoryOfAProcess(t *testing.T) {
	t.Parallel()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: &exec.Cmd{Process: self}}
	now, err := p.memory()
	if err != nil {
		t.Fatal(err)
	}
	if now < 1 || now > 10_000 {
		t.Errorf("it has %v MiB", now)
	}
}

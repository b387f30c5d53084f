package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// processState returns a process's state letter and its parent, as proc(5)
// describes /proc/<pid>/stat; ok is false if there is no such process.
func processState(pid int) (state byte, parent int, ok bool) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, false
	}
	// The name, second and in brackets, may itself contain brackets and spaces.
	_, rest, ok := cutLast(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 2 {
		return 0, 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0][0], parent, err == nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// children lists the processes whose parent is pid.
func children(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if _, parent, ok := processState(child); ok && parent == pid {
			found = append(found, child)
		}
	}
	return found, nil
}

// halted reports whether a process is stopped by a signal, or is no more.
func halted(pid int) bool {
	state, _, ok := processState(pid)
	return !ok || strings.IndexByte("TtZXx", state) >= 0
}

// gone reports whether a process is no more. A zombie counts as gone: in a
// container there is not always an init that buries orphans.
func gone(pid int) bool {
	state, _, ok := processState(pid)
	return !ok || strings.IndexByte("ZXx", state) >= 0
}

// await polls until the condition holds for every process.
func await(what string, condition func(pid int) bool, pids ...int) error {
	deadline := time.Now().Add(patience)
	for _, pid := range pids {
		for !condition(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d is not %s after %v", pid, what, patience)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}

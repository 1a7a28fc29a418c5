package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// unixSockets lists the Unix sockets, abstract names among them (proc_pid_net(5)).
const unixSockets = "/proc/self/net/unix"

// sharedMemory is where shared memory with a name lies.
const sharedMemory = "/dev/shm"

// CheckLeftovers fails the test when a process of the run lives, or a temporary file
// or a socket exists. The kernel may take a moment to end what lost its parent.
func (r *Run) CheckLeftovers(t *testing.T) {
	t.Helper()
	err := errors.New("not looked")
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err = r.leftovers()
	}
	if err != nil {
		t.Error(err)
	}
}

func (r *Run) leftovers() error {
	files, err := os.ReadDir(r.file(dirTemp))
	if err != nil {
		return err
	}
	shared, err := filepath.Glob(sharedMemory + "/*" + r.Name + "*")
	if err != nil {
		return err
	}
	for _, f := range files {
		shared = append(shared, f.Name())
	}
	sockets, err := os.ReadFile(unixSockets)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(sockets)) {
		if strings.Contains(line, r.Name) {
			shared = append(shared, strings.TrimSpace(line))
		}
	}
	if len(shared) > 0 {
		return fmt.Errorf("left behind: %q", shared)
	}
	if pids := r.Processes(); len(pids) > 0 {
		return fmt.Errorf("processes left behind: %d", pids)
	}
	return nil
}

// Processes returns the processes of the run, the tool itself among them: those
// that have the name of the VM in their command line, or the run's folder for
// temporary files in their environment.
func (r *Run) Processes() []int {
	marks := [][]byte{[]byte(r.Name), []byte("TMPDIR=" + r.file(dirTemp))}
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process that ends meanwhile, or belongs to another user, is none.
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		environment, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		for _, m := range marks {
			if bytes.Contains(line, m) || bytes.Contains(environment, m) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

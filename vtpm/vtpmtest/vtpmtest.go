// Package vtpmtest gives tests a real TPM: the engine in its worker process, confined as
// in the guest image, with a store in memory. It needs root, and libtpms to link.
package vtpmtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"keel/paravisor/worker"
	"keel/vtpm"
)

// UserID is the user that test workers run as.
const UserID = 901_000

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pvtpm")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pvtpm")
	cmd := exec.Command("go", "build", "-tags", "netgo,osusergo",
		"-ldflags", `-s -w -linkmode external -extldflags "-static"`, "-o", path, "keel/vtpm/cmd/pvtpm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	// The worker's user must be able to run it.
	return path, errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o755))
})

// Binary builds the worker as the image has it, once, and returns its path.
func Binary(tb testing.TB) string {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Remove removes what Binary built. Call it at the end of TestMain.
func Remove() {
	if path, err := build(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
}

// CanLock tells whether limits on locked memory can be lifted here: containers often
// withhold CAP_SYS_RESOURCE even from root.
func CanLock() bool {
	all := &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, all) == nil
}

// NeedRoot skips a test that starts workers where that is not supported.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip(fmt.Errorf("%w: workers have user IDs of their own, which only root gives", errors.ErrUnsupported))
	}
}

// Workers starts worker processes and knows the one that runs.
type Workers struct {
	*worker.Supervisor

	mu   sync.Mutex
	last *worker.Process
}

// NewWorkers returns a starter of workers. deaths is how many within a minute are too
// many, 0 the default.
func NewWorkers(tb testing.TB, deaths int) *Workers {
	tb.Helper()
	NeedRoot(tb)
	return &Workers{Supervisor: worker.New(worker.Config{
		Name: "pvtpm", Path: Binary(tb), UserID: UserID, Sockets: vtpm.Sockets, LockMemory: CanLock(),
		MaxDeaths: deaths, MinDelay: 1, MaxDelay: 1, Log: slog.New(slog.DiscardHandler),
	})}
}

// Start is what vtpm.Config wants.
func (w *Workers) Start(ctx context.Context) (vtpm.Process, error) {
	p, err := w.Supervisor.Start(ctx)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.last = p
	w.mu.Unlock()
	return p, nil
}

// Last returns the process that was started last.
func (w *Workers) Last() *worker.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// Store is a vtpm.Store in memory. The zero value is an empty one.
type Store struct {
	mu      sync.Mutex
	state   []byte
	commits int
	// Fail, if set, is asked before a commit.
	Fail func() error
}

// Load returns what was committed last.
func (s *Store) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]byte(nil), s.state...), nil
}

// Commit keeps a copy of state.
func (s *Store) Commit(state []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Fail != nil {
		if err := s.Fail(); err != nil {
			return err
		}
	}
	s.state = append(s.state[:0], state...)
	s.commits++
	return nil
}

// Commits returns how often Commit succeeded.
func (s *Store) Commits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

// New returns a TPM with workers of its own, which is closed at the end of the test.
func New(tb testing.TB, store vtpm.Store) (*vtpm.TPM, *Workers) {
	tb.Helper()
	w := NewWorkers(tb, 1<<20)
	t, err := vtpm.New(context.Background(), vtpm.Config{Store: store, Start: w.Start, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(t.Close)
	return t, w
}

// Conn is a TPM as go-tpm wants it.
type Conn struct {
	*vtpm.TPM
	// Locality is where commands come in.
	Locality uint8
}

// Send runs a command.
func (c Conn) Send(command []byte) ([]byte, error) {
	return c.Execute(context.Background(), c.Locality, command)
}

// Package worker starts processes that hold what the paravisor keeps away from itself,
// supervises them and starts them anew when they die.
//
// A worker runs in user, mount, PID, network, IPC and host name namespaces of its own, is
// user 0 of its user namespace only, and gets sockets to the paravisor and nothing else:
// no environment, no files. It drops its root, its user and its system calls itself,
// which only it can know how to do. It is no trusted process: whoever talks to it over
// the sockets checks what comes.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrStart says that a process could not be started.
	ErrStart = errors.New("cannot start worker")
	// ErrGaveUp says that the process died too often of late. Start may work again
	// when the window of the bound has passed.
	ErrGaveUp = errors.New("worker died too often")
)

// FirstSocket is the descriptor of a worker's first socket. Descriptor 2 is its log.
const FirstSocket = 3

// Defaults of a Config's bounds.
const (
	DefaultMinDelay  = 10 * time.Millisecond
	DefaultMaxDelay  = 2 * time.Second
	DefaultMaxDeaths = 16
	DefaultWindow    = time.Minute
	DefaultLogLines  = 64
)

// Config describes a worker.
type Config struct {
	// Name is what logs call it.
	Name string
	// Path is its executable, and Args its arguments, the name not among them.
	Path string
	Args []string
	// UserID is the first of two IDs, of users and of groups, which are 0 and 1 in its
	// user namespace. Nothing else on the machine may have them.
	UserID int
	// Sockets is how many stream socket pairs join it to the paravisor.
	Sockets int
	// LockMemory lifts the limit on memory that it locks.
	LockMemory bool

	// A process that dies by itself is started again after MinDelay, which doubles with
	// each death within Window up to MaxDelay. After MaxDeaths deaths within Window
	// Start fails. The first death costs no delay. 0 stands for the default.
	MinDelay, MaxDelay, Window time.Duration
	MaxDeaths                  int

	// Log takes the worker's log, bounded to DefaultLogLines lines a process, and how it
	// ended. Nil: slog's default.
	Log *slog.Logger
}

// Stats counts what a Supervisor did.
type Stats struct {
	Starts    uint64 // processes started
	Deaths    uint64 // of these, those that ended by themselves
	LastDeath string // how the last of these ended
	LogLines  uint64 // lines of log that were taken
	LogLost   uint64 // lines of log that the bound cut off
}

// Supervisor starts a worker's processes, one after the other.
type Supervisor struct {
	cfg Config

	mu     sync.Mutex
	deaths []time.Time // within the window, the oldest first
	stats  Stats
}

// New returns a supervisor, which has not started anything.
func New(cfg Config) *Supervisor {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.MinDelay, DefaultMinDelay)
	def(&cfg.MaxDelay, DefaultMaxDelay)
	def(&cfg.Window, DefaultWindow)
	if cfg.MaxDeaths == 0 {
		cfg.MaxDeaths = DefaultMaxDeaths
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.Log = cfg.Log.With("worker", cfg.Name)
	return &Supervisor{cfg: cfg}
}

// Stats returns the counters.
func (s *Supervisor) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Start starts a process, after the delay that earlier deaths cost. The error wraps
// ErrGaveUp, ErrStart or that of ctx.
func (s *Supervisor) Start(ctx context.Context) (*Process, error) {
	delay, err := s.delay(time.Now())
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, fmt.Errorf("%w %s: %w", ErrStart, s.cfg.Name, ctx.Err())
	}
	p, err := s.start()
	if err != nil {
		// A process that does not start is no better than one that dies.
		s.died(err.Error())
		return nil, fmt.Errorf("%w %s: %w", ErrStart, s.cfg.Name, err)
	}
	s.mu.Lock()
	s.stats.Starts++
	s.mu.Unlock()
	return p, nil
}

// delay returns how long to wait before the next start.
func (s *Supervisor) delay(now time.Time) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.deaths) > 0 && now.Sub(s.deaths[0]) > s.cfg.Window {
		s.deaths = s.deaths[1:]
	}
	switch n := len(s.deaths); {
	case n >= s.cfg.MaxDeaths:
		return 0, fmt.Errorf("%w: %s, %d times within %v, last: %s", ErrGaveUp, s.cfg.Name, n, s.cfg.Window, s.stats.LastDeath)
	case n <= 1:
		return 0, nil
	default:
		// Shifts that would overflow are beyond any MaxDelay.
		return min(s.cfg.MinDelay<<min(n-2, 30), s.cfg.MaxDelay), nil
	}
}

// died counts a death.
func (s *Supervisor) died(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Deaths++
	s.stats.LastDeath = reason
	// More than the bound says nothing new.
	if len(s.deaths) < s.cfg.MaxDeaths {
		s.deaths = append(s.deaths, time.Now())
	}
}

// start starts a process.
func (s *Supervisor) start() (_ *Process, err error) {
	p := &Process{s: s, ended: make(chan struct{})}
	var theirs []*os.File
	defer func() {
		closeAll(theirs)
		if err != nil {
			closeAll(p.sockets)
		}
	}()
	for range s.cfg.Sockets {
		ours, their, err := socketPair()
		if err != nil {
			return nil, err
		}
		p.sockets, theirs = append(p.sockets, ours), append(theirs, their)
	}
	log, stderr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, stderr)

	p.cmd = exec.Command(s.cfg.Path, s.cfg.Args...)
	p.cmd.Env = []string{}
	p.cmd.Dir = "/"
	p.cmd.Stderr = stderr
	p.cmd.ExtraFiles = theirs[:s.cfg.Sockets]
	p.cmd.SysProcAttr = attributes(s.cfg.UserID)
	err = p.cmd.Start()
	closeAll(theirs)
	theirs = nil
	if err != nil {
		log.Close()
		return nil, err
	}
	go p.wait(log)
	if s.cfg.LockMemory {
		all := &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if err := unix.Prlimit(p.Pid(), unix.RLIMIT_MEMLOCK, all, nil); err != nil {
			p.Kill()
			return nil, fmt.Errorf("limit of locked memory: %w", err)
		}
	}
	return p, nil
}

// attributes are a worker's namespaces and IDs.
func attributes(userID int) *syscall.SysProcAttr {
	flags := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET)
	// A kernel without these has nothing that they would separate.
	for name, flag := range map[string]uintptr{"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP} {
		if _, err := os.Lstat("/proc/self/ns/" + name); err == nil {
			flags |= flag
		}
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: userID, Size: 2}}
	return &syscall.SysProcAttr{
		Cloneflags:                 flags,
		UidMappings:                ids,
		GidMappings:                ids,
		GidMappingsEnableSetgroups: true,
		Credential:                 &syscall.Credential{},
		Setsid:                     true,
	}
}

// socketPair returns the two ends of a stream. Both block: a poller would cost another
// wake-up for each message.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "paravisor"), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

package worker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"keel/diag/inspect"
)

// maxLine bounds a line of a worker's log, in bytes.
const maxLine = 200

// Process is a process of a worker. Whoever got it from Start calls Kill, or Stop, when
// done with it.
type Process struct {
	s       *Supervisor
	cmd     *exec.Cmd
	sockets []*os.File

	ended chan struct{} // closed when err is valid
	err   error

	mu      sync.Mutex
	stopped bool // an end is now no death
}

// Pid returns the process ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Socket returns the paravisor's end of a socket pair, in the order of the worker's
// descriptors. It blocks, and knows no deadlines but SO_RCVTIMEO; a read of it ends when
// the process does. Kill and Stop close it.
func (p *Process) Socket(i int) *os.File { return p.sockets[i] }

// Ended returns a channel that is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err returns how the process ended, nil for exit code 0. Valid once Ended is closed.
func (p *Process) Err() error {
	<-p.ended
	return p.err
}

// Kill ends the process at once and waits for its end. That counts as a death, unless
// Stop was called before: a process is killed because it did wrong.
func (p *Process) Kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.s.cfg.Log.Error("cannot kill", inspect.PublicAttr("pid", p.Pid()), inspect.PublicAttr("error", err))
	}
	<-p.ended
	closeAll(p.sockets)
}

// Stop closes the sockets, at which a worker ends. It does not wait: see Ended, and Kill
// for those that do not end.
func (p *Process) Stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	closeAll(p.sockets)
}

// wait takes the log until the process ends, then its status.
func (p *Process) wait(log *os.File) {
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		p.readLog(log)
	}()
	err := p.cmd.Wait()
	// Nothing else can hold the other end: a worker's processes end with its first.
	<-logged
	log.Close()
	p.err = death(err)
	p.mu.Lock()
	stopped := p.stopped
	p.mu.Unlock()
	if !stopped {
		reason := "exit code 0"
		if p.err != nil {
			reason = p.err.Error()
		}
		p.s.died(reason)
		p.s.cfg.Log.Error("worker died", inspect.PublicAttr("pid", p.Pid()), inspect.PublicAttr("reason", reason))
	}
	close(p.ended)
}

// readLog passes lines on, up to the bound, and drops the rest.
func (p *Process) readLog(log io.Reader) {
	r := bufio.NewReaderSize(log, maxLine)
	for lines := 0; ; lines++ {
		line, long, err := r.ReadLine()
		if err != nil {
			return
		}
		text := strconv.QuoteToASCII(string(line))
		for long && err == nil {
			_, long, err = r.ReadLine()
		}
		p.s.mu.Lock()
		if lines < DefaultLogLines {
			p.s.stats.LogLines++
		} else {
			p.s.stats.LogLost++
		}
		p.s.mu.Unlock()
		if lines < DefaultLogLines {
			p.s.cfg.Log.Warn("worker says", inspect.PublicAttr("pid", p.Pid()), "line", text)
		}
	}
}

// death says in words what a wait status means.
func death(err error) error {
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	status, ok := e.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return err
	case status.Signaled() && status.Signal() == syscall.SIGSYS:
		return fmt.Errorf("%w: a system call outside of its filter", err)
	case status.Signaled():
		return fmt.Errorf("signal %s", unix.SignalName(status.Signal()))
	}
	return fmt.Errorf("exit code %d", status.ExitStatus())
}

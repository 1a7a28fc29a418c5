package qemu

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// warning marks what QEMU says at every start: which features of the CPU model
// TCG does not emulate.
var warning = []byte(": warning: ")

// process is a running QEMU.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when QEMU is gone
	err  error         // how it ended; valid after done
}

// start runs QEMU such that it dies with this process, whatever kills it:
// the kernel sends SIGKILL at the death of the thread that forked. That thread
// must hence live as long as QEMU: it stays locked and waits.
func start(path string, args []string, files []*os.File, stderr *tail) (*process, error) {
	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // Ctrl-C is for the launcher, which ends QEMU in order
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		eachLine(said, func(line []byte, whole bool) {
			if !bytes.Contains(line, warning) {
				stderr.add(line, whole)
			}
		})
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, <-started
}

// stop ends QEMU: it has a moment to obey what ask tells it, then it is
// killed.
func (p *process) stop(ask func(), patience time.Duration) {
	ask()
	select {
	case <-p.done:
		return
	case <-time.After(patience):
	}
	_ = p.cmd.Process.Kill() // fails only when QEMU is gone already
	<-p.done
}

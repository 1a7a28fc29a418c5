package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

// How long the parts of a change to a live VM may take.
const (
	plugPatience   = 60 * time.Second // for the VM to take a device, or to let it go
	answerPatience = 3 * plugPatience // for the whole, as its asker sees it
	maxRequest     = 64 << 10         // bytes
)

// liveAddress is where the launcher of a VM listens.
func liveAddress(vm string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: handoff.LiveSocket(os.Getuid(), vm)}
}

// Change is what is asked of the launcher of a live VM.
type Change struct {
	Kind ChangeKind `json:"kind"`
	Disk Disk       `json:"disk"`
}

// ChangeKind says what to change.
type ChangeKind string

// The changes.
const (
	ChangeDiskAdd    ChangeKind = "disk-add"
	ChangeDiskRemove ChangeKind = "disk-remove" // the disk with the same files
	ChangeDiskGrow   ChangeKind = "disk-grow"   // the disk with the same files, which are larger now
)

// changeResult is the launcher's answer.
type changeResult struct {
	Outcome handoff.Outcome `json:"outcome,omitempty"` // empty when it was done
	Message string          `json:"message,omitempty"`
	VM      *VM             `json:"vm,omitempty"` // for requestStatus
}

// Ask makes the launcher of the VM of that name change it. Its errors are of type
// *handoff.Failure.
func Ask(ctx context.Context, vm string, c Change) error {
	_, err := ask(ctx, vm, c, answerPatience)
	return err
}

func ask(ctx context.Context, vm string, c Change, patience time.Duration) (r changeResult, err error) {
	conn, err := net.DialUnix("unix", nil, liveAddress(vm))
	if err == nil && !sameUser(conn) {
		err = errors.Join(unix.EACCES, conn.Close())
	}
	if err != nil {
		return r, &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("no VM %q of this user runs", vm), Remedy: "name one that keel ps lists", Err: err,
		}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	err = errors.Join(conn.SetDeadline(time.Now().Add(patience)), json.NewEncoder(conn).Encode(c))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&r)
	}
	switch {
	case err != nil:
		return r, &handoff.Failure{Outcome: handoff.OutcomeVMLost, Cause: fmt.Sprintf("the VM %q does not answer", vm), Err: err, Remedy: "see with keel ps whether it runs"}
	case r.Outcome != "":
		return r, &handoff.Failure{Outcome: r.Outcome, Cause: r.Message}
	}
	return r, nil
}

// live changes the VM of a session.
type live struct {
	session *session
	mu      sync.Mutex // one change at a time

	disks []Disk
	ctls  []controller
	next  int // number of the next controller
	ports int

	idsMu sync.Mutex
	id    uint64
	done  map[uint64]chan string // what EventDone says to whom
}

func newLive(s *session) *live {
	l := &live{session: s, disks: s.opts.Disks, ctls: controllers(s.opts.Disks), done: map[uint64]chan string{}}
	l.next = len(l.ctls)
	if l.next > 0 {
		l.ports = ports(l.next)
	}
	return l
}

// listen serves requests until ctx ends. Two VMs of one name cannot both be asked;
// the second one, which has no listener, runs all the same.
func (l *live) listen(ctx context.Context, listener *net.UnixListener) {
	if listener == nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		go l.answer(ctx, conn)
	}
}

// answer serves one asker, who must be the same user: an abstract address has no
// permissions of its own.
func (l *live) answer(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if !sameUser(conn) || conn.SetReadDeadline(time.Now().Add(qmpPatience)) != nil {
		return
	}
	var c Change
	if json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&c) != nil {
		return
	}
	var r changeResult
	if c.Kind == requestStatus { // also while a change is under way
		r.VM = &l.session.vm
	} else if err := l.change(ctx, c); err != nil {
		r = changeResult{Outcome: OutcomeOf(err), Message: oneLine(err.Error())}
	}
	_ = json.NewEncoder(conn).Encode(r) // the asker may be gone
}

func sameUser(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Getuid()
}

func (l *live) change(ctx context.Context, c Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, plugPatience)
	defer cancel()
	switch c.Kind {
	case ChangeDiskAdd:
		return l.addDisk(ctx, c.Disk)
	case ChangeDiskRemove:
		return l.removeDisk(ctx, c.Disk)
	case ChangeDiskGrow:
		return l.growDisk(ctx, c.Disk)
	case requestStatus: // changes nothing
		return nil
	}
	return failure(handoff.OutcomeUsage, fmt.Sprintf("the change %q is unknown", c.Kind), "use the keel that started the VM")
}

// tell gives Keel a command about a disk and waits for its answer.
func (l *live) tell(ctx context.Context, kind handoff.CommandKind, d *Disk) error {
	disk, err := l.session.opts.DiskConfig(d)
	if err != nil {
		return err
	}
	answer := make(chan string, 1)
	l.idsMu.Lock()
	l.id++
	id := l.id
	l.done[id] = answer
	l.idsMu.Unlock()
	defer func() {
		l.idsMu.Lock()
		delete(l.done, id)
		l.idsMu.Unlock()
	}()
	line, err := json.Marshal(handoff.Command{Command: kind, ID: id, Disk: disk})
	if err != nil {
		return err
	}
	if _, err := l.session.ch.control.Write(append(line, '\n')); err != nil {
		return &handoff.Failure{Outcome: handoff.OutcomeVMLost, Cause: "the VM does not listen", Err: err}
	}
	select {
	case message := <-answer:
		if message != "" {
			return badDisk(nil, "", "the VM refuses: %s", message)
		}
		return nil
	case <-ctx.Done():
		return badDisk(context.Cause(ctx), "see the paravisor's log (--log)", "the VM does not answer")
	}
}

// heard passes on an EventDone.
func (l *live) heard(e *handoff.Event) {
	l.idsMu.Lock()
	defer l.idsMu.Unlock()
	if answer, ok := l.done[e.ID]; ok {
		answer <- e.Message
		delete(l.done, e.ID)
	}
}

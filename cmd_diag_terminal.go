package main

import (
	"context"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"keel/boot/qemu"
)

// leaveHelp is what Ctrl-A H shows, in raw mode, hence the carriage return.
const leaveHelp = "\r\nkeel: Ctrl-A X leaves, Ctrl-A Ctrl-A sends one Ctrl-A, Ctrl-A H shows this\r\n"

// onTerminal tells whether a stream is a terminal.
func onTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// keyboard moves what is typed to a program or to a guest.
type keyboard struct {
	in   io.Reader
	help io.Writer
	raw  bool // a terminal in raw mode: Ctrl-A is ours
}

// inputQueue is how many chunks of input wait for somebody who does not read. At a raw
// terminal those beyond are dropped, so that Ctrl-A X always works.
const inputQueue = 64

// openKeyboard puts a terminal into raw mode and returns what restores it.
func openKeyboard(in io.Reader, help io.Writer) (k *keyboard, restore func()) {
	k = &keyboard{in: in, help: help}
	if onTerminal(in) {
		fd := int(in.(*os.File).Fd())
		if old, err := term.MakeRaw(fd); err == nil {
			k.raw = true
			return k, func() { _ = term.Restore(fd, old) } // a terminal that is gone needs no restoring
		}
	}
	return k, func() {}
}

// move gives what is typed until ctx ends or give fails; then nobody takes it any more. It
// calls leave when the user wants to, and end when there is no more input. A read that is
// under way goes on.
func (k *keyboard) move(ctx context.Context, leave func(), give func(context.Context, []byte) error, end func(context.Context) error) {
	queue := make(chan []byte, inputQueue)
	go func() {
		for {
			select {
			case b, more := <-queue:
				if !more {
					_ = end(ctx) // who has ended needs no end of input
					return
				}
				if give(ctx, b) != nil {
					return // its end is seen elsewhere
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	defer close(queue)
	var e qemu.Escapes
	buf := make([]byte, 4096)
	for {
		n, err := k.in.Read(buf)
		typed, action := append([]byte(nil), buf[:n]...), qemu.ActionNone
		if k.raw {
			typed, action = e.Decode(buf[:n])
		}
		if len(typed) > 0 && !k.queue(ctx, queue, typed) {
			return
		}
		switch action {
		case qemu.ActionQuit:
			leave()
			return
		case qemu.ActionHelp:
			_, _ = io.WriteString(k.help, leaveHelp) // the terminal may be gone
		case qemu.ActionNone:
		}
		if err != nil {
			return
		}
	}
}

// queue queues input; false says that nobody takes it any more.
func (k *keyboard) queue(ctx context.Context, to chan<- []byte, b []byte) bool {
	if k.raw {
		select {
		case to <- b:
		default:
		}
		return true
	}
	select {
	case to <- b:
		return true
	case <-ctx.Done():
		return false
	}
}

// maxSpool is how many bytes of a VM's output wait for whoever reads ours.
const maxSpool = 8 << 20

// spool writes behind: the VM drops a client that takes nothing for ten seconds, which is
// soon at a pager or a terminal that stands still.
type spool struct {
	w    io.Writer
	done chan struct{}

	mu     sync.Mutex
	change *sync.Cond
	buf    []byte
	closed bool
	err    error // of w
}

func newSpool(w io.Writer) *spool {
	s := &spool{w: w, done: make(chan struct{})}
	s.change = sync.NewCond(&s.mu)
	go s.run()
	return s
}

// Write keeps bytes for later. It waits only when there are too many of them.
func (s *spool) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) > maxSpool && s.err == nil {
		s.change.Wait()
	}
	if s.err != nil {
		return 0, s.err
	}
	s.buf = append(s.buf, b...)
	s.change.Broadcast()
	return len(b), nil
}

// close waits until all was written.
func (s *spool) close() error {
	s.mu.Lock()
	s.closed = true
	s.change.Broadcast()
	s.mu.Unlock()
	<-s.done
	return s.err
}

func (s *spool) run() {
	defer close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && (len(s.buf) > 0 || !s.closed) {
		if len(s.buf) == 0 {
			s.change.Wait()
			continue
		}
		b := s.buf
		s.buf = nil
		s.change.Broadcast()
		s.mu.Unlock()
		_, err := s.w.Write(b)
		s.mu.Lock()
		s.err = err
		s.change.Broadcast()
	}
}

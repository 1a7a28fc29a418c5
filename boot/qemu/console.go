package qemu

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Terminal is where the guest's COM1 goes with --console stdio.
type Terminal struct {
	In  *os.File
	Out io.Writer
	Err io.Writer // help and hints
}

const (
	// help is shown in raw mode, hence the carriage return.
	help = "\r\nkeel: Ctrl-A X ends the VM, Ctrl-A Ctrl-A sends one Ctrl-A, Ctrl-A H shows this\r\n"

	inputQueue = 64 // chunks of input that wait for a guest that does not read
)

// typist moves the user's input to the guest.
type typist struct {
	term  *Terminal
	raw   bool // a terminal in raw mode: escapes count, and keys are dropped rather than block Ctrl-A X
	quit  chan struct{}
	queue chan []byte
}

// open puts a terminal into raw mode and returns what restores it.
func (t *typist) open() (restore func()) {
	fd := int(t.term.In.Fd())
	if !term.IsTerminal(fd) {
		return func() {}
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return func() {}
	}
	t.raw = true
	return func() { _ = term.Restore(fd, old) } // a terminal that is gone needs no restoring
}

// read takes input until it ends. The end of the input ends nothing else:
// a guest may run long after its script was typed.
func (t *typist) read() {
	var e Escapes
	buf := make([]byte, 4096)
	for {
		n, err := t.term.In.Read(buf)
		guest, a := append([]byte(nil), buf[:n]...), ActionNone
		if t.raw {
			guest, a = e.Decode(buf[:n])
		}
		t.send(guest)
		switch a {
		case ActionQuit:
			close(t.quit)
			return
		case ActionHelp:
			_, _ = io.WriteString(t.term.Err, help) // the terminal may be gone
		case ActionNone:
		}
		if err != nil {
			return
		}
	}
}

// send queues input. A file or a pipe waits for the guest; a user does not.
func (t *typist) send(b []byte) {
	if len(b) == 0 {
		return
	}
	if !t.raw {
		t.queue <- b
		return
	}
	select {
	case t.queue <- b:
	default: // as a UART without flow control does
	}
}

// write passes queued input on until the console is closed.
func (t *typist) write(console io.Writer) {
	for b := range t.queue {
		if _, err := console.Write(b); err != nil {
			return
		}
	}
}

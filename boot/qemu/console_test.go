package qemu

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"keel/boot/handoff"
)

func TestEscapes(t *testing.T) {
	tests := []struct {
		in    []string // as chunks arrive
		guest string
		last  Action
	}{
		{[]string{"ls\r"}, "ls\r", ActionNone},
		{[]string{"a\x01x"}, "a", ActionQuit},
		{[]string{"\x01", "X"}, "", ActionQuit},
		{[]string{"\x01\x01"}, "\x01", ActionNone},
		{[]string{"\x01a", "b"}, "\x01b", ActionNone},
		{[]string{"\x01h"}, "", ActionHelp},
		{[]string{"\x01zx"}, "x", ActionNone},
		{[]string{"\x01\x01x"}, "\x01x", ActionNone},
		{[]string{"\x03\x04\x1a"}, "\x03\x04\x1a", ActionNone}, // the guest's own control keys
	}
	for _, tt := range tests {
		var e Escapes
		var guest []byte
		var last Action
		for _, chunk := range tt.in {
			b, a := e.Decode([]byte(chunk))
			guest, last = append(guest, b...), a
		}
		if string(guest) != tt.guest || last != tt.last {
			t.Errorf("%q: %q, %d", tt.in, guest, last)
		}
	}
}

// pty opens a pseudo terminal.
func pty(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return user, tty
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// TestTerminal types at a real terminal: help, then the end of the run.
func TestTerminal(t *testing.T) {
	o := fake(t, "runs")
	user, tty := pty(t)
	before := termios(t, tty)
	var once sync.Once
	out := writerFunc(func(b []byte) (int, error) { // the guest speaks: raw mode is on
		once.Do(func() {
			if termios(t, tty).Lflag&unix.ICANON != 0 {
				t.Error("the terminal is not raw")
			}
			if _, err := user.WriteString("keys\x01h"); err != nil {
				t.Error(err)
			}
		})
		return len(b), nil
	})
	var shown string
	hints := writerFunc(func(b []byte) (int, error) {
		shown += string(b)
		return user.WriteString("\x01x")
	})
	r, err := Run(bounded(t), o, &Terminal{In: tty, Out: out, Err: hints})
	if r.Outcome != handoff.OutcomeQuit || r.Message != "ended by Ctrl-A X" {
		t.Errorf("%s: %v", r.Outcome, err)
	}
	if termios(t, tty) != before {
		t.Error("the terminal was not restored")
	}
	if shown != help {
		t.Errorf("help: %q", shown)
	}
}

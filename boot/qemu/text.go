package qemu

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"sync"
	"unicode"
)

const (
	maxLine    = 64 << 10 // bytes of a line on the control channel
	maxMessage = 1200     // bytes of a message that is shown to people
	tailLines  = 4        // lines that are quoted when the VM is lost
)

// eachLine calls f for every line of r, without its newline, until r ends.
// Memory is bounded whatever r holds: of a line longer than maxLine f sees the
// front only, with whole false. The slice is valid during the call.
func eachLine(r io.Reader, f func(line []byte, whole bool)) {
	b := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := b.ReadSlice('\n')
		whole := !errors.Is(err, bufio.ErrBufferFull)
		if len(line) > 0 {
			f(trimNewline(line), whole)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = b.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}

// oneLine makes a text from the VM fit to be shown: one line of bounded
// length without anything that a terminal would obey.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4*maxMessage)], "?")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "..."
	}
	return s
}

// tail remembers the last lines of a channel, for error messages, and the
// first one that says why everything ended.
type tail struct {
	mu    sync.Mutex
	lines []string // at most tailLines
	fatal string   // first line that isFatal likes

	isFatal func(string) bool // nil likes nothing
	alarm   chan struct{}     // closed at the first fatal line
}

func newTail(isFatal func(string) bool) *tail {
	return &tail{isFatal: isFatal, alarm: make(chan struct{})}
}

// add takes a line.
func (t *tail) add(line []byte, _ bool) {
	s := oneLine(string(line))
	if s == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, s)
	t.lines = t.lines[max(0, len(t.lines)-tailLines):]
	if t.fatal == "" && t.isFatal != nil && t.isFatal(s) {
		t.fatal = s
		close(t.alarm)
	}
}

// quote returns the fatal line, or else the last lines, as one line.
func (t *tail) quote() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fatal != "" {
		return t.fatal
	}
	return oneLine(strings.Join(t.lines, " | "))
}

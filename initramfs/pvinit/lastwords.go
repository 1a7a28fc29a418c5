package pvinit

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// Bounds of what is passed on of a crash: a stack of Keel has some hundred lines.
const (
	maxWords = 2000     // lines
	maxWord  = 16 << 10 // bytes of a line
)

// withheld stands for a panic's value, which may be the guest's.
const withheld = "(withheld: the guest is confidential)"

// Lines of what the Go runtime says of a crash (runtime/traceback.go), as far as they tell
// of Keel's own code.
var (
	signalLine  = regexp.MustCompile(`^\[signal (SIG[A-Z]+)\b`)
	fatalLine   = regexp.MustCompile(`^fatal error: [a-zA-Z ,;:'()-]+$`)
	routineLine = regexp.MustCompile(`^goroutine \d+ .*\[([a-zA-Z ()]+)[^]]*\]:$`)
	// A function's arguments are numbers in parentheses at the end of the line.
	callLine    = regexp.MustCompile(`^([\w./*()\[\]%·-]+?)\([0-9a-fx{}, ?_.]*\)$`)
	createdLine = regexp.MustCompile(`^created by ([\w./*()\[\]%·-]+)( in goroutine \d+)?$`)
	placeLine   = regexp.MustCompile(`^\t([\w./@+-]+\.(?:go|s)):(\d+)( \+0x[0-9a-f]+)?$`)
)

// runtimePanics are the words of the runtime's own panics, which values may follow.
var runtimePanics = []string{
	"runtime error: index out of range", "runtime error: slice bounds out of range", "runtime error: integer divide by zero",
	"runtime error: invalid memory address or nil pointer dereference", "runtime error: makeslice: len out of range",
	"assignment to entry in nil map", "send on closed channel", "close of closed channel", "close of nil channel",
}

// lastWords are what the Go runtime says of a crash, line by line.
type lastWords struct{ stack bool } // in a goroutine's stack: before, there may be a panic's value

// discreet returns a line without the values in it, and whether there is anything left.
func (w *lastWords) discreet(line string) (string, bool) {
	if m := routineLine.FindStringSubmatch(line); m != nil {
		w.stack = true
		return "goroutine [" + m[1] + "]:", true
	}
	if line == "" {
		w.stack = false
		return "", false
	}
	if w.stack {
		if m := placeLine.FindStringSubmatch(line); m != nil {
			return "\t" + path.Base(m[1]) + ":" + m[2], true
		}
		if m := createdLine.FindStringSubmatch(line); m != nil {
			return "created by " + m[1], true
		}
		if m := callLine.FindStringSubmatch(line); m != nil {
			return m[1] + "(...)", true
		}
		return "", false
	}
	if message, ok := strings.CutPrefix(line, "panic: "); ok {
		for _, known := range runtimePanics {
			if strings.HasPrefix(message, known) {
				return "panic: " + known, true
			}
		}
		return "panic: " + withheld, true
	}
	if m := signalLine.FindStringSubmatch(line); m != nil {
		return "[signal " + m[1] + "]", true
	}
	return line, fatalLine.MatchString(line)
}

// passOn passes on the last words that come from r, without the values in them, and says
// how many lines it left out. It returns when r ends.
func passOn(r io.Reader, pass func(line string)) {
	var words lastWords
	passed, left := 0, 0
	lines := bufio.NewReaderSize(r, maxWord)
	for {
		line, long, err := lines.ReadLine()
		for more := long; more && err == nil; {
			_, more, err = lines.ReadLine()
		}
		if err != nil {
			break
		}
		said, ok := "", false
		if !long {
			said, ok = words.discreet(string(line))
		}
		switch {
		case ok && passed < maxWords:
			pass(said)
			passed++
		case long || len(line) > 0:
			left++
		}
	}
	if left > 0 {
		pass(fmt.Sprintf("%d lines withheld: the guest is confidential", left))
	}
}

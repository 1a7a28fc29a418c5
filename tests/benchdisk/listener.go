package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"keel/tests/bench/vm"
)

// window is a part of a job during which it ran steadily.
type window struct{ wall, cpu time.Duration }

// listener takes a console, and looks at the clock and at what the VM has cost
// whenever a window begins or ends.
type listener struct {
	mu      sync.Mutex
	text    []byte
	seen    int // of text, in whole lines
	cost    func() (time.Duration, error)
	begun   map[string]window // clock and cost at the beginning
	windows map[string]window
}

// newListener listens to the VM of a name.
func newListener(name string) *listener {
	return &listener{cost: costOf(name), begun: map[string]window{}, windows: map[string]window{}}
}

// windowWords begin the line that package load prints at both ends of a window.
const windowWords = "KEEL-GUEST note window "

// Write implements io.Writer.
func (l *listener) Write(b []byte) (int, error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	for {
		end := bytes.IndexByte(l.text[l.seen:], '\n')
		if end < 0 {
			return len(b), nil
		}
		line := strings.TrimSpace(string(l.text[l.seen : l.seen+end]))
		l.seen += end + 1
		if words, ok := strings.CutPrefix(line, windowWords); ok {
			l.note(words, now)
		}
	}
}

// started is where the listener's own clock begins.
var started = time.Now()

func (l *listener) note(words string, now time.Time) {
	cpu, err := l.cost()
	if err != nil {
		return // a figure is missing, no more
	}
	at := window{now.Sub(started), cpu}
	switch name, what, _ := strings.Cut(words, " "); what {
	case "begin":
		l.begun[name] = at
	case "end":
		if from, ok := l.begun[name]; ok {
			l.windows[name] = window{at.wall - from.wall, at.cpu - from.cpu}
		}
	}
}

// heard returns the console and the windows so far.
func (l *listener) heard() (string, map[string]window) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text), l.windows
}

// costOf returns what tells how long CPUs have run the process of a VM.
func costOf(name string) func() (time.Duration, error) {
	var stat string
	return func() (time.Duration, error) {
		if stat == "" {
			lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
			for _, path := range lines {
				if line, err := os.ReadFile(path); err == nil && bytes.Contains(line, []byte("\x00guest="+name+"\x00")) {
					stat = filepath.Join(filepath.Dir(path), "stat")
				}
			}
		}
		text, err := os.ReadFile(stat)
		if err != nil {
			return 0, err
		}
		return cpuTime(string(text))
	}
}

// tick is the unit of times in /proc, USER_HZ of Linux on x86.
const tick = time.Second / 100

// cpuTime reads utime and stime, the 14th and 15th field of /proc/PID/stat (proc(5)).
// The second field is a name in parentheses, which may hold spaces.
func cpuTime(stat string) (time.Duration, error) {
	const fieldAfterName, utime = 3, 14
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) <= utime+1-fieldAfterName {
		return 0, fmt.Errorf("%w: /proc/PID/stat is %.200q", vm.ErrRun, stat)
	}
	var sum time.Duration
	for i := range 2 {
		n, err := strconv.ParseInt(f[utime-fieldAfterName+i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", vm.ErrRun, err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

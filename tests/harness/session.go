package harness

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Session is a run on a terminal, with somebody who reads and types.
type Session struct {
	*Run
	user *os.File // the user's end of the terminal
	out  *screen
}

// screen collects what a guest prints and lets one wait for a part of it.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	seen    int // what match has gone past
	changed chan struct{}
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return s.text.Write(b)
}

// match returns what a pattern and its groups have matched in the text that it has not
// gone past, nil when it has not, and goes past it.
func (s *screen) match(want *regexp.Regexp) (groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.text.Bytes()[s.seen:]
	at := want.FindSubmatchIndex(text)
	if at == nil {
		return nil
	}
	for i := 0; i < len(at); i += 2 {
		groups = append(groups, string(text[max(at[i], 0):max(at[i+1], 0)]))
	}
	s.seen += at[1]
	return groups
}

// StartSession starts a run on a terminal, which is the guest's console.
func (tool *Tool) StartSession(t *testing.T, flags ...string) *Session {
	t.Helper()
	user, tty := Terminal(t)
	defer tty.Close()
	s := &Session{Run: tool.start(t, tty, flags), user: user, out: &screen{changed: make(chan struct{}, 1)}}
	go func() { _, _ = io.Copy(s.out, user) }() // ends with an error when the tool closes the terminal
	t.Cleanup(func() {
		if t.Failed() {
			s.out.mu.Lock()
			defer s.out.mu.Unlock()
			text := s.out.text.Bytes()
			t.Logf("end of the terminal: %q", text[max(0, len(text)-2000):])
		}
	})
	return s
}

// Terminal returns the two ends of a pseudo terminal (pts(4)).
func Terminal(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
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
	return user, tty
}

// Expect waits until the guest prints want, after what was expected before.
func (s *Session) Expect(t *testing.T, want string) {
	t.Helper()
	s.Match(t, regexp.QuoteMeta(want))
}

// Match is Expect for a pattern, and returns what its groups have matched.
func (s *Session) Match(t *testing.T, pattern string) []string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	for deadline := time.After(Patience); ; {
		if groups := s.out.match(want); groups != nil {
			return groups[1:]
		}
		select {
		case <-s.out.changed:
		case <-s.Ended:
			if groups := s.out.match(want); groups != nil {
				return groups[1:]
			}
			t.Fatalf("the run ended before the guest printed %q", want)
		case <-deadline:
			t.Fatalf("the guest did not print %q within %v", want, Patience)
		}
	}
}

// Interrupt types Ctrl-C until the guest prints want: one that comes while a shell starts
// or waits for a program may end neither.
func (s *Session) Interrupt(t *testing.T, want string) {
	t.Helper()
	const every = 5 * time.Second
	pattern := regexp.MustCompile(regexp.QuoteMeta(want))
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); {
		s.Send(t, "\x03")
		for again := time.After(every); again != nil; {
			if s.out.match(pattern) != nil {
				return
			}
			select {
			case <-s.out.changed:
			case <-again:
				again = nil
			}
		}
	}
	t.Fatalf("Ctrl-C does not make the guest print %q", want)
}

// Send types on the guest's terminal.
func (s *Session) Send(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(s.user, keys); err != nil {
		t.Fatalf("type %q: %v", keys, err)
	}
}

package pvinit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// crashName names the crash that a process of the test's program ends by.
const crashName = "KEEL_TEST_CRASH"

// What a crash must not tell: as a text, in a place of its own line, and as a number.
const (
	secretText   = "c0ffee5ec2e7"
	secretNumber = 0xc0ffee5ec2e7
)

// deeper has a secret for an argument, which stacks show.
//
//go:noinline
func deeper(secret uint64, crash func()) {
	crash()
	if secret == 0 {
		panic("not reached")
	}
}

// crashes are ends of a Go program, by name.
var crashes = map[string]struct {
	crash func()
	want  []string // in what is passed on
}{
	"panic": {
		func() { panic("the guest said\n\t/" + secretText + ".go:1\n" + secretText + "()\n") },
		[]string{"panic: (withheld", "pvinit.deeper(...)", "lastwords_test.go:", "goroutine [running]:", "lines withheld"},
	},
	"error":   {func() { panic(errors.New("register " + secretText)) }, []string{"panic: (withheld"}},
	"index":   {func() { _ = make([]int, 3)[len(os.Args)+secretNumber] }, []string{"panic: runtime error: index out of range\n"}},
	"nil":     {func() { _ = *(*int)(nil) }, []string{"panic: runtime error: invalid memory address", "[signal SIGSEGV]"}},
	"again":   {func() { defer func() { panic(recover()) }(); panic(secretText) }, []string{"panic: (withheld"}},
	"unlock":  {func() { new(sync.Mutex).Unlock() }, []string{"fatal error: sync: unlock of unlocked mutex\n", "pvinit.deeper(...)"}},
	"another": {func() { go deeper(secretNumber, func() { panic(secretText) }); select {} }, []string{"created by keel/initramfs/pvinit."}},
}

func TestMain(m *testing.M) {
	if c, ok := crashes[os.Getenv(crashName)]; ok {
		deeper(secretNumber, c.crash)
	}
	os.Exit(m.Run())
}

// TestLastWords: what is passed on of a crash says where it happened, and no value.
func TestLastWords(t *testing.T) {
	for name, c := range crashes {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), crashName+"="+name, "GOTRACEBACK=all")
			said, err := cmd.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != goPanic {
				t.Fatalf("the crash ended with %v", err)
			}
			if !bytes.Contains(said, []byte(secretText)) {
				t.Fatalf("there is nothing to hide:\n%s", said)
			}
			var passed strings.Builder
			passOn(bytes.NewReader(said), func(line string) { fmt.Fprintln(&passed, line) })
			if strings.Contains(passed.String(), secretText) {
				t.Errorf("a secret is passed on:\n%s", passed.String())
			}
			for _, want := range c.want {
				if !strings.Contains(passed.String(), want) {
					t.Errorf("%q is missing in\n%s", want, passed.String())
				}
			}
		})
	}
}

// TestLastWordsBounded: lines that are too long and too many are left out.
func TestLastWordsBounded(t *testing.T) {
	in := "goroutine 1 [running]:\n" + strings.Repeat("x", 3*maxWord) + "()\n" + strings.Repeat("main.f()\n", 2*maxWords)
	var passed []string
	passOn(strings.NewReader(in), func(line string) { passed = append(passed, line) })
	if n := len(passed); n != maxWords+1 || passed[1] != "main.f(...)" || !strings.HasPrefix(passed[n-1], "2002 lines withheld") {
		t.Errorf("%d lines; %q, …, %q", n, passed[:2], passed[n-1])
	}
}

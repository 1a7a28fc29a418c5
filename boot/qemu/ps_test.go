package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
)

func TestLiveNames(t *testing.T) {
	line := func(name string) string {
		return "0000000000000000: 00000002 00000000 00010000 0001 01 12345 " + name + "\n"
	}
	table := "Num       RefCount Protocol Flags    Type St Inode Path\n" +
		line("@keel/7/web") + line("@keel/7/web") + line("@keel/7/web/vsock") + line("@keel/8/other") + line("@keel/7/") +
		line("/run/keel/7/file") + line("") + line("@keel/7/-bad") + line("@keel/77/db") + line("@keel/7/db") + "@keel/7/short\n"
	if got := liveNames([]byte(table), 7); !slices.Equal(got, []string{"db", "web"}) {
		t.Errorf("%q", got)
	}
	var many strings.Builder
	for i := range 2 * maxLive {
		many.WriteString(line(fmt.Sprintf("@keel/7/vm%d", i)))
	}
	if got := liveNames([]byte(many.String()), 7); len(got) != maxLive {
		t.Errorf("%d names", len(got))
	}
}

// running starts a fake VM of that name, waits until it runs, and returns how to end it.
func running(t *testing.T, name string) (end func() *Report) {
	t.Helper()
	o := fake(t, "runs")
	o.Name = name
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(bounded(t))
	done := make(chan *Report, 1)
	term, _ := pipe(t, in)
	go func() {
		r, _ := Run(ctx, o, term)
		done <- r
	}()
	go func() { <-ctx.Done(); in.Close() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "pid ") {
		t.Fatalf("%q, %v", line, err)
	}
	go io.Copy(io.Discard, out)
	return func() *Report {
		cancel()
		return <-done
	}
}

// TestFind finds VMs while they run, two at a time, and not afterwards.
func TestFind(t *testing.T) {
	one, two := fmt.Sprintf("find-%d-1", os.Getpid()), fmt.Sprintf("find-%d-2", os.Getpid())
	endOne, endTwo := running(t, one), running(t, two)
	for _, name := range []string{one, two} {
		vm, err := Find(bounded(t), name)
		if err != nil || vm.Name != name || vm.PID != os.Getpid() || vm.VPs != 2 || vm.Memory != MinMemory || time.Since(vm.Since) > time.Minute {
			t.Errorf("%+v, %v", vm, err)
		}
		if vm.Vsock != handoff.VsockSocket(os.Getuid(), name) {
			t.Errorf("vsock %q", vm.Vsock)
		}
		c, err := net.Dial("unix", vm.Vsock)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	mine := func() (names []string) {
		vms, err := List(bounded(t))
		if err != nil {
			t.Error(err)
		}
		for _, vm := range vms {
			if vm.Name == one || vm.Name == two {
				names = append(names, vm.Name)
			}
		}
		return names
	}
	if got := mine(); !slices.Equal(got, []string{one, two}) {
		t.Errorf("%q", got)
	}
	if r := endOne(); r.Outcome != handoff.OutcomeQuit || len(r.Warnings) > 0 {
		t.Errorf("%s, %q", r.Outcome, r.Warnings)
	}
	if got := mine(); !slices.Equal(got, []string{two}) {
		t.Errorf("%q", got)
	}
	endTwo()
	for _, name := range []string{one, two, "", "a/b", strings.Repeat("x", 200)} {
		if _, err := Find(bounded(t), name); OutcomeOf(err) != handoff.OutcomeUsage || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if c, err := net.Dial("unix", handoff.VsockSocket(os.Getuid(), one)); err == nil {
		c.Close()
		t.Error("the vsock outlives its VM")
	}
}

// TestSameName runs two VMs of one name: the second runs all the same, and both have a
// vsock.
func TestSameName(t *testing.T) {
	name := fmt.Sprintf("same-%d", os.Getpid())
	end := running(t, name)
	endSecond := running(t, name)
	vm, err := Find(bounded(t), name)
	if err != nil || vm.Vsock != handoff.VsockSocket(os.Getuid(), name) {
		t.Errorf("%+v, %v", vm, err)
	}
	c, err := net.Dial("unix", fmt.Sprintf("%s.%d", vm.Vsock, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	for _, end := range []func() *Report{endSecond, end} {
		if r := end(); r.Outcome != handoff.OutcomeQuit {
			t.Errorf("%s: %s", r.Outcome, r.Message)
		}
	}
}

// TestBadLauncher asks launchers that say nonsense.
func TestBadLauncher(t *testing.T) {
	for answer, want := range map[string]handoff.Outcome{
		"":                               handoff.OutcomeVMLost,
		"garbage\n":                      handoff.OutcomeVMLost,
		"{}\n":                           handoff.OutcomeVMLost,
		`{"vm":{"name":"other"}}` + "\n": handoff.OutcomeVMLost,
		`{"outcome":"usage","message":"the change \"status\" is unknown"}`: handoff.OutcomeUsage, // an older one
	} {
		name := fmt.Sprintf("bad-%d", os.Getpid())
		l := claim(name)
		if l == nil {
			t.Fatal("the name is taken")
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				var request Change
				if json.NewDecoder(c).Decode(&request) == nil {
					io.WriteString(c, answer)
				}
				c.Close()
			}
		}()
		if _, err := Find(bounded(t), name); OutcomeOf(err) != want {
			t.Errorf("%q: %v", answer, err)
		}
		l.Close()
	}
}

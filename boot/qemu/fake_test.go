package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
)

// The test binary also plays QEMU and, to be killed, the launcher: roleVar
// says which, scenarioVar what the VM does.
const (
	roleVar     = "KEEL_TEST_ROLE"
	scenarioVar = "KEEL_TEST_SCENARIO"
	versionVar  = "KEEL_TEST_VERSION"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "qemu":
		fakeQEMU(os.Args[1:])
	case "launcher":
		_ = os.Setenv(roleVar, "qemu")
		_, _ = Run(context.Background(), fakeOptions(), &Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	default:
		os.Exit(m.Run())
	}
}

// fakeOptions ask for a run of the fake QEMU.
func fakeOptions() *Options {
	return &Options{
		Image: []byte("image"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), Config: []byte("config"),
		VPs: 2, Memory: MinMemory, Name: "fake", Accel: AccelTCG, Loader: LoaderAuto,
		QEMU: os.Args[0], Console: ConsoleStdio, ImageBytes: 5,
	}
}

// vm is the fake's view of its command line.
type vm struct {
	files                            map[string]string // fw_cfg name to path, and "image"
	vtl2, console, log, control, qmp net.Conn
	vsock                            net.Conn
}

// fakeQEMU does what the scenario asks for and never returns.
func fakeQEMU(args []string) {
	if args[0] == "-version" {
		fmt.Println(os.Getenv(versionVar))
		os.Exit(0)
	}
	if args[0] == "-object" {
		fmt.Println("  iothread\n  rng-random")
		os.Exit(0)
	}
	v := attach(args)
	scenario := os.Getenv(scenarioVar)
	if scenario != "deaf" {
		go v.monitor()
	}
	scenarios[scenario](v)
	select {}
}

// scenarios are what the VM does; one that returns leaves QEMU running.
var scenarios = map[string]func(*vm){
	// A good run: it says what it was given, echoes a line, and ends.
	"good": func(v *vm) {
		v.event(handoff.Event{Event: handoff.EventInit, TimeMS: 100})
		v.event(handoff.Event{Event: handoff.EventStart, TimeMS: 200})
		v.event(handoff.Event{Event: handoff.EventEntry, TimeMS: 300})
		for _, f := range []string{"image", handoff.FileConfig, handoff.FileKernel, handoff.FileInitrd} {
			b, err := os.ReadFile(v.files[f])
			fmt.Fprintf(v.console, "%s=%s %v\n", f, b, err)
		}
		fmt.Fprintln(v.log, "a line of the log")
		line, _ := bufio.NewReader(v.console).ReadString('\n')
		fmt.Fprint(v.console, "you said ", line)
		v.event(handoff.Event{Event: handoff.EventReset, TimeMS: 350})
		v.event(handoff.Event{
			Event: handoff.EventEnd, TimeMS: 400, Outcome: handoff.OutcomePoweroff,
			Report: &handoff.Report{Exits: map[string]uint64{"pio": 7}, VTL2MemoryUsedBytes: 1 << 20, VTL2MemoryPeakBytes: 2 << 20, GuestResets: 1, Warnings: []string{"a warning\non two lines"}},
		})
	},
	// The last event overtakes the last words.
	"overtakes": func(v *vm) {
		v.event(handoff.Event{Event: handoff.EventEnd, Outcome: handoff.OutcomePoweroff})
		time.Sleep(quietTime / 10)
		fmt.Fprint(v.console, "last words")
	},
	// Dies without a word on any channel.
	"dies": func(*vm) {
		fmt.Fprintln(os.Stderr, "qemu: something \x1b[31mbroke\nqemu: warning: TCG lacks a feature")
		os.Exit(1)
	},
	// The VTL2 kernel panics and hangs.
	"panics": func(v *vm) {
		fmt.Fprintln(v.vtl2, "booting\r\nKernel panic - not syncing: no init found\r\n---[ end")
	},
	// The boot shim refuses the VM and halts.
	"refuses": func(v *vm) { fmt.Fprint(v.vtl2, "keel: shim: the host gave no VP count\r\n") },
	// The paravisor reports a crash of the guest, with a hostile message.
	"crash": func(v *vm) {
		v.event(handoff.Event{Event: handoff.EventEnd, Outcome: handoff.OutcomeGuestCrashed, Message: "triple fault\nat \x1b]0;RIP 0x10"})
	},
	// Garbage surrounds the one word that counts.
	"garbage": func(v *vm) {
		fmt.Fprint(v.control, "\n{\n[]\n", strings.Repeat("x", 3*maxLine), "\n",
			`{"event":"end","outcome":"quit"}`, "\n", `{"event":"report"}`, "\n", `{"event":"init","time_ms":-1}`, "\n")
		v.event(handoff.Event{Event: handoff.EventEnd, Outcome: handoff.OutcomePoweroff})
	},
	// Runs on, answers a request for a report, and quits when asked.
	"runs": func(v *vm) {
		v.event(handoff.Event{Event: handoff.EventStart, TimeMS: 1})
		fmt.Fprintf(v.console, "pid %d\n", os.Getpid())
		for s := bufio.NewScanner(v.control); s.Scan(); {
			v.event(handoff.Event{Event: handoff.EventReport, Report: &handoff.Report{Exits: map[string]uint64{s.Text(): 1}}})
		}
	},
	// Runs on and obeys nobody.
	"deaf": func(v *vm) { fmt.Fprintf(v.console, "pid %d\n", os.Getpid()) },
}

// attach opens what a command line names.
func attach(args []string) *vm {
	v := &vm{files: map[string]string{}}
	line := strings.Join(args, " ")
	for _, m := range regexp.MustCompile(`-fw_cfg name=([^,]+),file=(\S+)`).FindAllStringSubmatch(line, -1) {
		v.files[m[1]] = m[2]
	}
	v.files["image"] = regexp.MustCompile(`-kernel (\S+)`).FindStringSubmatch(line)[1]
	conns := map[string]*net.Conn{"vtl2": &v.vtl2, "console": &v.console, "log": &v.log, "control": &v.control, "qmp": &v.qmp, "vsock": &v.vsock}
	for _, m := range regexp.MustCompile(`-chardev socket,id=(\w+),fd=(\d+)`).FindAllStringSubmatch(line, -1) {
		fd, _ := strconv.Atoi(m[2])
		c, err := net.FileConn(os.NewFile(uintptr(fd), m[1]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		*conns[m[1]] = c
	}
	return v
}

// event sends one event.
func (v *vm) event(e handoff.Event) {
	_ = json.NewEncoder(v.control).Encode(e)
}

// monitor obeys quit, as QEMU does.
func (v *vm) monitor() {
	for s := bufio.NewScanner(v.qmp); s.Scan(); {
		if strings.Contains(s.Text(), `"quit"`) {
			os.Exit(0)
		}
	}
}

// bounded fails a test that hangs instead of letting it hang.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// fake makes the next Run use the fake in the given scenario.
func fake(t *testing.T, scenario string) *Options {
	t.Helper()
	t.Setenv(roleVar, "qemu")
	t.Setenv(scenarioVar, scenario)
	t.Setenv(versionVar, "QEMU emulator version 7.2.22 (Debian)")
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each fake lingers a second under -race
	return fakeOptions()
}

// pipe returns a terminal that is none: input is a pipe that the test writes.
func pipe(t *testing.T, out io.Writer) (*Terminal, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return &Terminal{In: r, Out: out, Err: io.Discard}, w
}

package main

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"keel/boot/qemu"
	"keel/tests/bench/report/reporttest"
	"keel/tests/bench/vm"
)

func TestPowerOn(t *testing.T) {
	const trace = "qemu: warning\n4711@1795208445.000123:vm_state_notify running 1 reason 9 (running)\n" +
		"4711@1795208460.500000:vm_state_notify running 0 reason 8 (shutdown)\n"
	at, err := powerOn(trace)
	if want := time.Unix(1795208445, 123000); err != nil || !at.Equal(want) {
		t.Errorf("%v, %v, want %v", at, err, want)
	}
	for _, bad := range []string{"", "4711@1795208460.5:vm_state_notify running 1 \n", "vm_state_notify running 1 reason 9\n", "1@99999999999999999999.000000:vm_state_notify running 1 x\n"} {
		if at, err := powerOn(bad); !errors.Is(err, vm.ErrRun) {
			t.Errorf("%q gave %v, %v", bad, at, err)
		}
	}
}

// console is what a guest says that comes to its end.
const console = "[    0.0] Linux\r\nKEEL-GUEST userspace\r\nKEEL-BENCH serial_read 12.5 us\r\nKEEL-GUEST result PASS bench done\r\nKEEL-GUEST done\r\n"

func TestListener(t *testing.T) {
	var l listener
	start := time.Now()
	for _, part := range []string{"[    0.0] Linux\r\nKEEL-GU", "EST user"} {
		fmt.Fprint(&l, part)
	}
	if !l.user.IsZero() {
		t.Errorf("userspace at %v before it was named", l.user)
	}
	fmt.Fprint(&l, "space\r\n")
	user := l.user
	if user.Before(start) {
		t.Errorf("userspace at %v, before the start at %v", user, start)
	}
	fmt.Fprint(&l, "KEEL-GUEST userspace\r\n")
	if l.user != user {
		t.Error("a second marker moved the time of the first")
	}
}

func TestEvaluate(t *testing.T) {
	on := time.Unix(1000, 0)
	initMS, entryMS := 2000.0, 2500.0
	report := func() *qemu.Report {
		return &qemu.Report{VTL2InitMS: &initMS, GuestEntryMS: &entryMS, VTL2MemoryUsedBytes: 5, VTL2MemoryPeakBytes: 6, Exits: map[string]uint64{"pio": 7}}
	}
	s, err := evaluate(side{keel, 2}, report(), console, on, on.Add(9*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if s.side != (side{keel, 2}) || s.UserspaceMS != 7000 || s.EntryMS != 500 ||
		s.Figures["serial_read"] != 12.5 || s.MemoryUsed != 5 || s.MemoryPeak != 6 || s.Exits["pio"] != 7 {
		t.Errorf("%+v", s)
	}
	if s, err := evaluate(side{qemuOn, 1}, report(), console, on, on.Add(time.Second)); err != nil || s.EntryMS != 0 {
		t.Errorf("QEMU's guest entry is %v (%v), which nobody reports", s.EntryMS, err)
	}
	noInit := report()
	noInit.VTL2InitMS = nil
	for name, broken := range map[string]func() error{
		"no init": func() error { _, err := evaluate(side{keel, 1}, noInit, console, on, on); return err },
		"no userspace": func() error {
			_, err := evaluate(side{keel, 1}, report(), console, on, time.Time{})
			return err
		},
	} {
		if err := broken(); !errors.Is(err, vm.ErrRun) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEvaluateKeepsWhatWasMeasured(t *testing.T) {
	initMS := 2000.0
	on := time.Unix(1000, 0)
	short, _, _ := strings.Cut(console, "KEEL-GUEST result")
	s, err := evaluate(side{qemuOff, 1}, &qemu.Report{VTL2InitMS: &initMS}, short, on, on.Add(9*time.Second))
	if !errors.Is(err, vm.ErrRun) || s.UserspaceMS != 7000 || s.Figures["serial_read"] != 12.5 {
		t.Errorf("%+v, %v", s, err)
	}
}

// example holds two rounds of a sort: Keel is twice as fast, and its second QEMU
// has no figures at 2 VPs.
func example() *results {
	r := &results{
		Rounds: 2, QEMU: "QEMU 7.2", Commands: map[string][]string{"qemu-off, 1 VP": {"qemu", "-smp", "1"}},
		Images: images{Keel: 10 << 20, Peer: 50 << 20}, Failures: []failure{{side{qemuOn, 2}, "lost", true}, {side{qemuOn, 2}, "lost", false}},
	}
	for round := range 2 {
		for _, at := range sides {
			ms := 8000.0
			if at.Monitor == keel {
				ms = 4000
			}
			r.Samples = append(r.Samples, sample{
				side: at, UserspaceMS: ms + float64(round), Figures: map[string]float64{"serial_read": ms / 100},
				MemoryPeak: uint64(ms) << 13, Exits: map[string]uint64{"pio": 9},
			})
		}
	}
	return r
}

func TestMarkdown(t *testing.T) {
	text := example().markdown()
	for _, want := range []string{
		"| boot: monitor's start to userspace | 1 | 0.50 | 0.50 | 4000 | 8000 | 8000 | ms | ratio at most 0.7 | 8000 | 8000 | 2.00 | 2.00 |",
		"| boot: monitor's start to userspace | 2 | - | 0.50 | 4000 | - | 8000 | ms | ratio at most 0.7 |",
		"| guest: serial_read | 1 | 0.50 | 0.50 | 40.0 | 80.0 | 80.0 | us |",
		"| memory of VTL2, peak | 2 | - | 0.50 | 31.2 | - | 62.5 | MiB | at most 48 MiB |",
		"| image file | any | 0.20 | 0.20 | 10.0 | 50.0 | 50.0 | MiB |",
		"| pio | 9 | 9 | 9 | 9 | 9 | 9 |",
		"of 19 runs in all:",
		"  qemu-on, 2 VP: 1 before userspace, 1 after.",
		"  keel, 1 VP: 0 before userspace, 0 after.",
		"`qemu -smp 1`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line with %q in\n%s", want, text)
		}
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	for name, r := range map[string]*results{"example": example(), "empty": {}} {
		text := r.plot()
		dots := reporttest.Dots(t, text)
		// Four in the legend; four a row at 1 VP, three at 2; one a boot.
		want := 4
		if len(r.Samples) > 0 {
			want += 3*4 + 3*3 + len(r.Samples)
		}
		if dots != want {
			t.Errorf("%s: %d dots, want %d", name, dots, want)
		}
	}
}

func TestScales(t *testing.T) {
	if l, m, r := ratioX(0.5), ratioX(1), ratioX(2); math.Abs((m-l)-(r-m)) > 1e-9 || l >= m {
		t.Errorf("half, one and double are at %v, %v, %v", l, m, r)
	}
	if ratioX(1e-9) != plotLeft || ratioX(1e9) != plotRight {
		t.Error("a ratio lies outside of the plot")
	}
	for p, want := range map[int]string{-2: "1/4", 0: "1", 3: "8"} {
		if got := power(p); got != want {
			t.Errorf("2^%d is %q, want %q", p, got, want)
		}
	}
}

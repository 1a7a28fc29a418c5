package hv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"testing"

	"keel/hcl/abi/hv"
	"keel/hcl/abi/x86"
)

// TestRegisterWrites: what may be written, and what it reads as afterwards.
func TestRegisterWrites(t *testing.T) {
	for _, tt := range []struct {
		name  string
		msr   uint32
		value uint64
		ok    bool
		want  uint64
	}{
		{"VP index", hv.MSR_VP_INDEX, 5, false, 0},
		{"reference count", hv.MSR_TIME_REF_COUNT, 5, false, 0},
		{"TSC frequency", hv.MSR_TSC_FREQUENCY, 5, false, testHz},
		{"SVERSION", hv.MSR_SVERSION, 1, false, 1},
		{"SCONTROL keeps reserved bits", hv.MSR_SCONTROL, 0xF1, true, 0xF1},
		{"SIMP keeps reserved bits", hv.MSR_SIMP, simPage | 0xFF1, true, simPage | 0xFF1},
		{"SIMP beyond memory", hv.MSR_SIMP, 1<<40 | 1, true, 1<<40 | 1},
		{"EOM reads zero", hv.MSR_EOM, 9, true, 0},
		{"SINT", hv.MSR_SINT0 + 2, 0xF3, true, 0xF3},
		{"SINT vector 16", hv.MSR_SINT0 + 2, 16, true, 16},
		{"SINT vector 15", hv.MSR_SINT0 + 2, 15, false, 0x10000},
		{"masked SINT needs no vector", hv.MSR_SINT15, 0x10000, true, 0x10000},
		{"polled SINT needs no vector", hv.MSR_SINT15, 0x40000, true, 0x40000},
		{"auto-EOI", hv.MSR_SINT0 + 2, 0x200F3, false, 0x10000},
		{"auto-EOI while masked", hv.MSR_SINT0 + 2, 0x300F3, true, 0x300F3},
		{"timer needs a source", hv.MSR_STIMER0_CONFIG, 1, true, 0},
		{"timer reserved bit", hv.MSR_STIMER0_CONFIG, 1 << 13, false, 0},
		{"timer reserved bit", hv.MSR_STIMER0_CONFIG, 1 << 20, false, 0},
		{"timer count", hv.MSR_STIMER0_COUNT, 77, true, 77},
		{"invariant", hv.MSR_TSC_INVARIANT_CONTROL, 1, true, 1},
		{"invariant reserved bit", hv.MSR_TSC_INVARIANT_CONTROL, 2, false, 0},
		{"VP assist page", hv.MSR_VP_ASSIST_PAGE, inputPage | 1, true, inputPage | 1},
		{"crash parameter", hv.MSR_CRASH_P4, ^uint64(0), true, ^uint64(0)},
		{"reset", hv.MSR_RESET, 1, true, 0},
		{"TPR", hv.MSR_TPR, 0, false, 0},
	} {
		g := newRig(t, 2)
		check(t, tt.name+": accepted", g.WriteMSR(1, tt.msr, tt.value), tt.ok)
		if got, ok := g.ReadMSR(1, tt.msr); ok && tt.msr != hv.MSR_VP_INDEX {
			check(t, tt.name+": value", got, tt.want)
		}
	}
}

func TestRegistersAfterReset(t *testing.T) {
	g := newRig(t, 2)
	fresh := map[uint32]uint64{}
	for index := uint32(hv.MSR_FIRST); index <= hv.MSR_LAST; index++ {
		if v, ok := g.ReadMSR(1, index); ok {
			fresh[index] = v
		}
	}
	g.enableCalls()
	g.synic(1)
	g.write(1, hv.MSR_REFERENCE_TSC, tscPage|1)
	g.write(1, hv.MSR_STIMER0_CONFIG, hv.STIMER_AUTO_ENABLE|vmbusSINT<<hv.STIMER_SINT_SHIFT)
	g.write(1, hv.MSR_STIMER0_COUNT, 1000)
	g.write(1, hv.MSR_CRASH_P0, 7)
	g.write(1, hv.MSR_TSC_INVARIANT_CONTROL, 1)
	g.Reset()
	for index, want := range fresh {
		if got := g.read(1, index); got != want {
			t.Errorf("MSR %#x = %#x after a reset, want %#x", index, got, want)
		}
	}
	if err := g.PostMessage(1, vmbusSINT, 1, nil); !errors.Is(err, ErrOff) {
		t.Errorf("message after a reset: %v", err)
	}
	g.clock.Advance(1e9)
	check(t, "interrupts after a reset", len(g.rec.take(1)), 0)
	if ok, _ := g.Hypercall(0, TrapPort64, &trapped{}); ok {
		t.Error("hypercalls go on after a reset")
	}
}

func TestVPIndex(t *testing.T) {
	g := newRig(t, 3)
	for vp := range 3 {
		check(t, "VP index", g.read(vp, hv.MSR_VP_INDEX), uint64(vp))
	}
	if _, ok := g.ReadMSR(3, hv.MSR_VP_INDEX); ok {
		t.Error("VP 3 exists")
	}
}

func TestHypercallPage(t *testing.T) {
	g := newRig(t, 2)
	before := bytes.Repeat([]byte{0x5A}, x86.PageSize)
	for _, gpa := range []x86.GPA{codePage, tscPage} {
		g.memory.WriteAt(gpa, before)
	}
	g.write(0, hv.MSR_HYPERCALL, codePage|1)
	check(t, "without an OS identity", g.read(1, hv.MSR_HYPERCALL), codePage)
	check(t, "page without an OS identity", g.bytes(codePage, 1)[0], 0x5A)

	g.write(0, hv.MSR_GUEST_OS_ID, 1<<63)
	g.write(0, hv.MSR_HYPERCALL, codePage|1)
	check(t, "seen by the other VP", g.read(1, hv.MSR_HYPERCALL), codePage|1)
	code := g.bytes(codePage, x86.PageSize)
	// endbr64; push; then either mode's way to its port.
	want := []byte{0xF3, 0x0F, 0x1E, 0xFA, 0x50, 0x48, 0xB8}
	check(t, "start of the page", bytes.HasPrefix(code, want), true)
	// The 32-bit immediate ends where 32-bit code goes on, the 64-bit one where
	// 64-bit code does; each pops, traps and returns.
	check(t, "32-bit trap", bytes.Equal(code[11:15], []byte{0x58, 0xE6, TrapPort32, 0xC3}), true)
	check(t, "64-bit trap", bytes.Equal(code[15:19], []byte{0x58, 0xE6, TrapPort64, 0xC3}), true)
	check(t, "rest of the page", bytes.Count(code[19:], []byte{0xCC}), x86.PageSize-19)

	check(t, "page outside of RAM", g.WriteMSR(0, hv.MSR_HYPERCALL, 1<<40|1), false)
	g.write(0, hv.MSR_HYPERCALL, tscPage|1)
	check(t, "old page after a move", bytes.Equal(g.bytes(codePage, x86.PageSize), before), true)
	check(t, "new page after a move", bytes.Equal(g.bytes(tscPage, x86.PageSize), code), true)

	g.write(1, hv.MSR_GUEST_OS_ID, 0)
	check(t, "after the identity is gone", g.read(0, hv.MSR_HYPERCALL), tscPage)
	check(t, "page after the identity is gone", bytes.Equal(g.bytes(tscPage, x86.PageSize), before), true)

	g.write(0, hv.MSR_GUEST_OS_ID, 1)
	g.write(0, hv.MSR_HYPERCALL, codePage|hv.HYPERCALL_LOCKED|1)
	check(t, "write while locked", g.WriteMSR(0, hv.MSR_HYPERCALL, 0), false)
	g.Reset()
	check(t, "after a reset", g.read(0, hv.MSR_HYPERCALL), 0)
	check(t, "page after a reset", bytes.Equal(g.bytes(codePage, x86.PageSize), before), true)
}

// TestOverlayInUseIsLeftAlone: a kernel that took the page over without a word keeps
// what it wrote there.
func TestOverlayInUseIsLeftAlone(t *testing.T) {
	g := newRig(t, 1)
	g.enableCalls()
	g.memory.WriteAt(codePage+100, []byte{1})
	g.write(0, hv.MSR_HYPERCALL, inputPage|1)
	check(t, "byte of the new owner", g.bytes(codePage+100, 1)[0], 1)
	check(t, "byte before it", g.bytes(codePage, 1)[0], 0xF3)
}

// TestEnablingTwiceKeepsThePage: what was saved is not the hypercall page itself.
func TestEnablingTwiceKeepsThePage(t *testing.T) {
	g := newRig(t, 1)
	g.memory.WriteAt(codePage, []byte{0x77})
	g.enableCalls()
	g.enableCalls()
	check(t, "while enabled", g.bytes(codePage, 1)[0], 0xF3)
	g.write(0, hv.MSR_HYPERCALL, 0)
	check(t, "after it", g.bytes(codePage, 1)[0], 0x77)
}

func TestReferenceTime(t *testing.T) {
	g := newRig(t, 2)
	g.clock.Advance(12_345)
	check(t, "reference count", g.read(1, hv.MSR_TIME_REF_COUNT), 123)
	g.write(0, hv.MSR_REFERENCE_TSC, tscPage|1)
	for _, d := range []int64{0, 99, 100, 1, 1e9, 3600e9} {
		g.clock.Advance(d)
		p := g.bytes(tscPage, 24)
		if binary.LittleEndian.Uint32(p) == 0 {
			t.Fatal("the page says that it must not be used")
		}
		high, _ := bits.Mul64(uint64(g.clock.Now())*2+777, binary.LittleEndian.Uint64(p[8:]))
		byPage := high + binary.LittleEndian.Uint64(p[16:])
		check(t, "time by page and by register", byPage, g.read(1, hv.MSR_TIME_REF_COUNT))
		if want := uint64(g.clock.Now() / 100); byPage+1 < want || byPage > want+1 {
			t.Errorf("reference time %d at %d ns", byPage, g.clock.Now())
		}
	}
	check(t, "rest of the page", bytes.Count(g.bytes(tscPage+24, x86.PageSize-24), []byte{0}), x86.PageSize-24)

	slow := newRig(t, 1)
	slow.SetTSCHz(0)
	slow.clock.Advance(5000)
	check(t, "reference count without a counter", slow.read(0, hv.MSR_TIME_REF_COUNT), 50)
	if _, ok := slow.ReadMSR(0, hv.MSR_REFERENCE_TSC); ok {
		t.Error("a reference TSC page without a counter")
	}
}

func TestTurnedBackCounterStaysAtZero(t *testing.T) {
	tsc := uint64(1 << 40)
	g := newRig(t, 1, func(c *Config) { c.TSC = func(int) uint64 { return tsc } })
	g.read(0, hv.MSR_TIME_REF_COUNT)
	tsc = 5
	check(t, "reference count", g.read(0, hv.MSR_TIME_REF_COUNT), 0)
}

func TestCrash(t *testing.T) {
	g := newRig(t, 1)
	check(t, "capabilities", g.read(0, hv.MSR_CRASH_CTL), 3<<62)
	text := []byte("Kernel panic - not syncing")
	g.memory.WriteAt(0x5000, text)
	for i, p := range []uint64{1, 2, 3, 0x5000, uint64(len(text))} {
		g.write(0, hv.MSR_CRASH_P0+uint32(i), p)
	}
	g.write(0, hv.MSR_CRASH_CTL, hv.CRASH_MESSAGE)
	check(t, "reports without a notification", len(g.crash), 0)
	g.write(0, hv.MSR_CRASH_CTL, hv.CRASH_NOTIFY)
	g.write(0, hv.MSR_CRASH_CTL, hv.CRASH_NOTIFY|hv.CRASH_MESSAGE)
	if len(g.crash) != 2 {
		t.Fatalf("%d reports, want 2", len(g.crash))
	}
	check(t, "parameters", g.crash[0].P, [5]uint64{1, 2, 3, 0x5000, uint64(len(text))})
	check(t, "message without its flag", g.crash[0].Message == nil, true)
	check(t, "message", string(g.crash[1].Message), string(text))

	for _, bad := range [][2]uint64{{0x5000, 4097}, {1 << 40, 10}, {^uint64(0), 10}, {ram - 4, 10}} {
		g.Reset()
		g.crash = nil
		g.write(0, hv.MSR_CRASH_P0+3, bad[0])
		g.write(0, hv.MSR_CRASH_P4, bad[1])
		g.write(0, hv.MSR_CRASH_CTL, hv.CRASH_NOTIFY|hv.CRASH_MESSAGE)
		check(t, "reports", len(g.crash), 1)
		check(t, "message from nowhere", g.crash[0].Message == nil, true)
	}
	for range 100 {
		g.write(0, hv.MSR_CRASH_CTL, hv.CRASH_NOTIFY)
	}
	check(t, "reports in a loop", len(g.crash), maxCrashes)
	check(t, "reports ignored", g.Stats().CrashesIgnored, 100-maxCrashes+1)
}

func TestResetRegister(t *testing.T) {
	g := newRig(t, 1)
	g.write(0, hv.MSR_RESET, 0)
	check(t, "resets after 0", g.resets, 0)
	g.write(0, hv.MSR_RESET, 1)
	check(t, "resets after 1", g.resets, 1)
}

func TestConfigIsChecked(t *testing.T) {
	good := newRig(t, 1).config
	for name, spoil := range map[string]func(*Config){
		"no VPs":        func(c *Config) { c.VPs = 0 },
		"too many VPs":  func(c *Config) { c.VPs = MaxVPs + 1 },
		"no memory":     func(c *Config) { c.Memory = nil },
		"no interrupts": func(c *Config) { c.Interrupts = nil },
		"no time":       func(c *Config) { c.Now = nil },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// apicRegisters is a local APIC that notes what happens to it.
type apicRegisters struct {
	ends int
	icr  uint64
	tpr  uint8
}

func (a *apicRegisters) EndOfInterrupt()   { a.ends++ }
func (a *apicRegisters) ICR() uint64       { return a.icr }
func (a *apicRegisters) WriteICR(v uint64) { a.icr = v }
func (a *apicRegisters) TPR() uint8        { return a.tpr }
func (a *apicRegisters) WriteTPR(v uint8)  { a.tpr = v }

func TestInterruptControlRegisters(t *testing.T) {
	apics := [2]apicRegisters{}
	g := newRig(t, 2, func(c *Config) { c.APIC = func(vp int) LocalAPIC { return &apics[vp] } })
	g.write(1, hv.MSR_EOI, 0)
	g.write(1, hv.MSR_ICR, 3<<56|0x4041)
	g.write(1, hv.MSR_TPR, 0x45)
	check(t, "registers", apics, [2]apicRegisters{1: {1, 3<<56 | 0x4041, 0x45}})
	check(t, "ICR", g.read(1, hv.MSR_ICR), 3<<56|0x4041)
	check(t, "TPR", g.read(1, hv.MSR_TPR), 0x45)
	check(t, "TPR of more than a byte", g.WriteMSR(1, hv.MSR_TPR, 0x100), false)
	_, ok := g.ReadMSR(1, hv.MSR_EOI)
	check(t, "EOI is read", ok, false)
	for _, with := range []bool{true, false} {
		h := g.Hypervisor
		if !with {
			h = newRig(t, 1).Hypervisor
		}
		check(t, "privilege", leaf(t, h, hv.CPUID_FEATURES).EAX&hv.ACCESS_INTR_CTRL_REGS != 0, with)
		check(t, "recommendation", leaf(t, h, hv.CPUID_ENLIGHTENMENT_INFO).EAX&hv.RECOMMEND_APIC_MSRS != 0, with)
	}
}

func TestAssistWord(t *testing.T) {
	g := newRig(t, 2)
	check(t, "without a page", g.AssistWord(1) == nil, true)
	g.write(1, hv.MSR_VP_ASSIST_PAGE, inputPage|1)
	word := g.AssistWord(1)
	if word == nil {
		t.Fatal("no word")
	}
	*word = 1
	var b [4]byte
	check(t, "reading memory", g.memory.ReadAt(inputPage, b[:]), nil)
	check(t, "its place", binary.LittleEndian.Uint32(b[:]), 1)
	check(t, "of another VP", g.AssistWord(0) == nil, true)
	g.write(1, hv.MSR_VP_ASSIST_PAGE, 1<<40|1)
	check(t, "beyond memory", g.AssistWord(1) == nil, true)
	g.write(1, hv.MSR_VP_ASSIST_PAGE, inputPage|1)
	g.Reset()
	check(t, "after a reset", g.AssistWord(1) == nil, true)
}

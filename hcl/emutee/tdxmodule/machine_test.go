package tdxmodule

import (
	"errors"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// partition stands for nested KVM, which these tests have not: it remembers what is
// denied, and its VP leaves as a test wants. The contract suite of hcl/tdx has the real
// one.
type partition struct {
	hcl.RawFaults // what no test calls
	denied        map[x86.GPA]bool
	reserved      int
	vp            runner
	closed        bool
}

func (p *partition) deny(gpa x86.GPA, length uint64, on bool) error {
	for end := gpa + x86.GPA(length); gpa < end; gpa += x86.PageSize {
		p.denied[gpa] = on
	}
	return nil
}

func (p *partition) Deny(gpa x86.GPA, n uint64) error          { return p.deny(gpa, n, true) }
func (p *partition) Allow(gpa x86.GPA, n uint64) error         { return p.deny(gpa, n, false) }
func (p *partition) Reserve(x86.GPA, uint64) error             { p.reserved++; return nil }
func (p *partition) MapMemory(x86.GPA, []byte) error           { return nil }
func (p *partition) NewVP(hcl.VPConfig) (hcl.VP, error)        { return &p.vp, nil }
func (p *partition) Close() error                              { p.closed = true; return nil }
func (p *partition) SupportedCPUID() ([]hcl.CPUIDEntry, error) { return nil, nil }
func (p *partition) TSCHz() uint64                             { return 1e9 }

type runner struct {
	hcl.VP
	entered []hcl.State
	leave   func(s *hcl.State) hcl.Exit
	resets  int
	msrs    map[uint32]uint64
}

func (r *runner) RunState(s *hcl.State) (hcl.Exit, error) {
	r.entered = append(r.entered, *s)
	s.Event, s.Whole = hcl.Event{}, false
	return r.leave(s), nil
}

func (r *runner) Reset() error { r.resets++; r.msrs = map[uint32]uint64{}; return nil }

func (r *runner) SetMSR(index uint32, v uint64) error { r.msrs[index] = v; return nil }

const machineOwn = x86.GPA(3 * m2)

// bench is a machine with 4 MiB of RAM at 0 and a VP that may run.
type bench struct {
	t       *testing.T
	m       *Machine
	raw     *partition
	page    []byte // the state
	apic    []byte
	context l2.Context
}

func newBench(t *testing.T, change func(c *MachineConfig)) *bench {
	t.Helper()
	c := MachineConfig{TD: config(), Own: machineOwn, OwnPages: 3}
	if change != nil {
		change(&c)
	}
	b := &bench{t: t, raw: &partition{denied: map[x86.GPA]bool{}}}
	var err error
	if b.m, err = NewMachine(b.raw, c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.m.Close(); err != nil || !b.raw.closed {
			t.Error(err)
		}
	})
	for _, page := range []*[]byte{&b.page, &b.apic} {
		if _, *page, err = b.m.NewPage(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(b.m.MapMemory(0, make([]byte, 4<<20)), b.m.NewVP(hcl.VPConfig{}), b.m.Reset(0)); err != nil {
		t.Fatal(err)
	}
	b.set(tdx.VMCS_VIRTUAL_APIC, uint64(machineOwn+k4), tdx.L2_VAPIC_WRITABLE)
	b.set(tdx.VMCS_GUEST_CR0, 0x11, 0x1f)
	b.set(tdx.VMCS_GUEST_EFER, 0, 0x501)
	b.state(func(s *l2.EnterState) { s.Registers = hcl.Registers{RIP: 0x1000, RFLAGS: 2} })
	return b
}

// call is TDCALL on the VP, or without it, which must succeed.
func (b *bench) call(r l2.Registers) l2.Registers {
	b.t.Helper()
	do := b.m.Call
	if r.RAX == tdx.TDG_VP_RD || r.RAX == tdx.TDG_VP_WR {
		do = func(r *l2.Registers) error { return b.m.CallVP(0, r) }
	}
	if err := do(&r); err != nil || r.RAX != tdx.STATUS_SUCCESS {
		b.t.Fatalf("%+v, %v", r, err)
	}
	return r
}

func (b *bench) set(code uint32, value, mask uint64) {
	b.t.Helper()
	b.call(l2.Registers{RAX: tdx.TDG_VP_WR, RDX: l2.VMCSField(GuestVM, code), R8: value, R9: mask})
}

func (b *bench) get(code uint32) uint64 {
	b.t.Helper()
	return b.call(l2.Registers{RAX: tdx.TDG_VP_RD, RDX: l2.VMCSField(GuestVM, code)}).R8
}

// state changes and returns the state with which the guest is entered.
func (b *bench) state(change func(s *l2.EnterState)) l2.EnterState {
	b.t.Helper()
	var s l2.EnterState
	if err := s.Decode(b.page); err != nil {
		b.t.Fatal(err)
	}
	if change != nil {
		change(&s)
	}
	if err := s.Encode(b.page); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// run enters the guest and returns its exit.
func (b *bench) run(flags uint64) l2.Exit {
	b.t.Helper()
	r := l2.Registers{RAX: tdx.TDG_VP_ENTER, RCX: GuestVM<<52 | flags, RDX: uint64(machineOwn)}
	if err := b.m.Run(0, &r, &b.context); err != nil {
		b.t.Fatal(err)
	}
	o := r.Outputs()
	return o.Exit()
}

// TestRunExits: what L1 sees after each exit of the partition.
func TestRunExits(t *testing.T) {
	const routed = tdx.STATUS_L2_EXIT_HOST_ROUTED_ASYNC
	for _, c := range []struct {
		what      string
		exit      hcl.Exit
		rip, next uint64 // as the partition leaves them
		want      l2.Exit
		wantRIP   uint64
	}{
		{"OUT", hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x10, Data: make([]byte, 1)}, 0x1000, 0x1002, l2.Exit{Reason: 30, Qualification: 0x10 << 16, Length: 2}, 0x1000},
		{"REP OUTS", hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x10, Data: make([]byte, 1)}, 0x1000, 0x1000, l2.Exit{Reason: 30, Qualification: 0x10 << 16, Length: 1}, 0xfff},
		{"REP INS", hcl.Exit{Kind: hcl.ExitPIO, Size: 1, Port: 0x10, Data: make([]byte, 4)}, 0x1000, 0x1000, l2.Exit{Reason: 30, Qualification: 0x10<<16 | 1<<5 | 1<<4 | 1<<3}, 0x1000},
		{"INS", hcl.Exit{Kind: hcl.ExitPIO, Size: 2, Port: 0x10, Data: make([]byte, 2)}, 0x1000, 0x1000, l2.Exit{Reason: 30, Qualification: 0x10<<16 | 1<<4 | 1<<3 | 1}, 0x1000},
		{"REP OUTS of many", hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Data: make([]byte, 4)}, 0x1000, 0x1000, EntryFailure(), 0x1000},
		{"RDMSR", hcl.Exit{Kind: hcl.ExitMSRRead}, 0x1000, 0x1002, l2.Exit{Reason: 31, Length: 2}, 0x1000},
		{"HLT", hcl.Exit{Kind: hcl.ExitHalt}, 0x1001, 0, l2.Exit{Reason: 12, Length: 1}, 0x1000},
		{"kick", hcl.Exit{Kind: hcl.ExitKick}, 0x1000, 0, l2.Exit{Status: tdx.STATUS_L2_EXIT_PENDING_INTERRUPT, Reason: 1}, 0x1000},
		{"triple fault", hcl.Exit{Kind: hcl.ExitShutdown}, 0x1000, 0, l2.Exit{Reason: 2}, 0x1000},
		{"not added", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0x5000}, 0x1000, 0, l2.Exit{Status: routed, Reason: 48, Qualification: 0x181, GPA: 0x5000}, 0x1000},
		{"code", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0x1000}, 0x1010, 0, l2.Exit{Status: routed, Reason: 48, Qualification: 0x184, GPA: 0x1000}, 0x1010},
		{"Keel's page", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: machineOwn + 0x2000}, 0x1000, 0, l2.Exit{Reason: 48, Qualification: 0x181, GPA: machineOwn + 0x2000}, 0x1000},
		{"device", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0xfee00000}, 0x1000, 0, l2.Exit{Status: routed, Reason: 48, Qualification: 0x181, GPA: 0xfee00000}, 0x1000},
		{"nothing there, read", hcl.Exit{Kind: hcl.ExitMMIO, GPA: 0xfee00010}, 0x1000, 0x1003, l2.Exit{Status: routed, Reason: 48, Qualification: 0x181, GPA: 0xfee00010}, 0x1000},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newBench(t, nil)
			b.raw.vp.leave = func(s *hcl.State) hcl.Exit { s.Registers.RIP, s.Next = c.rip, c.next; return c.exit }
			if x := b.run(0); x != c.want || b.state(nil).Registers.RIP != c.wantRIP {
				t.Errorf("%+v at %#x, want %+v at %#x", x, b.state(nil).Registers.RIP, c.want, c.wantRIP)
			}
			undone, lost := b.m.Undone()
			if b.raw.reserved != 0 || lost != 0 != (c.want == EntryFailure()) || undone != 0 != (c.what == "nothing there, read") {
				t.Errorf("reserved %d, undone %d, lost %d", b.raw.reserved, undone, lost)
			}
		})
	}
}

// TestRunRefuses: what TDG.VP.ENTER or VM entry refuses reaches no processor.
func TestRunRefuses(t *testing.T) {
	b := newBench(t, nil)
	b.set(tdx.VMCS_GUEST_CR0, 0x80000010, 0x8000001f) // PG without PE
	if x := b.run(0); x != EntryFailure() || len(b.raw.vp.entered) != 0 {
		t.Errorf("%+v, %d entries", x, len(b.raw.vp.entered))
	}
	r := l2.Registers{RAX: tdx.TDG_VP_ENTER, RCX: GuestVM << 52, RDX: uint64(machineOwn) + 8}
	if err := b.m.Run(0, &r, &b.context); err != nil || r.RAX != tdx.STATUS_OPERAND_INVALID|tdx.OPERAND_RDX {
		t.Errorf("a state that is not aligned: %#x, %v", r.RAX, err)
	}
	for what, r := range map[string]l2.Registers{
		"a state in no page":   {RAX: tdx.TDG_VP_ENTER, RCX: GuestVM << 52, RDX: 0x1000},
		"another VM":           {RAX: tdx.TDG_VP_ENTER, RCX: 2 << 52, RDX: uint64(machineOwn)},
		"another leaf":         {RAX: tdx.TDG_VP_INFO},
		"another leaf, of 257": {RAX: 1<<8 | tdx.TDG_VP_ENTER},
	} {
		b.m.processor(0).module.set(2, tdx.VMCS_VIRTUAL_APIC, uint64(machineOwn))
		if err := b.m.Run(0, &r, &b.context); err == nil {
			t.Errorf("%s: %+v", what, r)
		}
		if b.m.processor(0).module.Current() != tdx.VM_L1 {
			t.Fatalf("%s: the guest runs", what)
		}
	}
	r = l2.Registers{RAX: tdx.TDG_VP_ENTER}
	if b.m.Run(7, &r, &b.context) == nil || b.m.CallVP(0, &r) == nil || b.m.CallVP(7, &r) == nil || b.m.Reset(7) == nil || b.m.SetMSR(7, 0, 0) == nil {
		t.Error("a call on no VP, or that is none")
	}
	if len(b.raw.vp.entered) != 0 {
		t.Errorf("%d entries", len(b.raw.vp.entered))
	}
}

// TestLoad: what of the guest's state reaches the processor, and what comes back.
func TestLoad(t *testing.T) {
	b := newBench(t, nil)
	b.raw.vp.leave = func(*hcl.State) hcl.Exit { return hcl.Exit{} }
	entered := func() hcl.State { return b.raw.vp.entered[len(b.raw.vp.entered)-1] }
	b.context.LSTAR, b.context.CR2 = 0x1234, 0x777
	b.run(0)
	if s := entered(); !s.Whole || b.raw.vp.msrs[0xC0000082] != 0x1234 || s.Special.CR2 != 0x777 || s.Special.CR0 != 0x31 || s.Registers.RIP != 0x1000 {
		t.Errorf("%+v, %v", s, b.raw.vp.msrs)
	}
	b.state(func(s *l2.EnterState) { s.Registers.RFLAGS |= 1 << 9 })
	b.set(tdx.VMCS_ENTRY_INTERRUPTION, 1<<31|0x41, 0xffffffff)
	b.set(tdx.VMCS_PROCESSOR_CONTROLS, 1<<2, 1<<2)
	b.set(tdx.VMCS_GUEST_PAT, 6, ^uint64(0))
	b.apic[0x80] = 0x50
	b.run(0)
	if s := entered(); s.Whole || s.Event != (hcl.Event{Kind: hcl.EventInterrupt, Vector: 0x41}) || !s.Window || s.CR8 != 5 || b.raw.vp.msrs[0x277] != 6 {
		t.Errorf("%+v, %v", s, b.raw.vp.msrs)
	}
	b.set(tdx.VMCS_ENTRY_INTERRUPTION, 1<<31|1<<11|3<<8|14, 0xffffffff)
	b.set(tdx.VMCS_ENTRY_ERROR_CODE, 6, 0xffffffff)
	b.raw.vp.leave = func(s *hcl.State) hcl.Exit {
		s.Special.CR2, s.Special.CR3, s.Special.CR0 = 0x888, 0x5000, 0x60000011
		s.Shadow, s.NMIMasked, s.CR8 = true, true, 3
		s.Event = hcl.Event{Kind: hcl.EventException, Vector: 14, HasCode: true, Code: 6}
		s.Registers.RAX, s.Registers.RIP = 0x99, 0x2000
		return hcl.Exit{}
	}
	b.set(tdx.VMCS_CR0_MASK, 3<<29, ^uint64(0))
	x := b.run(tdx.INVALIDATE_INVVPID)
	if s := entered(); !s.Whole || s.Event != (hcl.Event{Kind: hcl.EventException, Vector: 14, HasCode: true, Code: 6}) {
		t.Errorf("%+v", s)
	}
	if x.IDTVectoring != 1<<31|1<<11|3<<8|14 || x.IDTError != 6 {
		t.Errorf("the exception was not delivered: %+v", x)
	}
	s := b.state(nil)
	if s.Registers.RAX != 0x99 || s.Registers.RIP != 0x2000 || b.context.CR2 != 0x888 || b.apic[0x80] != 0x30 {
		t.Errorf("%+v, CR2 %#x, TPR %#x", s, b.context.CR2, b.apic[0x80])
	}
	if b.get(tdx.VMCS_GUEST_CR3) != 0x5000 || b.get(tdx.VMCS_INTERRUPTIBILITY) != 1|1<<3 || b.get(tdx.VMCS_CR0_SHADOW)&(3<<29) != 3<<29 {
		t.Errorf("CR3 %#x, interruptibility %#x, CR0 shadow %#x", b.get(tdx.VMCS_GUEST_CR3), b.get(tdx.VMCS_INTERRUPTIBILITY), b.get(tdx.VMCS_CR0_SHADOW))
	}
	if err := b.m.Reset(0); err != nil || b.raw.vp.resets != 2 {
		t.Error(err, b.raw.vp.resets)
	}
	b.raw.vp.leave = func(*hcl.State) hcl.Exit { return hcl.Exit{} }
	b.run(0)
	if s := entered(); !s.Whole || b.raw.vp.msrs[0xC0000082] != 0x1234 {
		t.Errorf("after a reset %+v, %v", s, b.raw.vp.msrs)
	}
}

// TestQuietExits: what the partition leaves for, and L1 has not asked for.
func TestQuietExits(t *testing.T) {
	// An MSR that L1 lets the guest have, and that the processor lacks, is #GP.
	b := newBench(t, nil)
	b.call(l2.Registers{RAX: tdx.TDG_VP_WR, RDX: l2.MSRBitmapField(GuestVM, 0), R9: ^uint64(0)})
	exits := []hcl.Exit{{Kind: hcl.ExitMSRRead, MSR: 0x10}, {Kind: hcl.ExitTPR}, {Kind: hcl.ExitKick}}
	b.raw.vp.leave = func(s *hcl.State) hcl.Exit {
		s.Registers.RCX, s.Next = 0x10, s.Registers.RIP+2
		e := exits[0]
		exits = exits[1:]
		return e
	}
	b.apic[0x80] = 0x40
	b.set(tdx.VMCS_TPR_THRESHOLD, 4, 0xf)
	if x := b.run(0); x.Status != tdx.STATUS_L2_EXIT_PENDING_INTERRUPT || len(b.raw.vp.entered) != 3 {
		t.Fatalf("%+v, %d entries", x, len(b.raw.vp.entered))
	}
	if e := b.raw.vp.entered[1].Event; e != (hcl.Event{Kind: hcl.EventException, Vector: 13, HasCode: true}) {
		t.Errorf("%+v", e)
	}
	// An NMI window is open at once, or when a shadow has ended.
	b.set(tdx.VMCS_PROCESSOR_CONTROLS, 1<<22, 1<<22)
	b.raw.vp.entered = nil
	if x := b.run(0); x.Reason != tdx.EXIT_NMI_WINDOW || len(b.raw.vp.entered) != 0 {
		t.Errorf("%+v, %d entries", x, len(b.raw.vp.entered))
	}
	b.set(tdx.VMCS_INTERRUPTIBILITY, tdx.INTERRUPTIBILITY_MOV_SS, 3)
	b.raw.vp.leave = func(s *hcl.State) hcl.Exit { s.Shadow = false; return hcl.Exit{Kind: hcl.ExitInterruptWindow} }
	if x := b.run(0); x.Reason != tdx.EXIT_NMI_WINDOW || len(b.raw.vp.entered) != 1 || !b.raw.vp.entered[0].Window {
		t.Errorf("%+v, %d entries", x, len(b.raw.vp.entered))
	}
	b.raw.vp.leave = func(*hcl.State) hcl.Exit { return hcl.Exit{Kind: hcl.ExitTPR} }
	b.set(tdx.VMCS_INTERRUPTIBILITY, tdx.INTERRUPTIBILITY_NMI, 0xf)
	r := l2.Registers{RAX: tdx.TDG_VP_ENTER, RCX: GuestVM << 52, RDX: uint64(machineOwn)}
	if err := b.m.Run(0, &r, &b.context); !errors.Is(err, ErrVP) {
		t.Errorf("a partition that comes back for ever: %v", err)
	}
}

// TestDenials: the partition denies exactly what the TD does not let the guest's VM do.
func TestDenials(t *testing.T) {
	b := newBench(t, nil)
	agree := func(when string) {
		t.Helper()
		for gpa := x86.GPA(0); gpa < memory; gpa += x86.PageSize {
			r, _ := b.m.TD().Reach(gpa, GuestVM)
			if _, placed := b.raw.denied[gpa]; placed && b.raw.denied[gpa] == (r == ReachAll) {
				t.Fatalf("%s: %#x has reach %d, denied %v", when, gpa, r, b.raw.denied[gpa])
			}
		}
	}
	attributes := func(gpa x86.GPA, level, a uint64) {
		t.Helper()
		b.call(l2.Registers{RAX: tdx.TDG_MEM_PAGE_ATTR_WR, RCX: uint64(gpa) | level, RDX: (a | 0x8000) << 16, R8: 0xf << 16})
	}
	agree("at first")
	b.call(l2.Registers{RAX: tdx.TDG_MEM_PAGE_ACCEPT, RCX: tdx.LEVEL_2M}) // the host adds it
	agree("accepted")
	attributes(0, tdx.LEVEL_2M, 0xf)
	if b.raw.denied[0x3000] {
		t.Fatal("nothing is allowed")
	}
	agree("with attributes")
	attributes(0x3000, tdx.LEVEL_4K, 1) // the host splits the page
	agree("a page that may be read")
	if err := b.m.Swap(0x5000); err != nil {
		t.Fatal(err)
	}
	agree("swapped")
	if err := errors.Join(b.m.MapGPA(m2, m2, true), b.m.MapGPA(0, m2, false)); err != nil {
		t.Fatal(err)
	}
	agree("given to the host")
	if !b.raw.denied[0x7000] {
		t.Error("what the host has is not denied")
	}
	for what, err := range map[string]error{
		"Keel's page to the host":  b.m.MapGPA(machineOwn, k4, false),
		"half a page":              b.m.MapGPA(8, k4, true),
		"more than there is":       b.m.MapGPA(0, 3*m2, true),
		"memory over Keel's pages": b.m.MapMemory(machineOwn, make([]byte, k4)),
		"memory twice":             b.m.MapMemory(k4, make([]byte, k4)),
		"memory that the TD lacks": b.m.MapMemory(memory, make([]byte, k4)),
	} {
		if !errors.Is(err, ErrMachine) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := l2.Registers{RAX: tdx.TDG_MEM_PAGE_ACCEPT, RCX: 0xfee00000}
	if err := b.m.Call(&r); !errors.Is(err, ErrFault) {
		t.Errorf("accepting what is no memory: %v", err)
	}
	if _, _, err := b.m.NewPage(); err != nil {
		t.Error(err)
	}
	if _, _, err := b.m.NewPage(); !errors.Is(err, ErrMachine) {
		t.Errorf("a page more than there are: %v", err)
	}
}

// TestClear: hardware zeroes a page that is accepted; a machine does if it is told to.
func TestClear(t *testing.T) {
	for _, on := range []bool{false, true} {
		b := newBench(t, func(c *MachineConfig) { c.Clear = on })
		b.m.ram[0].bytes[0x1234] = 7
		b.call(l2.Registers{RAX: tdx.TDG_MEM_PAGE_ACCEPT, RCX: 0x1000})
		if got := b.m.ram[0].bytes[0x1234]; (got == 0) != on {
			t.Errorf("clear %v: %d", on, got)
		}
	}
}

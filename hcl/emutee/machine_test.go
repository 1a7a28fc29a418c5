package emutee

import (
	"errors"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/snp/vmsa"
)

// partition stands for nested KVM, which these tests have not: it remembers what is
// denied, and its VP leaves as a test wants. The contract suite of hcl/snp has the real
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

const machineOwn = x86.GPA(3 * x86.LargePageSize)

// newMachine makes a machine with 4 MiB of RAM at 0 and a VP that may run.
func newMachine(t *testing.T) (*Machine, *partition, []byte) {
	t.Helper()
	raw := &partition{denied: map[x86.GPA]bool{}}
	m, err := NewMachine(raw, MachineConfig{Memory: memory, Own: machineOwn, OwnPages: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil || !raw.closed {
			t.Error(err)
		}
	})
	gpa, page, err := m.NewPage()
	if err != nil {
		t.Fatal(err)
	}
	a := vmsa.SaveArea{VMPL: GuestVMPL, Features: Features, PAT: patReset, PCPUID: 1, Registers: hcl.Registers{RIP: 0x1000, RFLAGS: 2}}
	if err := errors.Join(m.MapMemory(0, make([]byte, 4<<20)), a.Encode(page)); err != nil {
		t.Fatal(err)
	}
	if code, err := m.RMPAdjust(gpa, snp.RMP_PG_SIZE_4K, 2, 0, true); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	if err := m.NewVP(hcl.VPConfig{}, gpa); err != nil {
		t.Fatal(err)
	}
	return m, raw, page
}

// TestRunExits: what the VMSA says after each exit of the partition.
func TestRunExits(t *testing.T) {
	mmio := vmsa.MMIOFault(false)
	for _, c := range []struct {
		what      string
		exit      hcl.Exit
		rip, next uint64 // as the partition leaves them
		want      vmsa.ExitInfo
		wantRIP   uint64
	}{
		{"OUT", hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x10, Data: make([]byte, 1)}, 0x1000, 0x1002, vmsa.ExitInfo{Code: 0x7b, Info1: 0x10<<16 | 3<<10 | 1<<7 | 1<<4, Info2: 0x1002, NRIP: 0x1002}, 0x1000},
		{"REP OUTS", hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Port: 0x10, Data: make([]byte, 1)}, 0x1000, 0x1000, vmsa.ExitInfo{Code: 0x7b, Info1: 0x10<<16 | 3<<10 | 1<<7 | 1<<4, Info2: 0x1000, NRIP: 0x1000}, 0x1000},
		{"REP INS", hcl.Exit{Kind: hcl.ExitPIO, Size: 1, Port: 0x10, Data: make([]byte, 4)}, 0x1000, 0x1000, vmsa.ExitInfo{Code: 0x7b, Info1: 0x10<<16 | 3<<10 | 1<<7 | 1<<4 | 1<<3 | 1<<2 | 1}, 0x1000},
		{"INS", hcl.Exit{Kind: hcl.ExitPIO, Size: 2, Port: 0x10, Data: make([]byte, 2)}, 0x1000, 0x1000, vmsa.ExitInfo{Code: 0x7b, Info1: 0x10<<16 | 3<<10 | 1<<7 | 1<<5 | 1<<2 | 1}, 0x1000},
		{"REP OUTS of many", hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 1, Data: make([]byte, 4)}, 0x1000, 0x1000, vmsa.ExitInfo{Code: snp.EXIT_INVALID, NRIP: 0x1000}, 0x1000},
		{"RDMSR", hcl.Exit{Kind: hcl.ExitMSRRead}, 0x1000, 0x1002, vmsa.ExitInfo{Code: 0x7c, NRIP: 0x1002}, 0x1000},
		{"HLT", hcl.Exit{Kind: hcl.ExitHalt}, 0x1001, 0, vmsa.ExitInfo{Code: 0x78, NRIP: 0x1001}, 0x1000},
		{"window", hcl.Exit{Kind: hcl.ExitInterruptWindow}, 0x1000, 0, vmsa.ExitInfo{Code: 0x64}, 0x1000},
		{"not assigned", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0x5000}, 0x1000, 0, vmsa.ExitInfo{Code: 0x400, Info1: npf(0).Code, Info2: 0x5000}, 0x1000},
		{"code", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0x1000}, 0x1010, 0, vmsa.ExitInfo{Code: 0x400, Info1: npf(snp.NPF_ID).Code, Info2: 0x1000}, 0x1010},
		{"Keel's page", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: machineOwn + 0x1000}, 0x1000, 0, vmsa.ExitInfo{Code: 0x400, Info1: npf(snp.NPF_VMPL).Code, Info2: uint64(machineOwn) + 0x1000}, 0x1000},
		{"device", hcl.Exit{Kind: hcl.ExitMemoryFault, GPA: 0xfee00000}, 0x1000, 0, vmsa.ExitInfo{Code: 0x400, Info1: mmio, Info2: 0xfee00000}, 0x1000},
		{"nothing there, read", hcl.Exit{Kind: hcl.ExitMMIO, GPA: 0xfee00010}, 0x1000, 0x1003, vmsa.ExitInfo{Code: 0x400, Info1: mmio, Info2: 0xfee00010}, 0x1000},
	} {
		t.Run(c.what, func(t *testing.T) {
			m, raw, page := newMachine(t)
			raw.vp.leave = func(s *hcl.State) hcl.Exit { s.Registers.RIP, s.Next = c.rip, c.next; return c.exit }
			if err := m.Run(0); err != nil {
				t.Fatal(err)
			}
			var a vmsa.SaveArea
			if err := a.Decode(page); err != nil || a.Exit != c.want || a.Registers.RIP != c.wantRIP {
				t.Errorf("%+v (%#x) at %#x, want %+v (%#x) at %#x", a.Exit, a.Exit.Info1, a.Registers.RIP, c.want, c.want.Info1, c.wantRIP)
			}
			undone, lost := m.Undone()
			if raw.reserved != 0 || lost != 0 != (c.want.Code == snp.EXIT_INVALID) || undone != 0 != (c.what == "nothing there, read") {
				t.Errorf("reserved %d, undone %d, lost %d", raw.reserved, undone, lost)
			}
		})
	}
}

// TestStringOutput: an element of a string is in RAX for as long as Keel looks at it.
func TestStringOutput(t *testing.T) {
	m, raw, page := newMachine(t)
	const rax = 0x1122334455667788
	var entered uint64
	raw.vp.leave = func(s *hcl.State) hcl.Exit {
		entered = s.Registers.RAX
		s.Registers.RAX, s.Registers.RIP, s.Next = rax, 0x1000, 0x1000
		return hcl.Exit{Kind: hcl.ExitPIO, Write: true, Size: 2, Data: []byte{0xcd, 0xab}}
	}
	for n, want := range []uint64{0, rax} {
		if err := m.Run(0); err != nil {
			t.Fatal(err)
		}
		var a vmsa.SaveArea
		if err := a.Decode(page); err != nil || a.Registers.RAX != rax&^0xffff|0xabcd {
			t.Errorf("run %d: Keel sees RAX %#x (%v)", n, a.Registers.RAX, err)
		}
		if entered != want {
			t.Errorf("run %d: the guest is entered with RAX %#x, want %#x", n, entered, want)
		}
	}
}

// TestDroppedWrite: the guest goes on behind a write that nobody would have seen.
func TestDroppedWrite(t *testing.T) {
	m, raw, page := newMachine(t)
	exits := []hcl.Exit{{Kind: hcl.ExitMMIO, Write: true, GPA: 0xd0000000}, {Kind: hcl.ExitKick}}
	raw.vp.leave = func(s *hcl.State) hcl.Exit {
		e := exits[0]
		exits, s.Registers.RIP, s.Next = exits[1:], 0x1003, 0x1003
		return e
	}
	var a vmsa.SaveArea
	if err := m.Run(0); err != nil || a.Decode(page) != nil || a.Exit.Code != snp.EXIT_INTR || m.Dropped() != 1 || raw.reserved != 0 {
		t.Errorf("%v, exit %+v, %d dropped, %d reserved", err, a.Exit, m.Dropped(), raw.reserved)
	}
}

// TestRunRefuses: what VMRUN refuses reaches no processor, and leaves the VMSA as it is
// but for the exit (§15.5.1, §15.36.12, §15.36.16).
func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(page []byte)
		want   uint64
	}{
		{"EFER.SVME clear", func(p []byte) { p[snp.VMSA_EFER+1] &^= 0x10 }, snp.EXIT_INVALID},
		{"another VMPL", func(p []byte) { p[snp.VMSA_VMPL] = 0 }, snp.EXIT_INVALID},
		{"a feature that the host does not allow", func(p []byte) { p[snp.VMSA_SEV_FEATURES+1] |= 2 }, snp.EXIT_INVALID},
		{"busy", func(p []byte) { p[snp.VMSA_VINTR_CTRL+7] |= 0x80 }, snp.EXIT_BUSY},
	} {
		t.Run(c.what, func(t *testing.T) {
			m, raw, page := newMachine(t)
			c.change(page)
			for range 2 {
				if err := m.Run(0); err != nil {
					t.Fatal(err)
				}
				var a vmsa.SaveArea
				if err := a.Decode(page); err != nil || a.Exit.Code != c.want || len(raw.vp.entered) != 0 {
					t.Errorf("exit %#x, %d entries, %v", a.Exit.Code, len(raw.vp.entered), err)
				}
			}
		})
	}
	m, _, _ := newMachine(t)
	if code, err := m.RMPAdjust(machineOwn, snp.RMP_PG_SIZE_4K, 2, 0, false); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	if err := m.Run(0); !errors.Is(err, ErrVP) {
		t.Errorf("run from a page that is no VMSA: %v", err)
	}
	if err := m.Run(7); !errors.Is(err, ErrVP) {
		t.Errorf("run of no VP: %v", err)
	}
}

// TestLoad: what of a VMSA reaches the processor, and when all of it does.
func TestLoad(t *testing.T) {
	m, raw, page := newMachine(t)
	raw.vp.leave = func(*hcl.State) hcl.Exit { return hcl.Exit{} }
	var a vmsa.SaveArea
	step := func(change func()) hcl.State {
		t.Helper()
		if err := a.Decode(page); err != nil {
			t.Fatal(err)
		}
		change()
		if err := errors.Join(a.Encode(page), m.Run(0)); err != nil {
			t.Fatal(err)
		}
		return raw.vp.entered[len(raw.vp.entered)-1]
	}
	if s := step(func() { a.LSTAR = 0x1234 }); !s.Whole || raw.vp.resets != 1 || raw.vp.msrs[0xC0000082] != 0x1234 {
		t.Errorf("%+v, %d resets, %v", s, raw.vp.resets, raw.vp.msrs)
	}
	if s := step(func() { a.EventInj, a.VINTR = 1<<31|0x41, a.VINTR|1<<8|1<<11|5 }); s.Whole || s.Event != (hcl.Event{Kind: hcl.EventInterrupt, Vector: 0x41}) || !s.Window || !s.NMIPending || s.CR8 != 5 {
		t.Errorf("%+v", s)
	}
	if s := step(func() { a.EventInj = 1<<31 | 1<<11 | 3<<8 | 14 | 6<<32 }); s.Event != (hcl.Event{Kind: hcl.EventException, Vector: 14, HasCode: true, Code: 6}) {
		t.Errorf("%+v", s)
	}
	if s := step(func() { a.PCPUID = 0 }); !s.Whole || raw.vp.resets != 1 {
		t.Errorf("PCPU_ID 0: %+v", s)
	}
	if code, err := m.RMPAdjust(machineOwn, snp.RMP_PG_SIZE_4K, 2, 0, true); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	if s := step(func() {}); !s.Whole || raw.vp.resets != 2 || raw.vp.msrs[0xC0000082] != 0x1234 {
		t.Errorf("made anew: %+v, %d resets, %v", s, raw.vp.resets, raw.vp.msrs)
	}
}

// TestDenials: the partition denies exactly what the RMP does not let the guest's VMPL do.
func TestDenials(t *testing.T) {
	m, raw, _ := newMachine(t)
	agree := func(when string) {
		t.Helper()
		for gpa := x86.GPA(0); gpa < memory; gpa += x86.PageSize {
			r, _ := m.RMP().Reach(gpa, GuestVMPL)
			if _, placed := raw.denied[gpa]; placed && raw.denied[gpa] == (r == ReachAll) {
				t.Fatalf("%s: %#x has reach %d, denied %v", when, gpa, r, raw.denied[gpa])
			}
		}
	}
	agree("at first")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(m.PageState(0, snp.RMP_PG_SIZE_2M, true))
	code, _, err := m.PValidate(0, snp.RMP_PG_SIZE_2M, true)
	do(err)
	c2, err := m.RMPAdjust(0, snp.RMP_PG_SIZE_2M, 2, snp.RMP_RWX, false)
	do(err)
	if code != 0 || c2 != 0 || raw.denied[0x3000] {
		t.Fatalf("codes %d, %d, denied %v", code, c2, raw.denied[0x3000])
	}
	agree("accepted")
	_, err = m.RMPAdjust(0x3000, snp.RMP_PG_SIZE_4K, 2, snp.RMP_R, false) // the host splits the entry
	do(err)
	agree("a page that may be read")
	do(m.Swap(0x5000))
	agree("swapped")
	do(m.PageState(0, snp.RMP_PG_SIZE_2M, false))
	agree("given to the host")
	if !raw.denied[0x7000] {
		t.Error("what the host has is not denied")
	}
	if _, _, err := m.PValidate(0x7000, snp.RMP_PG_SIZE_4K, true); !errors.Is(err, ErrFault) {
		t.Errorf("PVALIDATE of the host's page: %v", err)
	}
	if err := m.PageState(machineOwn, snp.RMP_PG_SIZE_4K, false); !errors.Is(err, ErrMachine) {
		t.Errorf("Keel's page to the host: %v", err)
	}
	if err := m.MapMemory(machineOwn, make([]byte, x86.PageSize)); !errors.Is(err, ErrMachine) {
		t.Errorf("memory over Keel's pages: %v", err)
	}
}

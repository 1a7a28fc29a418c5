package tdx

import (
	"errors"
	"sync"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/emutee/tdxmodule"
	"keel/hcl/tdx/l2"
)

// fake is hardware with the emulated module, whose guest is not there: its exits a test
// writes.
type fake struct {
	tb testing.TB
	td *tdxmodule.TD
	vp *tdxmodule.VP

	mu       sync.Mutex
	pages    map[x86.GPA][]byte
	accepted map[x86.GPA]int // how often, by page

	small  bool   // the host adds pages of 4 KiB
	status uint64 // of TDG.MEM.PAGE.ACCEPT
	attr   uint64 // of TDG.MEM.PAGE.ATTR.WR
	busy   int    // so many calls find the module busy
	err    error  // of all calls on memory

	guest  entered
	script []step // one for each run; the last for ever
	runs   int
	resets int
	kicked chan struct{}
	msrs   map[uint32]uint64
}

// step is a run of the guest, from what it is entered with to its exit.
type step func(g *entered) l2.Exit

// entered is the guest as the module has it, between entry and exit.
type entered struct {
	*tdxmodule.VP
	l2.EnterState
	context *l2.Context
	rcx     uint64 // of TDG.VP.ENTER
}

func (g *entered) get(code uint32) uint64 { return g.Read(0, l2.VMCSField(VM, code)).Value }

// set writes a field as the processor does: what the module owns stays.
func (g *entered) set(code uint32, value, mask uint64) {
	g.Write(0, l2.VMCSField(VM, code), value, mask)
}

// inject is the event that the guest takes, as VMX packs it, with the error code above.
func (g *entered) inject() uint64 {
	e, ok := g.Event(VM)
	if !ok {
		return 0
	}
	return e.Info() | uint64(e.Error)<<32
}

const (
	ownAt      = x86.GPA(6 << 20)
	fakeMemory = 8 << 20
	fakeXFAM   = tdx.XFAM_X87 | tdx.XFAM_SSE | tdx.XFAM_AVX | tdx.XFAM_PK
)

func newFake(tb testing.TB, change func(c *tdxmodule.Config)) *fake {
	tb.Helper()
	c := tdxmodule.Config{Memory: fakeMemory, VMs: 1, VPs: 2, XFAM: fakeXFAM}
	if change != nil {
		change(&c)
	}
	td, err := tdxmodule.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return &fake{
		tb: tb, td: td, pages: map[x86.GPA][]byte{}, accepted: map[x86.GPA]int{},
		kicked: make(chan struct{}, 16), msrs: map[uint32]uint64{},
	}
}

// Call plays the host as well, which adds and splits what a call asks for.
func (f *fake) Call(r *l2.Registers) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy > 0 {
		f.busy--
		r.RAX = tdx.STATUS_OPERAND_BUSY | tdx.OPERAND_SEPT_TREE
		return nil
	}
	leaf, gpa, level := r.RAX, x86.GPA(r.RCX&tdx.GPA_PAGE_MASK), r.RCX&tdx.PAGE_LEVEL_MASK
	length := x86.GPA(x86.PageSize) << (9 * level)
	for {
		switch {
		case f.err != nil && leaf != tdx.TDG_VM_RD:
			return f.err
		case leaf == tdx.TDG_MEM_PAGE_ACCEPT && f.status != 0:
			r.RAX = f.status
			return nil
		case leaf == tdx.TDG_MEM_PAGE_ATTR_WR && f.attr != 0:
			r.RAX = f.attr
			return nil
		case leaf == tdx.TDG_MEM_PAGE_ATTR_WR && r.RDX&r.R8&^(uint64(0xffff)<<16) != 0:
			f.tb.Errorf("attributes of another VM: %#x, mask %#x", r.RDX, r.R8)
		}
		in := *r
		called, err := f.td.Call(r, nil)
		if err != nil {
			return err
		}
		if called.Outcome != tdxmodule.OutcomeFault {
			break
		}
		*r = in
		if page := f.td.Page(gpa); uint64(page.Level) > level && page.State == tdx.SEPT_MAPPED {
			at := uint64(gpa)&^(x86.LargePageSize-1) | tdx.LEVEL_2M
			f.td.RangeBlock(at)
			f.td.PageDemote(at)
		} else if status := f.td.Give(gpa, uint64(length)); status != tdx.STATUS_SUCCESS {
			return errors.New("no page")
		}
	}
	if leaf == tdx.TDG_MEM_PAGE_ACCEPT && r.RAX == tdx.STATUS_SUCCESS {
		for end := gpa + length; gpa < end; gpa += x86.PageSize {
			if f.accepted[gpa]++; f.accepted[gpa] > 1 {
				f.tb.Errorf("%#x was accepted twice", gpa)
			}
		}
	}
	return nil
}

func (f *fake) MapGPA(gpa x86.GPA, length uint64, private bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !private {
		f.tb.Error("a page was given to the host")
	}
	if f.small {
		f.td.Give(gpa, x86.PageSize)
	}
	f.td.Give(gpa, length)
	return f.err
}

func (f *fake) MapMemory(x86.GPA, []byte) error { return nil }
func (f *fake) Reserve(x86.GPA, uint64) error   { return nil }
func (f *fake) NewPage() (x86.GPA, []byte, error) {
	gpa := ownAt + x86.GPA(len(f.pages))*x86.PageSize
	f.td.Give(gpa, x86.PageSize)
	if r, err := f.td.Accept(uint64(gpa), nil); err != nil || !r.OK() {
		f.tb.Fatal(r, err)
	}
	f.pages[gpa] = make([]byte, x86.PageSize)
	return gpa, f.pages[gpa], nil
}

func (f *fake) NewVP(hcl.VPConfig) error {
	var err error
	f.vp, err = f.td.NewVP()
	return err
}

func (f *fake) CallVP(_ int, r *l2.Registers) error {
	called, err := f.vp.Call(r, nil, false)
	if called.Outcome != tdxmodule.OutcomeReturn {
		f.tb.Errorf("leaf %d: %+v", r.RAX, called)
	}
	return err
}

// Run is an entry: the module judges the state, and then comes the exit that the test
// wants.
func (f *fake) Run(_ int, r *l2.Registers, c *l2.Context) error {
	if len(f.script) == 0 {
		return errors.New("end of the script")
	}
	g := &f.guest
	*g = entered{VP: f.vp, context: c, rcx: r.RCX}
	called, err := f.vp.Call(r, nil, false)
	if err != nil || called.Outcome != tdxmodule.OutcomeEnter {
		f.tb.Errorf("not entered: %+v, %v, status %#x", called, err, r.RAX)
		return err
	}
	if f.vp.Current() != VM {
		f.tb.Errorf("VM %d runs", f.vp.Current())
	}
	page := f.pages[f.vp.StateGPA()&^(x86.PageSize-1)]
	if err := g.Decode(page); err != nil {
		return err
	}
	f.runs++
	f.vp.Load(VM, &g.EnterState)
	x := tdxmodule.EntryFailure()
	if f.vp.Violation(VM) == tdxmodule.ViolationNone {
		next := f.script[0]
		if len(f.script) > 1 {
			f.script = f.script[1:]
		}
		x = next(g)
		f.vp.Load(VM, &g.EnterState)
	}
	o := f.vp.Leave(&x)
	r.Returned(&o)
	return g.Encode(page)
}

func (f *fake) Reset(int) error { f.resets++; return nil }

func (f *fake) Kick(int) {
	select {
	case f.kicked <- struct{}{}:
	default:
	}
}
func (f *fake) TSC(int) uint64 { return 0x1122334455667788 }
func (f *fake) TSCHz() uint64  { return 1e9 }
func (f *fake) SetMSR(_ int, index uint32, v uint64) error {
	f.msrs[index] = v
	return nil
}
func (f *fake) SupportedCPUID() ([]hcl.CPUIDEntry, error) { return nil, nil }
func (f *fake) Close() error                              { return nil }

// newVP makes a VP of a partition with 4 MiB of RAM at 0.
func newVP(tb testing.TB, table ...hcl.CPUIDEntry) (*fake, *Partition, *VP) {
	tb.Helper()
	return newVPOf(tb, newFake(tb, nil), table...)
}

func newVPOf(tb testing.TB, f *fake, table ...hcl.CPUIDEntry) (*fake, *Partition, *VP) {
	tb.Helper()
	p, err := Open(f)
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.MapMemory(0, make([]byte, 4<<20)); err != nil {
		tb.Fatal(err)
	}
	vp, err := p.NewVP(hcl.VPConfig{CPUID: table})
	if err != nil {
		tb.Fatal(err)
	}
	return f, p, vp.(*VP)
}

// leave is an exit at an instruction of two bytes.
func leave(reason uint32, qualification uint64) step {
	return func(*entered) l2.Exit { return l2.Exit{Reason: reason, Qualification: qualification, Length: 2} }
}

// kick is an exit for an interrupt of L1's own.
func kick(*entered) l2.Exit {
	return l2.Exit{Status: tdx.STATUS_L2_EXIT_PENDING_INTERRUPT, Reason: tdx.EXIT_EXTERNAL_INTERRUPT}
}

// special changes the control and segment registers as Keel does.
func special(tb testing.TB, vp *VP, change func(s *hcl.SpecialRegisters)) {
	tb.Helper()
	s, err := vp.SpecialRegisters()
	if err != nil {
		tb.Fatal(err)
	}
	change(&s)
	if err := vp.SetSpecialRegisters(&s); err != nil {
		tb.Fatal(err)
	}
}

// long puts the VP into 64-bit mode.
func long(s *hcl.SpecialRegisters) {
	s.CR0, s.CR4, s.EFER = 0x80050033, 1<<5, 0xd01
	s.CS = hcl.Segment{Limit: 0xffffffff, Attributes: 0xa09b}
	s.SS = hcl.Segment{Limit: 0xffffffff, Attributes: 0xc093}
}

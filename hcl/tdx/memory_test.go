package tdx

import (
	"errors"
	"sync"
	"testing"
	"time"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/private"
	"keel/hcl/tdx/l2"
)

// violation is an access that the module sends to L1, and pending one to a page that
// waits.
func violation(gpa x86.GPA, qualification uint64) step {
	return func(*entered) l2.Exit {
		return l2.Exit{Reason: tdx.EXIT_EPT_VIOLATION, GPA: gpa, Qualification: qualification}
	}
}

// touch makes the VP fault at an address and then leave.
func touch(t *testing.T, f *fake, vp *VP, gpa x86.GPA) (hcl.Exit, error) {
	t.Helper()
	f.script = []step{violation(gpa, tdx.EPT_READ), kick}
	return vp.Run()
}

// TestAccept: what the guest touches becomes its own, 2 MiB at a time.
func TestAccept(t *testing.T) {
	const badOperand = tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX
	for _, c := range []struct {
		what         string
		prepare      func(f *fake, p *Partition)
		gpa          x86.GPA
		large, small uint64
		err          error
	}{
		{"2 MiB", nil, 0x212345, 1, 0, nil},
		{"the host adds 4 KiB", func(f *fake, _ *Partition) { f.small = true }, 0x212345, 0, 512, nil},
		{"the module is busy", func(f *fake, _ *Partition) { f.busy = 5 }, 0x212345, 1, 0, nil},
		{"accepted already", func(f *fake, _ *Partition) { f.status = tdx.STATUS_PAGE_ALREADY_ACCEPTED | 1 }, 0x1000, 0, 0, ErrHost},
		{"accepted already, in 4 KiB", func(f *fake, _ *Partition) {
			f.td.Give(0x1000, x86.PageSize)
			f.td.Accept(0x1000, nil)
		}, 0x1000, 0, 1, ErrHost},
		{"refused", func(f *fake, _ *Partition) { f.status = badOperand }, 0x1000, 0, 0, ErrMemory},
		{"the host gives nothing", func(f *fake, _ *Partition) { f.err = errors.New("no page") }, 0x1000, 0, 0, ErrHost},
		{"attributes cannot be set", func(f *fake, _ *Partition) { f.attr = badOperand }, 0x1000, 0, 0, ErrMemory},
	} {
		t.Run(c.what, func(t *testing.T) {
			f, p, vp := newVP(t)
			if c.prepare != nil {
				c.prepare(f, p)
			}
			e, err := touch(t, f, vp, c.gpa)
			if !errors.Is(err, c.err) || err == nil && e.Kind != hcl.ExitKick {
				t.Fatalf("%+v, %v, want %v", e, err, c.err)
			}
			if s := p.Stats(); s.AcceptedLarge != c.large || s.AcceptedSmall != c.small {
				t.Errorf("counted %+v", s)
			}
			if err != nil { // not even when the host is good again
				f.status, f.attr, f.err = 0, 0, nil
				was := len(f.accepted)
				if _, again := touch(t, f, vp, c.gpa); !errors.Is(c.err, ErrHost) && again == nil || len(f.accepted) < was {
					t.Errorf("tried again: %v", again)
				}
				return
			}
			for page, end := c.gpa&^(x86.LargePageSize-1), c.gpa|(x86.LargePageSize-1); page < end; page += x86.PageSize {
				if s, _ := p.ram.State(page); s != private.Accepted || f.td.Page(page).Attributes[VM] != tdx.GPA_ATTR_RWX {
					t.Fatalf("%#x is %+v", page, f.td.Page(page))
				}
			}
		})
	}
}

// TestHostTakesPage: a page that was accepted and faults has been taken away, unless its
// state changed while the guest ran.
func TestHostTakesPage(t *testing.T) {
	f, p, vp := newVP(t)
	if err := p.Accept(0, x86.PageSize); err != nil {
		t.Fatal(err)
	}
	for _, x := range []l2.Exit{
		{Reason: tdx.EXIT_EPT_VIOLATION, GPA: 0x1000, Extended: tdx.EEQ_PENDING_EPT_VIOLATION},
		{Reason: tdx.EXIT_EPT_VIOLATION, GPA: 0x1000, Status: tdx.STATUS_L2_EXIT_HOST_ROUTED_ASYNC},
	} {
		f.script = []step{func(*entered) l2.Exit { return x }}
		if e, err := vp.Run(); !errors.Is(err, ErrHost) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	f.script = []step{
		func(g *entered) l2.Exit {
			if err := p.Accept(0x200000, x86.PageSize); err != nil { // as another VP does
				t.Error(err)
			}
			return violation(0x1000, tdx.EPT_READ)(g)
		},
		kick,
	}
	if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick || p.Stats().Stale != 1 {
		t.Errorf("%+v, %v, %+v", e, err, p.Stats())
	}
}

// TestDeny: attributes of the guest's VM, and faults that are the caller's.
func TestDeny(t *testing.T) {
	f, p, vp := newVP(t)
	attributes := func(gpa x86.GPA) uint16 { return f.td.Page(gpa).Attributes[VM] }
	if err := p.Deny(0x5000, 2*x86.PageSize); err != nil {
		t.Fatal(err)
	}
	if attributes(0x4000) != tdx.GPA_ATTR_RWX || attributes(0x5000) != 0 || attributes(0x6000) != 0 || attributes(0x7000) != tdx.GPA_ATTR_RWX {
		t.Errorf("attributes %#x, %#x, %#x, %#x", attributes(0x4000), attributes(0x5000), attributes(0x6000), attributes(0x7000))
	}
	flags := uint64(0)
	f.script = []step{
		func(g *entered) l2.Exit { flags = g.rcx & 3; return violation(0x5010, tdx.EPT_WRITE|tdx.EPT_FINAL)(g) },
		kick,
	}
	e, err := vp.Run()
	if err != nil || e.Kind != hcl.ExitMemoryFault || e.GPA != 0x5010 || !e.Write || e.Value != 0x102 {
		t.Errorf("%+v, %v", e, err)
	}
	if flags != tdx.INVALIDATE_INVEPT {
		t.Errorf("flags %d: translations from before Deny are left", flags)
	}
	if err := errors.Join(p.Accept(0x5000, x86.PageSize), p.Allow(0x6000, x86.PageSize)); err != nil {
		t.Fatal(err)
	}
	if attributes(0x5000) != 0 || attributes(0x6000) != tdx.GPA_ATTR_RWX {
		t.Errorf("attributes %#x and %#x", attributes(0x5000), attributes(0x6000))
	}
	for what, err := range map[string]error{
		"no RAM":      p.Deny(0x400000, x86.PageSize),
		"half a page": p.Deny(0x5001, x86.PageSize),
		"nothing":     p.Allow(0x5000, 0),
		"overlap":     p.MapMemory(0x3ff000, make([]byte, 0x2000)),
		"shared":      p.MapMemory(p.shared, make([]byte, 0x1000)),
	} {
		if !errors.Is(err, ErrMemory) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDenyWaits: a VP that runs has left the guest before Deny returns.
func TestDenyWaits(t *testing.T) {
	f, p, vp := newVP(t)
	inside := make(chan struct{})
	left := false
	f.script = []step{func(g *entered) l2.Exit {
		close(inside)
		<-f.kicked
		time.Sleep(time.Millisecond)
		left = true
		return kick(g)
	}}
	var wg sync.WaitGroup
	wg.Go(func() {
		<-inside
		if err := p.Deny(0x5000, x86.PageSize); err != nil || !left {
			t.Errorf("%v, the guest has been left: %v", err, left)
		}
	})
	if _, err := vp.Run(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// TestDevice: faults where there is no RAM are the caller's, whatever the host says.
func TestDevice(t *testing.T) {
	f, _, vp := newVP(t)
	for _, gpa := range []x86.GPA{0x400000, 0xfee00000, ownAt, 1<<64 - 1} {
		e, err := touch(t, f, vp, gpa)
		if err != nil || e.Kind != hcl.ExitMemoryFault || e.GPA != gpa {
			t.Errorf("%#x: %+v, %v", gpa, e, err)
		}
	}
}

// TestConcurrent: memory is denied, allowed and accepted, and VPs are kicked, at a time.
// Each page is accepted once, which the fake hardware watches.
func TestConcurrent(t *testing.T) {
	_, p, vp := newVP(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 20 {
				for gpa := x86.GPA(0); gpa < 4<<20; gpa += 64 << 10 {
					if err := errors.Join(p.Deny(gpa, x86.PageSize), p.Allow(gpa, x86.PageSize), p.Accept(gpa, 2*x86.PageSize)); err != nil {
						t.Error(err)
						return
					}
				}
				vp.Kick()
				p.Stats()
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.AcceptedLarge != 2 {
		t.Errorf("%+v", s)
	}
}

// FuzzExit lets the module return anything: Run goes on or stops in order, enters with no
// event that an entry refuses, and touches no page but RAM.
func FuzzExit(f *testing.F) {
	f.Add(uint64(tdx.EXIT_IO_INSTRUCTION), uint64(0x3f8<<16), uint64(0), uint64(0), uint32(2), []byte{})
	f.Add(uint64(tdx.EXIT_EPT_VIOLATION), uint64(tdx.EPT_WRITE), uint64(0x1000), uint64(1<<31|0x41), uint32(2), []byte{1})
	f.Add(uint64(tdx.EXIT_MSR_WRITE), uint64(1), uint64(0), uint64(0), uint32(2), []byte{0x80, 0, 0, 0xc0})
	f.Add(uint64(tdx.EXIT_CR_ACCESS), uint64(0), uint64(0), uint64(1<<31|1<<11|3<<8|14), uint32(3), []byte{0x55})
	f.Add(uint64(tdx.EXIT_CPUID), uint64(0), uint64(0), uint64(0), uint32(2), []byte{0xd})
	f.Add(uint64(tdx.STATUS_OPERAND_INVALID), uint64(0), uint64(0), uint64(0), uint32(2), []byte{0xd})
	f.Fuzz(func(t *testing.T, status, qualification, gpa, vectoring uint64, length uint32, b []byte) {
		hw, p, vp := newVP(t, table...)
		special(t, vp, func(s *hcl.SpecialRegisters) { s.CR0 = protected })
		hw.script = []step{
			func(g *entered) l2.Exit {
				page := make([]byte, tdx.L2_STATE_SIZE)
				copy(page, b)
				if err := g.Decode(page); err != nil {
					t.Fatal(err)
				}
				return l2.Exit{
					Status: status & tdx.STATUS_MASK, Reason: uint32(status), Qualification: qualification, GPA: x86.GPA(gpa),
					IDTVectoring: uint32(vectoring), IDTError: uint32(vectoring >> 32), Length: length,
				}
			},
			kick,
		}
		e, err := vp.Run()
		if err == nil && e.Kind >= hcl.ExitKinds || len(e.Data) > 4 {
			t.Errorf("%+v", e)
		}
		vp.CompleteMSR(qualification, gpa&1 != 0)
		vp.CanInject()
		if _, err := vp.Run(); err != nil && !errors.Is(err, ErrHost) && !errors.Is(err, ErrMemory) && !errors.Is(err, ErrRun) {
			t.Error(err)
		}
		if s := p.Stats(); s.AcceptedLarge > 1 || s.AcceptedSmall != 0 {
			t.Errorf("%+v", s)
		}
	})
}

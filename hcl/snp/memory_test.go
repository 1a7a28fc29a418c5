package snp

import (
	"errors"
	"sync"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/private"
	"keel/hcl/snp/vmsa"
)

// touch makes the VP fault at an address and then leave.
func touch(t *testing.T, f *fake, vp *VP, gpa x86.GPA) (hcl.Exit, error) {
	t.Helper()
	f.script = []func(a *vmsa.SaveArea){
		func(a *vmsa.SaveArea) {
			a.Exit = vmsa.ExitInfo{Code: snp.EXIT_PAGE_NOT_VALIDATED, Info2: uint64(gpa)}
		},
		leave(snp.EXIT_INTR, 0, 0),
	}
	return vp.Run()
}

// TestAccept: what the guest touches becomes its own, 2 MiB at a time.
func TestAccept(t *testing.T) {
	for _, c := range []struct {
		what         string
		prepare      func(f *fake, p *Partition)
		gpa          x86.GPA
		large, small uint64
		err          error
	}{
		{"2 MiB", nil, 0x212345, 1, 0, nil},
		{"RMP in 4 KiB", func(f *fake, _ *Partition) { f.small = true }, 0x212345, 0, 512, nil},
		{"validated already", func(f *fake, _ *Partition) { f.unchanged = true }, 0x1000, 0, 0, ErrHost},
		{"validated already, in 4 KiB", func(f *fake, _ *Partition) { f.small, f.unchanged = true, true }, 0x1000, 0, 0, ErrHost},
		{"refused", func(f *fake, _ *Partition) { f.code = snp.RMP_FAIL_INPUT }, 0x1000, 0, 0, ErrMemory},
		{"the host gives nothing", func(f *fake, _ *Partition) { f.err = errors.New("no page") }, 0x1000, 0, 0, ErrHost},
		{"permissions cannot be set", func(f *fake, _ *Partition) { f.smallRMP = true }, 0x1000, 0, 0, ErrMemory},
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
				f.unchanged, f.code, f.err, f.smallRMP = false, 0, nil, false
				was := len(f.validated)
				if _, again := touch(t, f, vp, c.gpa); !errors.Is(c.err, ErrHost) && again == nil || len(f.validated) < was {
					t.Errorf("tried again: %v", again)
				}
				return
			}
			for page, end := c.gpa&^(x86.LargePageSize-1), c.gpa|(x86.LargePageSize-1); page < end; page += x86.PageSize {
				if s, _ := p.ram.State(page); s != private.Accepted {
					t.Fatalf("%#x is not accepted", page)
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
	for _, code := range []uint64{snp.EXIT_PAGE_NOT_VALIDATED, snp.EXIT_NPF} {
		f.script = []func(a *vmsa.SaveArea){func(a *vmsa.SaveArea) { a.Exit = vmsa.ExitInfo{Code: code, Info2: 0x1000} }}
		if e, err := vp.Run(); !errors.Is(err, ErrHost) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	f.script = []func(a *vmsa.SaveArea){
		func(a *vmsa.SaveArea) {
			if err := p.Accept(0x200000, x86.PageSize); err != nil { // as another VP does
				t.Error(err)
			}
			a.Exit = vmsa.ExitInfo{Code: snp.EXIT_PAGE_NOT_VALIDATED, Info2: 0x1000}
		},
		leave(snp.EXIT_INTR, 0, 0),
	}
	if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick || p.Stats().Stale != 1 {
		t.Errorf("%+v, %v, %+v", e, err, p.Stats())
	}
}

// TestDeny: permissions of the guest's VMPL, and faults that are the caller's.
func TestDeny(t *testing.T) {
	f, p, vp := newVP(t)
	npf := func() (hcl.Exit, error) {
		f.script = []func(a *vmsa.SaveArea){
			func(a *vmsa.SaveArea) {
				a.Exit = vmsa.ExitInfo{Code: snp.EXIT_NPF, Info1: snp.NPF_W | snp.NPF_VMPL | snp.NPF_RMP, Info2: 0x5010}
			},
			leave(snp.EXIT_INTR, 0, 0),
		}
		return vp.Run()
	}
	if err := p.Deny(0x5000, 2*x86.PageSize); err != nil {
		t.Fatal(err)
	}
	if f.allowed[0x4000] != snp.RMP_RWX || f.allowed[0x5000] != 0 || f.allowed[0x6000] != 0 || f.allowed[0x7000] != snp.RMP_RWX {
		t.Errorf("permissions %v", f.allowed)
	}
	e, err := npf()
	if err != nil || e.Kind != hcl.ExitMemoryFault || e.GPA != 0x5010 || !e.Write || e.Value != 0x1080000002 {
		t.Errorf("%+v, %v", e, err)
	}
	if err := errors.Join(p.Accept(0x5000, x86.PageSize), p.Allow(0x6000, x86.PageSize)); err != nil {
		t.Fatal(err)
	}
	if f.allowed[0x5000] != 0 || f.allowed[0x6000] != snp.RMP_RWX {
		t.Errorf("permissions %#x and %#x", f.allowed[0x5000], f.allowed[0x6000])
	}
	for what, err := range map[string]error{
		"no RAM":      p.Deny(0x400000, x86.PageSize),
		"half a page": p.Deny(0x5001, x86.PageSize),
		"nothing":     p.Allow(0x5000, 0),
		"overlap":     p.MapMemory(0x3ff000, make([]byte, 0x2000)),
		"too high":    p.MapMemory(virtualTOM, make([]byte, 0x1000)),
	} {
		if !errors.Is(err, ErrMemory) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDevice: faults where there is no RAM are the caller's, whatever the host says.
func TestDevice(t *testing.T) {
	f, _, vp := newVP(t)
	for _, gpa := range []x86.GPA{0x400000, 0xfee00000, 0x70000000, 1<<64 - 1} {
		e, err := touch(t, f, vp, gpa)
		if err != nil || e.Kind != hcl.ExitMemoryFault || e.GPA != gpa {
			t.Errorf("%#x: %+v, %v", gpa, e, err)
		}
	}
}

// TestConcurrent: VPs fault, memory is denied and allowed, and VPs are kicked, at a time.
// Each page is validated once, which the fake hardware watches.
func TestConcurrent(t *testing.T) {
	_, p, vp := newVP(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 50 {
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

// FuzzExit lets hardware leave with anything in the VMSA: Run goes on or stops in order,
// keeps what makes a VMSA a guest's, and touches no page but RAM.
func FuzzExit(f *testing.F) {
	f.Add(uint64(snp.EXIT_IOIO), uint64(0x3f8<<16|1<<4), uint64(0), uint64(0), uint64(2), []byte{})
	f.Add(uint64(snp.EXIT_NPF), uint64(snp.NPF_W), uint64(0x1000), uint64(1<<31|0x41), uint64(2), []byte{1})
	f.Add(uint64(snp.EXIT_MSR), uint64(1), uint64(0), uint64(0), uint64(2), []byte{0xff, 0xff})
	f.Add(uint64(snp.EXIT_EFER_WRITE_TRAP), uint64(0), uint64(0), uint64(0), uint64(0), []byte{0x55})
	f.Add(uint64(snp.EXIT_CPUID), uint64(0), uint64(0), uint64(0), uint64(2), []byte{0xd})
	f.Fuzz(func(t *testing.T, code, info1, info2, intInfo, next uint64, b []byte) {
		hw, p, vp := newVP(t, hcl.CPUIDEntry{Leaf: 0xd, Indexed: true, EAX: 7}, hcl.CPUIDEntry{Leaf: 1, ECX: 1 << 26})
		hw.script = []func(a *vmsa.SaveArea){
			func(a *vmsa.SaveArea) {
				page := make([]byte, snp.VMSA_SIZE)
				copy(page, b)
				features, tom, vmpl := a.Features, a.VirtualTOM, a.VMPL
				if err := a.Decode(page); err != nil {
					t.Fatal(err)
				}
				// Hardware keeps these, and SVME.
				a.Features, a.VirtualTOM, a.VMPL = features, tom, vmpl
				a.Exit = vmsa.ExitInfo{Code: code, Info1: info1, Info2: info2, IntInfo: intInfo, NRIP: next}
			},
			leave(snp.EXIT_INTR, 0, 0),
		}
		e, err := vp.Run()
		if err == nil && e.Kind >= hcl.ExitKinds || len(e.Data) > 4 {
			t.Errorf("%+v", e)
		}
		vp.CompleteMSR(info1, info2&1 != 0)
		vp.CanInject()
		if _, err := vp.Run(); err != nil && !errors.Is(err, ErrHost) && !errors.Is(err, ErrMemory) {
			t.Error(err)
		}
		if inject := vp.area.EventInj; inject&snp.EVENT_RESERVED_MASK != 0 {
			t.Errorf("EVENTINJ %#x", inject)
		}
		if s := p.Stats(); s.AcceptedLarge > 1 || s.AcceptedSmall != 0 {
			t.Errorf("%+v", s)
		}
	})
}

package snp

import (
	"errors"
	"sync"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/snp/vmsa"
)

// fake is hardware whose exits a test writes.
type fake struct {
	tb testing.TB

	mu        sync.Mutex
	pages     map[x86.GPA][]byte
	validated map[x86.GPA]int // how often, by page
	allowed   map[x86.GPA]uint8

	small     bool // PVALIDATE of 2 MiB finds pages of 4 KiB
	smallRMP  bool // RMPADJUST does
	unchanged bool
	code      uint32 // of PVALIDATE
	err       error  // of all instructions on pages

	area   vmsa.SaveArea
	script []func(a *vmsa.SaveArea) // one for each run; the last for ever
	runs   int
	vmsa   x86.GPA
	isVMSA bool
	kicked chan struct{}
	msrs   map[uint32]uint64
}

func newFake(tb testing.TB) *fake {
	tb.Helper()
	return &fake{
		tb: tb, pages: map[x86.GPA][]byte{}, validated: map[x86.GPA]int{}, allowed: map[x86.GPA]uint8{},
		kicked: make(chan struct{}, 16), msrs: map[uint32]uint64{},
	}
}

func span(gpa x86.GPA, size uint8) (first, end x86.GPA) {
	if size == snp.RMP_PG_SIZE_2M {
		return gpa, gpa + x86.LargePageSize
	}
	return gpa, gpa + x86.PageSize
}

func (f *fake) PValidate(gpa x86.GPA, size uint8, _ bool) (uint32, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
		return 0, false, f.err
	case f.small && size == snp.RMP_PG_SIZE_2M:
		return snp.RMP_FAIL_SIZEMISMATCH, false, nil
	case f.code != 0:
		return f.code, false, nil
	}
	for at, end := span(gpa, size); at < end; at += x86.PageSize {
		if f.validated[at]++; f.validated[at] > 1 {
			f.tb.Errorf("%#x was validated twice", at)
		}
	}
	return snp.RMP_SUCCESS, f.unchanged, nil
}

func (f *fake) RMPAdjust(gpa x86.GPA, size, vmpl, permissions uint8, isVMSA bool) (uint32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if vmpl != snp.VMPL2 {
		f.tb.Errorf("permissions of VMPL%d changed", vmpl)
	}
	if f.pages[gpa] != nil {
		if permissions != 0 {
			f.tb.Errorf("the guest got %#x of Keel's page", permissions)
		}
		f.isVMSA = isVMSA
		return snp.RMP_SUCCESS, nil
	}
	if f.smallRMP && size == snp.RMP_PG_SIZE_2M {
		return snp.RMP_FAIL_SIZEMISMATCH, nil
	}
	for at, end := span(gpa, size); at < end; at += x86.PageSize {
		f.allowed[at] = permissions
	}
	return snp.RMP_SUCCESS, nil
}

func (f *fake) PageState(_ x86.GPA, _ uint8, private bool) error {
	if !private {
		f.tb.Error("a page was given to the host")
	}
	return f.err
}

func (f *fake) MapMemory(x86.GPA, []byte) error { return nil }
func (f *fake) Reserve(x86.GPA, uint64) error   { return nil }
func (f *fake) NewPage() (x86.GPA, []byte, error) {
	gpa := 0x70000000 + x86.GPA(len(f.pages))*x86.PageSize
	f.pages[gpa] = make([]byte, x86.PageSize)
	return gpa, f.pages[gpa], nil
}

func (f *fake) NewVP(_ hcl.VPConfig, at x86.GPA) error {
	if !f.isVMSA {
		return errors.New("no VMSA")
	}
	f.vmsa = at
	return nil
}

// Run is an entry: what the page must be, and then the exit that the test wants.
func (f *fake) Run(int) error {
	page := f.pages[f.vmsa]
	if err := f.area.Decode(page); err != nil {
		return err
	}
	a := &f.area
	switch {
	case !f.isVMSA || a.VINTR&snp.VINTR_BUSY != 0:
		f.tb.Errorf("entered a page that is busy, or no VMSA")
	case !a.SVME || a.VMPL != VMPL || a.Features != features || a.VirtualTOM != virtualTOM:
		f.tb.Errorf("entered with VMPL %d, SVME %v, features %#x", a.VMPL, a.SVME, a.Features)
	}
	if len(f.script) == 0 {
		return errors.New("end of the script")
	}
	f.runs++
	step := f.script[0]
	if len(f.script) > 1 {
		f.script = f.script[1:]
	}
	if step != nil {
		step(a)
	}
	return a.Encode(page)
}

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

// ram is never touched: only where it lies counts.
var ram = make([]byte, 4<<20)

// newVP makes a VP of a partition with 4 MiB of RAM at 0.
func newVP(tb testing.TB, table ...hcl.CPUIDEntry) (*fake, *Partition, *VP) {
	tb.Helper()
	f := newFake(tb)
	p, err := Open(f)
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.MapMemory(0, ram); err != nil {
		tb.Fatal(err)
	}
	vp, err := p.NewVP(hcl.VPConfig{CPUID: table})
	if err != nil {
		tb.Fatal(err)
	}
	return f, p, vp.(*VP)
}

// leave is an exit as hardware stores it: at an instruction of two bytes.
func leave(code, info1, info2 uint64) func(a *vmsa.SaveArea) {
	return func(a *vmsa.SaveArea) {
		a.EventInj = 0
		a.Exit = vmsa.ExitInfo{Code: code, Info1: info1, Info2: info2, NRIP: a.Registers.RIP + 2}
	}
}

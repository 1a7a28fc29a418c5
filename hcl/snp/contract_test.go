package snp_test

import (
	"errors"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/snp"
	"keel/hcl/abi/x86"
	"keel/hcl/emutee"
	"keel/hcl/hcltest"
	"keel/hcl/kvm"
	backend "keel/hcl/snp"
)

func TestMain(m *testing.M) { hcltest.Main(m) }

// The emulated machine's memory: RAM of the suite from 0, Keel's own pages behind it.
const (
	memorySize = 8 << 20
	ownAt      = x86.GPA(4 << 20)
	ownPages   = 8
)

func openMachine() (*emutee.Machine, *backend.Partition, error) {
	raw, err := kvm.OpenRaw()
	if err != nil {
		return nil, nil, err
	}
	m, err := emutee.NewMachine(raw, emutee.MachineConfig{Memory: memorySize, Own: ownAt, OwnPages: ownPages})
	if err != nil {
		return nil, nil, errors.Join(err, raw.Close())
	}
	p, err := backend.Open(m)
	return m, p, err
}

func open() (hcl.RawFaults, error) {
	_, p, err := openMachine()
	if err != nil {
		return nil, err
	}
	return p, nil
}

// TestContract: the suite of every backend.
func TestContract(t *testing.T) {
	hcltest.RunFaulting(t, open)
	hcltest.RunRaw(t, open)
}

// skipWithout skips where there is no nested KVM.
func skipWithout(tb testing.TB) {
	tb.Helper()
	p, err := open()
	if errors.Is(err, hcl.ErrNotSupported) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.Close(); err != nil {
		tb.Fatal(err)
	}
}

// onMachine runs a check on a guest whose machine the test holds.
func onMachine(t *testing.T, check func(m *emutee.Machine, p *backend.Partition, g *hcltest.Guest)) {
	t.Helper()
	var m *emutee.Machine
	var p *backend.Partition
	skipWithout(t)
	hcltest.OnGuest(t, func() (hcl.RawFaults, error) {
		var err error
		if m, p, err = openMachine(); err != nil {
			return nil, err
		}
		return p, nil
	}, func(g *hcltest.Guest) { check(m, p, g) })
}

// scene is a guest on its machine.
type scene struct {
	t *testing.T
	m *emutee.Machine
	p *backend.Partition
	g *hcltest.Guest
}

// TestMachine is what the emulated machine and the backend make of a guest, and of a
// host, that try what they must not.
func TestMachine(t *testing.T) {
	for _, c := range []struct {
		name  string
		check func(s *scene)
	}{
		{"first exit", func(s *scene) {
			s.g.Program(0, 0xb0, 0x41, 0xe6, 0x10, 0xf4) // mov al,41h; out 10h,al; hlt
			if e := s.g.Want(hcl.ExitPIO); e.Port != 0x10 || e.Data[0] != 0x41 {
				s.t.Errorf("%+v", e)
			}
			s.g.Want(hcl.ExitHalt)
			if page, _ := s.m.RMP().Page(hcltest.CodeAt); !page.Validated || page.Permissions[backend.VMPL] != snp.RMP_RWX {
				s.t.Errorf("the code lies in %+v", page)
			}
			if got := s.p.Stats(); got.AcceptedLarge != 1 || got.AcceptedSmall != 0 {
				s.t.Errorf("accepted %+v, want 2 MiB at once", got)
			}
		}},
		{"the guest writes to a page of Keel's", func(s *scene) {
			// mov word [0],0ffffh; mov ax,[0]; hlt
			code := []byte{0xc7, 0x06, 0x00, 0x00, 0xff, 0xff, 0xa1, 0x00, 0x00, 0xf4}
			for _, c := range []struct {
				what string
				gpa  x86.GPA
				want uint64
			}{
				{"a page of its own", ownAt + x86.PageSize, snp.NPF_RMP | snp.NPF_VMPL},
				{"the VMSA that the guest runs from", ownAt, snp.NPF_RMP}, // it is in use: no VMPL may touch it
			} {
				s.g.Program(c.gpa, code...)
				e := s.g.Want(hcl.ExitMemoryFault)
				if e.GPA != c.gpa || e.Value&(snp.NPF_RMP|snp.NPF_VMPL) != c.want || e.RIP != uint64(hcltest.CodeAt) {
					s.t.Errorf("%s: %+v (%#x), want %#x in EXITINFO1", c.what, e, e.Value, c.want)
				}
				if page, _ := s.m.RMP().Page(c.gpa); page.Permissions[backend.VMPL] != 0 || page.VMSA != (c.gpa == ownAt) {
					s.t.Errorf("%s is %+v", c.what, page)
				}
			}
		}},
		{"refused VMSA", func(s *scene) {
			s.g.Program(0, 0xf4)
			r, err := s.g.VP().SpecialRegisters()
			if err != nil {
				s.t.Fatal(err)
			}
			good := r
			r.CR0 |= 1 << 29 // NW
			r.CR0 &^= 1 << 30
			if err := s.g.VP().SetSpecialRegisters(&r); err != nil {
				s.t.Fatal(err)
			}
			const invalid = uint64(snp.EXIT_INVALID)
			if e := s.g.Want(hcl.ExitEmulationFailed); e.Value != invalid || e.RIP != uint64(hcltest.CodeAt) {
				s.t.Errorf("%+v, want EXIT_INVALID", e)
			}
			if err := s.g.VP().SetSpecialRegisters(&good); err != nil {
				s.t.Fatal(err)
			}
			s.g.Want(hcl.ExitHalt)
		}},
		{"page swapped by the host", func(s *scene) {
			s.g.Program(0x100000, 0xa1, 0x00, 0x00, 0xe7, 0x10, 0xa1, 0x00, 0x00, 0xf4) // mov ax,[0]; out 10h,ax; mov ax,[0]; hlt
			s.g.Want(hcl.ExitPIO)
			if err := s.m.Swap(0x100000); err != nil {
				s.t.Fatal(err)
			}
			for range 2 { // and it stays so
				if e, err := run(s.g.VP()); !errors.Is(err, backend.ErrHost) {
					s.t.Errorf("%+v, %v, want the loss to be noticed", e, err)
				}
			}
			if r, err := s.g.VP().Registers(); err != nil || r.RIP != uint64(hcltest.CodeAt)+5 {
				s.t.Errorf("RIP %#x, %v", r.RIP, err)
			}
		}},
		{"double validation", func(s *scene) {
			// The host shows the guest a page that it has had validated elsewhere.
			s.m.RMP().RMPUpdate(0, snp.RMP_PG_SIZE_2M, emutee.OwnerGuest)
			s.m.RMP().PValidate(snp.VMPL0, 0, snp.RMP_PG_SIZE_2M, true)
			s.g.Program(0, 0xf4)
			if e, err := run(s.g.VP()); !errors.Is(err, backend.ErrHost) {
				s.t.Errorf("%+v, %v, want a refusal", e, err)
			}
			if got := s.p.Stats(); got.AcceptedLarge+got.AcceptedSmall != 0 {
				s.t.Errorf("accepted %+v", got)
			}
		}},
		{"PVALIDATE size mismatch", func(s *scene) {
			s.m.RMP().RMPUpdate(0x3000, snp.RMP_PG_SIZE_4K, emutee.OwnerGuest) // one small entry: no large one
			s.g.Program(0x3000, 0xa3, 0x00, 0x00, 0xe6, 0x10, 0xf4)            // mov [0],ax; out 10h,al; hlt
			s.g.Want(hcl.ExitPIO)
			if got := s.p.Stats(); got.AcceptedLarge != 0 || got.AcceptedSmall != 512 {
				s.t.Errorf("accepted %+v, want 512 pages of 4 KiB", got)
			}
		}},
		{"unreserved device", func(s *scene) {
			s.g.Program(0xd0000000, 0xa1, 0x10, 0x00, 0xf4)
			for range 2 {
				if e := s.g.Want(hcl.ExitMemoryFault); e.GPA&^0xfff != 0xd0000000 || e.RIP != uint64(hcltest.CodeAt) || e.Value&snp.NPF_RSV == 0 {
					s.t.Errorf("%+v", e)
				}
			}
			if undone, lost := s.m.Undone(); undone != 2 || lost != 0 {
				s.t.Errorf("undone %d, lost %d", undone, lost)
			}
		}},
		{"denied page in a large entry", func(s *scene) {
			if err := errors.Join(s.p.Accept(0, 2<<20), s.p.Deny(0x5000, x86.PageSize)); err != nil {
				s.t.Fatal(err)
			}
			s.g.Program(0x5000, 0xa1, 0x10, 0x00, 0xf4)
			if e := s.g.Want(hcl.ExitMemoryFault); e.GPA != 0x5000 || e.Value&snp.NPF_VMPL == 0 {
				s.t.Errorf("%+v (%#x)", e, e.Value)
			}
			if page, _ := s.m.RMP().Page(0x6000); page.Large || page.Permissions[backend.VMPL] != snp.RMP_RWX {
				s.t.Errorf("its neighbour is %+v", page)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onMachine(t, func(m *emutee.Machine, p *backend.Partition, g *hcltest.Guest) { c.check(&scene{t, m, p, g}) })
		})
	}
}

func run(vp hcl.VP) (hcl.Exit, error) {
	for {
		if e, err := vp.Run(); err != nil || e.Kind != hcl.ExitKick {
			return e, err
		}
	}
}

// BenchmarkExit is an exit and the entry after it, beside that of hcl/kvm.
func BenchmarkExit(b *testing.B) {
	skipWithout(b)
	hcltest.Benchmark(b, func() (hcl.Partition, error) { return open() })
}

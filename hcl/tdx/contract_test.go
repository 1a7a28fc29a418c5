package tdx_test

import (
	"errors"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/emutee/tdxmodule"
	"keel/hcl/hcltest"
	"keel/hcl/kvm"
	backend "keel/hcl/tdx"
)

func TestMain(m *testing.M) { hcltest.Main(m) }

// The emulated machine's memory: RAM of the suite from 0, Keel's own pages behind it.
const (
	memorySize = 8 << 20
	ownAt      = x86.GPA(4 << 20)
	ownPages   = 8
)

// machineConfig is the TD. Accepting a page does not zero it: the suite writes its programs
// before that.
var machineConfig = tdxmodule.MachineConfig{
	TD: tdxmodule.Config{
		Memory: memorySize, VMs: 1, VPs: 4, TSCUnits: 40,
		XFAM: tdx.XFAM_X87 | tdx.XFAM_SSE | tdx.XFAM_AVX | tdx.XFAM_PK,
	},
	Own: ownAt, OwnPages: ownPages,
}

func openMachine() (*tdxmodule.Machine, *backend.Partition, error) {
	raw, err := kvm.OpenRaw()
	if err != nil {
		return nil, nil, err
	}
	m, err := tdxmodule.NewMachine(raw, machineConfig)
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
func onMachine(t *testing.T, check func(m *tdxmodule.Machine, p *backend.Partition, g *hcltest.Guest)) {
	t.Helper()
	var m *tdxmodule.Machine
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
	m *tdxmodule.Machine
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
			if page := s.m.TD().Page(hcltest.CodeAt); page.State != tdx.SEPT_MAPPED || page.Level != tdx.LEVEL_2M || page.Attributes[backend.VM] != tdx.GPA_ATTR_RWX {
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
			}{
				{"the state that it is entered with", ownAt},
				{"its virtual APIC page", ownAt + x86.PageSize},
				{"a page that nothing uses", ownAt + 7*x86.PageSize},
			} {
				s.g.Program(c.gpa, code...)
				const attributes = tdx.EPT_READABLE | tdx.EPT_WRITABLE | tdx.EPT_EXECUTABLE
				e := s.g.Want(hcl.ExitMemoryFault)
				if e.GPA != c.gpa || e.Value&attributes != 0 || e.RIP != uint64(hcltest.CodeAt) {
					s.t.Errorf("%s: %+v (%#x), want a page of which nothing is allowed", c.what, e, e.Value)
				}
				if page := s.m.TD().Page(c.gpa); page.State != tdx.SEPT_MAPPED || page.Attributes[backend.VM] != 0 {
					s.t.Errorf("%s is %+v", c.what, page)
				}
			}
		}},
		{"refused state", func(s *scene) {
			s.g.Program(0, 0xf4)
			r, err := s.g.VP().SpecialRegisters()
			if err != nil {
				s.t.Fatal(err)
			}
			good := r
			r.CR0 |= 1 << 31 // PG without PE
			if err := s.g.VP().SetSpecialRegisters(&r); err != nil {
				s.t.Fatal(err)
			}
			const invalid = tdx.EXIT_INVALID_GUEST_STATE | tdx.EXIT_ENTRY_FAILED
			if e := s.g.Want(hcl.ExitEmulationFailed); e.Value != invalid || e.RIP != uint64(hcltest.CodeAt) {
				s.t.Errorf("%+v, want a failed entry", e)
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
		{"page accepted already", func(s *scene) {
			s.m.TD().Give(0, x86.LargePageSize)
			if r, err := s.m.TD().Accept(tdx.LEVEL_2M, nil); err != nil || !r.OK() {
				s.t.Fatal(r, err)
			}
			s.g.Program(0, 0xf4)
			if e, err := run(s.g.VP()); !errors.Is(err, backend.ErrHost) {
				s.t.Errorf("%+v, %v, want a refusal", e, err)
			}
			if got := s.p.Stats(); got.AcceptedLarge+got.AcceptedSmall != 0 {
				s.t.Errorf("accepted %+v", got)
			}
		}},
		{"size mismatch", func(s *scene) {
			s.m.TD().Give(0x3000, x86.PageSize)                     // one small page: no large one
			s.g.Program(0x3000, 0xa3, 0x00, 0x00, 0xe6, 0x10, 0xf4) // mov [0],ax; out 10h,al; hlt
			s.g.Want(hcl.ExitPIO)
			if got := s.p.Stats(); got.AcceptedLarge != 0 || got.AcceptedSmall != 512 {
				s.t.Errorf("accepted %+v, want 512 pages of 4 KiB", got)
			}
		}},
		{"unreserved device", func(s *scene) {
			s.g.Program(0xd0000000, 0xa1, 0x10, 0x00, 0xf4)
			for range 2 {
				if e := s.g.Want(hcl.ExitMemoryFault); e.GPA&^0xfff != 0xd0000000 || e.RIP != uint64(hcltest.CodeAt) {
					s.t.Errorf("%+v", e)
				}
			}
			if undone, lost := s.m.Undone(); undone != 2 || lost != 0 {
				s.t.Errorf("undone %d, lost %d", undone, lost)
			}
		}},
		{"denied page in a large one", func(s *scene) {
			if err := errors.Join(s.p.Accept(0, 2<<20), s.p.Deny(0x5000, x86.PageSize)); err != nil {
				s.t.Fatal(err)
			}
			s.g.Program(0x5000, 0xa1, 0x10, 0x00, 0xf4)
			if e := s.g.Want(hcl.ExitMemoryFault); e.GPA != 0x5000 || e.Value&tdx.EPT_READABLE != 0 {
				s.t.Errorf("%+v (%#x)", e, e.Value)
			}
			if page := s.m.TD().Page(0x6000); page.Level != tdx.LEVEL_4K || page.Attributes[backend.VM] != tdx.GPA_ATTR_RWX {
				s.t.Errorf("its neighbour is %+v", page)
			}
		}},
		{"NMI while one is handled", func(s *scene) {
			// cli; hlt; out 10h,al; the handler reports on port 70h and returns
			s.g.Program(0, 0xfa, 0xf4, 0xe6, 0x10, 0xf4)
			s.g.Want(hcl.ExitHalt)
			// The second comes in the handler of the first and waits for the end of that, which
			// this machine sees at the next exit.
			nmi(s)
			for _, port := range []uint16{0x70, 0x10} {
				if e := s.g.Want(hcl.ExitPIO); e.Port != port {
					s.t.Fatalf("%+v, want port %#x", e, port)
				}
				if port == 0x70 {
					nmi(s)
				}
			}
			if e := s.g.Want(hcl.ExitPIO); e.Port != 0x70 || e.Data[0] != 2 {
				s.t.Errorf("%+v, want the second NMI", e)
			}
			s.g.Want(hcl.ExitHalt)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onMachine(t, func(m *tdxmodule.Machine, p *backend.Partition, g *hcltest.Guest) { c.check(&scene{t, m, p, g}) })
		})
	}
}

func nmi(s *scene) {
	s.t.Helper()
	if err := s.g.VP().InjectNMI(); err != nil {
		s.t.Fatal(err)
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

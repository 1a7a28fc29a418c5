package tdx_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keel/hcl"
	"keel/hcl/abi/x86"
	"keel/hcl/hcltest"
	"keel/hcl/sys"
	backend "keel/hcl/tdx"
)

// TestLongMode runs 64-bit code through what a kernel does: a task register, no data
// segments, user mode, an interrupt and a system call from there. The state of each exit
// must be one that VM entry takes.
func TestLongMode(t *testing.T) {
	skipWithout(t)
	hcltest.OnGuest(t, open, func(g *hcltest.Guest) {
		const (
			user, handler, entry = 0x1100, 0x1200, 0x1300
			tables               = 0x10000
			gdt, tss, idt        = 0x13000, 0x14000, 0x15000
		)
		g.Program(0, 0xf4)
		m := g.Memory()
		le := binary.LittleEndian
		copy(m[hcltest.CodeAt:], []byte{
			0x66, 0xb8, 0x30, 0x00, 0x0f, 0x00, 0xd8, // mov ax,30h; ltr ax
			0x31, 0xc0, 0x0f, 0x00, 0xd0, 0x8e, 0xd8, 0x8e, 0xc0, // xor eax,eax; lldt ax; mov ds,eax; mov es,eax
			0xe6, 0x10, // out 10h,al
			0x6a, 0x23, 0x68, 0x00, 0x88, 0, 0, 0x6a, 0x02, 0x6a, 0x2b, 0x68, 0x00, 0x11, 0, 0, 0x48, 0xcf, // iretq to user:8800h
		})
		copy(m[user:], []byte{0xcd, 0x80, 0x0f, 0x05, 0xcd, 0x80}) // int 80h; syscall; int 80h
		copy(m[handler:], []byte{0xe6, 0x11, 0x48, 0xcf})          // out 11h,al; iretq
		copy(m[entry:], []byte{0xe6, 0x12, 0x48, 0x0f, 0x07})      // out 12h,al; sysretq
		le.PutUint64(m[tables:], tables+0x1000|7)
		le.PutUint64(m[tables+0x1000:], tables+0x2000|7)
		le.PutUint64(m[tables+0x2000:], 0x80|7) // 2 MiB at 0
		for i, d := range []uint64{0, 0xaf9a000000ffff, 0xcf92000000ffff, 0, 0xcff2000000ffff, 0xaffa000000ffff, 0x67 | tss<<16 | 0x89<<40, 0} {
			le.PutUint64(m[gdt+8*i:], d)
		}
		le.PutUint64(m[tss+4:], 0x9000)                              // stack of CPL 0
		le.PutUint64(m[idt+0x80*16:], handler&0xffff|8<<16|0xee<<40) // interrupt gate for CPL 3
		flat := hcl.Segment{Limit: 0xffffffff, Selector: 16, Attributes: 0xc093}
		s, err := g.VP().SpecialRegisters()
		if err != nil {
			t.Fatal(err)
		}
		s.CR0, s.CR3, s.CR4, s.EFER = 0x80000031, tables, 1<<5, 0xd01
		s.CS = hcl.Segment{Limit: 0xffffffff, Selector: 8, Attributes: 0xa09b}
		s.DS, s.ES, s.FS, s.GS, s.SS = flat, flat, flat, flat, flat
		s.GDT, s.IDT = hcl.Table{Base: gdt, Limit: 63}, hcl.Table{Base: idt, Limit: 0xfff}
		if err := errors.Join(
			g.VP().SetSpecialRegisters(&s), g.VP().SetRegisters(&hcl.Registers{RIP: uint64(hcltest.CodeAt), RSP: 0x8000, RFLAGS: 2}),
			g.VP().SetMSR(0xc0000081, 0x18<<48|8<<32), g.VP().SetMSR(0xc0000082, entry), // STAR, LSTAR
		); err != nil {
			t.Fatal(err)
		}
		for i, port := range []uint16{0x10, 0x11, 0x12, 0x11} {
			if e := g.Want(hcl.ExitPIO); e.Port != port {
				t.Fatalf("exit %d is at port %#x, want %#x", i, e.Port, port)
			}
			s, err := g.VP().SpecialRegisters()
			if err != nil || s.CS.Selector != 8 || s.CS.Attributes&hcl.SegLong == 0 || s.EFER&0x500 != 0x500 || s.TR.Base != tss || s.CR3 != tables {
				t.Errorf("exit %d: %+v, %v", i, s, err)
			}
			if fromInt := port == 0x11; fromInt != (s.SS.Attributes&hcl.SegUnusable != 0) {
				t.Errorf("exit %d: SS %+v", i, s.SS)
			}
		}
	})
}

// TestIntoLongMode has the guest switch its processor from real mode to 64-bit mode. Where
// it leaves on the way, Keel sees what it has set, and VM entry takes the state.
func TestIntoLongMode(t *testing.T) {
	skipWithout(t)
	hcltest.OnGuest(t, open, func(g *hcltest.Guest) {
		const tables, pointer, gdt, code64 = 0x10000, 0x1700, 0x13000, 0x1200
		g.Program(0,
			0xfa, 0x66, 0x0f, 0x01, 0x16, pointer&0xff, pointer>>8, // cli; lgdt [pointer]
			0x0f, 0x20, 0xe0, 0x0c, 0x20, 0x0f, 0x22, 0xe0, // mov eax,cr4; or al,20h; mov cr4,eax
			0x66, 0xb8, 0x00, 0x00, 0x01, 0x00, 0x0f, 0x22, 0xd8, // mov eax,tables; mov cr3,eax
			0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x80, 0xcc, 0x01, 0x0f, 0x30, // EFER.LME
			0xe6, 0x10, // out 10h,al
			0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, // CR0.PE
			0xe6, 0x11, // out 11h,al
			0x66, 0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, // CR0.PG
			0xe6, 0x12, // out 12h,al
			0x66, 0xea, code64&0xff, code64>>8, 0x00, 0x00, 0x08, 0x00, // jmp 8:code64
		)
		m := g.Memory()
		le := binary.LittleEndian
		copy(m[code64:], []byte{0xe6, 0x13, 0xf4}) // out 13h,al; hlt
		le.PutUint16(m[pointer:], 15)
		le.PutUint32(m[pointer+2:], gdt)
		le.PutUint64(m[gdt+8:], 0xaf9a000000ffff)
		le.PutUint64(m[tables:], tables+0x1000|7)
		le.PutUint64(m[tables+0x1000:], tables+0x2000|7)
		le.PutUint64(m[tables+0x2000:], 0x80|7) // 2 MiB at 0
		for _, c := range []struct {
			port           uint16
			cr0, efer, seg uint64 // low bits, without NXE, CS.L
		}{
			{0x10, 0, 0x100, 0},
			{0x11, 1, 0x100, 0},
			{0x12, 1<<31 | 1, 0x500, 0},
			{0x13, 1<<31 | 1, 0x500, hcl.SegLong},
		} {
			if e := g.Want(hcl.ExitPIO); e.Port != c.port {
				t.Fatalf("port %#x, want %#x", e.Port, c.port)
			}
			s, err := g.VP().SpecialRegisters()
			if err != nil || s.CR0&(1<<31|1) != c.cr0 || s.EFER&0x500 != c.efer || uint64(s.CS.Attributes)&hcl.SegLong != c.seg || s.CR4&(1<<5) == 0 {
				t.Errorf("port %#x: %+v, %v", c.port, s, err)
			}
		}
		g.Want(hcl.ExitHalt)
	})
}

// TestVPs: several VPs of one guest run at a time, pages are denied under their feet, and
// what Deny says holds as soon as it returns.
func TestVPs(t *testing.T) {
	skipWithout(t)
	_, p, err := openMachine()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.MapMemory(0, memory); err != nil {
		t.Fatal(err)
	}
	const first, second, far = 0x5000, 0x6000, 0x200000
	cpuid, err := p.SupportedCPUID()
	if err != nil {
		t.Fatal(err)
	}
	g := &group{t: t, p: p, cpuid: cpuid, denied: first}
	for i, v := range []struct {
		data x86.GPA
		code []byte
	}{
		{0, []byte{0xff, 0x06, first & 0xff, first >> 8, 0xeb, 0xfa}},   // again: inc word [5000h]; jmp again
		{0, []byte{0xff, 0x06, second & 0xff, second >> 8, 0xeb, 0xfa}}, // the same at 6000h
		{far, []byte{0xfe, 0x07, 0x81, 0xc3, 0x00, 0x10, 0xeb, 0xf8}},   // again: inc byte [bx]; add bx,1000h; jmp again
	} {
		at := int(hcltest.CodeAt) + i*0x100
		copy(memory[at:], v.code)
		g.start(i, v.data, uint64(at))
	}
	count := func(gpa int) uint16 { return binary.LittleEndian.Uint16(memory[gpa:]) }
	moves := func(what string, gpa int) {
		t.Helper()
		before := count(gpa)
		for end := time.Now().Add(20 * time.Second); count(gpa) == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) || t.Failed() {
				t.Fatalf("%s: the VP does not go on", what)
			}
		}
	}
	defer func() {
		g.end()
		if err := errors.Join(p.Close(), unix.Munmap(memory)); err != nil {
			t.Error(err)
		}
	}()
	for range 4 {
		moves("allowed", first)
		if err := p.Deny(first, x86.PageSize); err != nil {
			t.Fatal(err)
		}
		before := count(first)
		moves("another VP", second)
		moves("another VP, in pages of its own", far+0x3000)
		if now := count(first); now != before {
			t.Errorf("a denied page went from %d to %d", before, now)
		}
		if err := p.Allow(first, x86.PageSize); err != nil {
			t.Fatal(err)
		}
	}
	moves("allowed again", first)
	if g.faults.Load() == 0 {
		t.Error("nobody met the denied page")
	}
	if s := p.Stats(); s.AcceptedLarge != 2 || s.AcceptedSmall != 0 {
		t.Errorf("accepted %+v", s)
	}
}

// group is a guest with a thread for each VP.
type group struct {
	t      *testing.T
	p      *backend.Partition
	cpuid  []hcl.CPUIDEntry
	denied x86.GPA
	faults atomic.Int64
	done   atomic.Bool
	mu     sync.Mutex
	vps    []hcl.VP
	wg     sync.WaitGroup
}

// start runs a VP in real mode on a thread of its own.
func (g *group) start(index int, data x86.GPA, rip uint64) {
	g.wg.Go(func() {
		runtime.LockOSThread()
		if err := sys.BlockKick(); err != nil {
			g.t.Error(err)
			return
		}
		vp, err := g.p.NewVP(hcl.VPConfig{Index: index, APICID: x86.APICID(index), CPUID: g.cpuid})
		if err != nil {
			g.t.Error(err)
			return
		}
		s, err := vp.SpecialRegisters()
		s.CS.Base, s.CS.Selector, s.DS.Base = 0, 0, uint64(data)
		if err := errors.Join(err, vp.SetSpecialRegisters(&s), vp.SetRegisters(&hcl.Registers{RIP: rip, RFLAGS: 2})); err != nil {
			g.t.Error(err)
			return
		}
		g.mu.Lock()
		g.vps = append(g.vps, vp)
		g.mu.Unlock()
		for !g.done.Load() {
			e, err := vp.Run()
			switch {
			case err != nil:
				g.t.Error(err)
				return
			case e.Kind == hcl.ExitMemoryFault && e.GPA&^0xfff == g.denied:
				g.faults.Add(1)
				time.Sleep(time.Millisecond)
			case e.Kind != hcl.ExitKick:
				g.t.Errorf("VP %d: %+v", index, e)
				return
			}
		}
	})
}

// end stops all VPs.
func (g *group) end() {
	g.done.Store(true)
	stopped := make(chan struct{})
	go func() { g.wg.Wait(); close(stopped) }()
	for {
		g.mu.Lock()
		for _, vp := range g.vps {
			vp.Kick()
		}
		g.mu.Unlock()
		select {
		case <-stopped:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

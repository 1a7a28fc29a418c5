package x86emu

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"keel/hcl"
	"keel/hcl/abi/x86"
)

// Addresses of the test machine. Linear addresses equal physical ones where a
// test does not say otherwise.
const (
	codeAt   = 0x1FF0  // room for an instruction across a page boundary
	dataAt   = 0x5000  // RAM
	stackAt  = 0x9000  // RAM
	tablesAt = 0x10000 // paging structures
	deviceAt = 0xFEB00000
	ramEnd   = 0x20000
)

// machine is a guest with RAM at zero and one device page of registers.
type machine struct {
	ram    [ramEnd]byte
	device [0x2000]byte
	log    []string // device and port accesses
	ports  uint32   // what ports answer
	ymm    [16][32]byte
	bad    []string
	// race runs before each compare-and-swap and may change RAM.
	race func(m *machine)
	// onRead runs before each read of RAM.
	onRead func(m *machine, gpa x86.GPA)
}

func (m *machine) Kind(gpa x86.GPA, n int, _ bool) Kind {
	if n < 1 || gpa%x86.PageSize+x86.GPA(n) > x86.PageSize {
		m.bad = append(m.bad, fmt.Sprintf("kind of %#x+%d", gpa, n))
	}
	switch {
	case gpa < ramEnd:
		return KindRAM
	case gpa >= deviceAt && gpa < deviceAt+x86.GPA(len(m.device)):
		return KindDevice
	}
	return KindRefused
}

func (m *machine) at(gpa x86.GPA, n int) []byte {
	if gpa >= ramEnd || n < 1 || n > 32 || gpa%x86.PageSize+x86.GPA(n) > x86.PageSize {
		m.bad = append(m.bad, fmt.Sprintf("RAM access %#x+%d", gpa, n))
		return make([]byte, n)
	}
	return m.ram[gpa : int(gpa)+n]
}

func (m *machine) ReadRAM(gpa x86.GPA, p []byte) bool {
	if m.onRead != nil {
		m.onRead(m, gpa)
	}
	copy(p, m.at(gpa, len(p)))
	return true
}

func (m *machine) WriteRAM(gpa x86.GPA, p []byte) bool {
	copy(m.at(gpa, len(p)), p)
	return true
}

func (m *machine) CompareAndSwap(gpa x86.GPA, before, after uint64) (bool, bool) {
	if gpa%8 != 0 {
		m.bad = append(m.bad, fmt.Sprintf("swap at %#x", gpa))
	}
	if m.race != nil {
		m.race(m)
	}
	p := m.at(gpa, 8)
	if getInt(p) != before {
		return false, true
	}
	putInt(p, after)
	return true, true
}

func (m *machine) CompareAndSwap16(gpa x86.GPA, before, after [2]uint64) (bool, bool) {
	if gpa%16 != 0 {
		m.bad = append(m.bad, fmt.Sprintf("wide swap at %#x", gpa))
	}
	p := m.at(gpa, 16)
	if getInt(p[:8]) != before[0] || getInt(p[8:]) != before[1] {
		return false, true
	}
	putInt(p[:8], after[0])
	putInt(p[8:], after[1])
	return true, true
}

func (m *machine) reg(gpa x86.GPA, n int) []byte {
	if gpa < deviceAt || n < 1 || n > 8 || int(gpa-deviceAt)+n > len(m.device) {
		m.bad = append(m.bad, fmt.Sprintf("device access %#x+%d", gpa, n))
		return make([]byte, n)
	}
	return m.device[gpa-deviceAt:][:n]
}

func (m *machine) ReadMMIO(gpa x86.GPA, p []byte) {
	copy(p, m.reg(gpa, len(p)))
	m.log = append(m.log, fmt.Sprintf("r%d %x", len(p), gpa))
}

func (m *machine) WriteMMIO(gpa x86.GPA, p []byte) {
	copy(m.reg(gpa, len(p)), p)
	m.log = append(m.log, fmt.Sprintf("w%d %x=%x", len(p), gpa, getInt(p)))
}

func (m *machine) ReadPIO(port uint16, size int) uint32 {
	m.log = append(m.log, fmt.Sprintf("in%d %x", size, port))
	m.ports++
	return m.ports
}

func (m *machine) WritePIO(port uint16, size int, value uint32) {
	m.log = append(m.log, fmt.Sprintf("out%d %x=%x", size, port, value))
}

func (m *machine) ReadVector(n int, v *[32]byte) { *v = m.ymm[n] }

func (m *machine) WriteVector(n int, v *[32]byte, vex bool) {
	if vex {
		m.ymm[n] = *v
	} else {
		copy(m.ymm[n][:16], v[:16])
	}
}

// Segment attributes of flat segments.
const (
	attrCode64 = hcl.SegPresent | hcl.SegNonSystem | hcl.SegLong | 0xB
	attrCode32 = hcl.SegPresent | hcl.SegNonSystem | hcl.SegDefaultBig | 0xB
	attrCode16 = hcl.SegPresent | hcl.SegNonSystem | 0xB
	attrData32 = hcl.SegPresent | hcl.SegNonSystem | hcl.SegDefaultBig | 0x3
	attrData16 = hcl.SegPresent | hcl.SegNonSystem | 0x3
)

// newState returns a flat machine in a mode, CPL 0, without paging in the
// narrower ones and with four levels of identity mapping in 64-bit mode.
func newState(m *machine, width mode) *State {
	s := &State{RIP: codeAt, RFLAGS: 2, CR0: cr0PE, CR4: cr4OSFXSR | cr4OSXSAVE, XCR0: 7, PhysicalBits: 46}
	code, data, limit := uint32(attrCode32), uint32(attrData32), uint32(0xFFFFFFFF)
	switch width {
	case mode16:
		code, data, limit = attrCode16, attrData16, 0xFFFF
		s.CR0 = 0
	case mode32:
	case mode64:
		code = attrCode64
		s.CR0 |= cr0PG
		s.CR4 |= cr4PAE
		s.EFER = eferLMA | eferNXE
		s.CR3 = tablesAt
		identity(m)
	}
	for i := range s.Segments {
		s.Segments[i] = hcl.Segment{Limit: limit, Attributes: data}
	}
	s.Segments[segCS].Attributes = code
	s.GPR[regRSP] = stackAt
	return s
}

// identity maps the low 4 GiB one to one, the first 2 MiB in small pages.
func identity(m *machine) { copy(m.ram[tablesAt:], identityTables()) }

// identityTables are PML4, PDPT, four directories and a table. They are made
// once: fuzzing needs many machines.
var identityTables = sync.OnceValue(func() []byte {
	m := &machine{}
	const rw = entryPresent | entryWrite | entryAccessed | entryDirty
	putInt(m.ram[tablesAt:][:8], tablesAt+0x1000|rw)
	for i := range 4 {
		putInt(m.ram[tablesAt+0x1000+8*i:][:8], uint64(tablesAt+0x2000+0x1000*i)|rw)
	}
	for i := range 2048 {
		putInt(m.ram[tablesAt+0x2000+8*i:][:8], uint64(i)<<21|rw|entryLarge)
	}
	putInt(m.ram[tablesAt+0x2000:][:8], tablesAt+0x6000|rw)
	for i := range 512 {
		putInt(m.ram[tablesAt+0x6000+8*i:][:8], uint64(i)<<12|rw)
	}
	return m.ram[tablesAt : tablesAt+0x7000]
})

// pte returns the address of the entry of a small page of the identity map.
func pte(linear int) int { return tablesAt + 0x6000 + linear>>12*8 }

// vector is one row of a table: an instruction, what is before, what is after.
type vector struct {
	name string
	mode mode
	code string                                   // hexadecimal, blanks allowed
	set  func(s *State, m *machine)               // changes to the start
	regs map[int]uint64                           // registers that change, and their values
	mem  map[int]string                           // bytes after, hexadecimal: RAM, or device from deviceAt on
	log  string                                   // device accesses, joined with ", "
	set1 uint64                                   // flags set after, among mask
	mask uint64                                   // flags checked
	want Outcome                                  // outcome
	f    Fault                                    // when want is Faulted
	r    Reason                                   // when want is Unsupported
	rip  uint64                                   // RIP after, if not the next instruction
	then func(t *testing.T, s *State, m *machine) // more checks
}

// start returns the machine and the state before the instruction.
func (v *vector) start(t *testing.T) (*machine, *State) {
	t.Helper()
	code, err := hex.DecodeString(strings.ReplaceAll(v.code, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{}
	s := newState(m, v.mode)
	copy(m.ram[codeAt:], code)
	if v.set != nil {
		v.set(s, m)
	}
	return m, s
}

// run executes a vector. What it does not mention must not change.
func (v *vector) run(t *testing.T) {
	t.Helper()
	m, s := v.start(t)
	before, ram, device := *s, m.ram, m.device
	e := New(m, m, m)
	for i := range e.buf { // what an earlier step left
		e.buf[i] = 0xEE
	}
	got := e.Step(s)
	if got.Outcome != v.want || got.Fault != v.f || got.Reason != v.r {
		t.Fatalf("outcome %d, fault %+v, reason %v; want %d, %+v, %v", got.Outcome, got.Fault, got.Reason, v.want, v.f, v.r)
	}
	want := before
	for r, x := range v.regs {
		want.GPR[r] = x
	}
	switch {
	case v.rip != 0:
		want.RIP = v.rip
	case v.want == Done:
		want.RIP += uint64(got.Length)
	}
	if s.RFLAGS&v.mask != v.set1 {
		t.Errorf("flags %#x, want %#x among %#x", s.RFLAGS&v.mask, v.set1, v.mask)
	}
	if n := len(strings.ReplaceAll(v.code, " ", "")) / 2; v.want == Done && v.rip == 0 && int(got.Length) != n {
		t.Errorf("length %d, want %d", got.Length, n)
	}
	if v.mask == 0 && s.RFLAGS != before.RFLAGS {
		t.Errorf("flags changed from %#x to %#x", before.RFLAGS, s.RFLAGS)
	}
	want.RFLAGS = s.RFLAGS
	if *s != want {
		t.Errorf("registers %x\nwant      %x\nRIP %#x, want %#x", s.GPR, want.GPR, s.RIP, want.RIP)
	}
	for at, text := range v.mem {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if at >= deviceAt {
			copy(device[at-deviceAt:], b)
		} else {
			copy(ram[at:], b)
		}
	}
	diff(t, "RAM", m.ram[:], ram[:])
	diff(t, "device", m.device[:], device[:])
	if log := strings.Join(m.log, ", "); log != v.log {
		t.Errorf("accesses %q, want %q", log, v.log)
	}
	if len(m.bad) > 0 {
		t.Errorf("out of bounds: %v", m.bad)
	}
	if v.then != nil {
		v.then(t, s, m)
	}
}

// diff reports the first difference.
func diff(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range got {
		if got[i] != want[i] {
			end := min(i+16, len(got))
			t.Errorf("%s at %#x: % x, want % x", what, i, got[i:end], want[i:end])
			return
		}
	}
}

// runAll runs a table.
func runAll(t *testing.T, table []vector) {
	t.Helper()
	for i := range table {
		v := &table[i]
		t.Run(fmt.Sprintf("%s/%d", v.name, 16<<v.mode), v.run)
	}
}

// gpr sets registers in pairs of number and value.
func gpr(pairs ...uint64) func(*State, *machine) {
	return func(s *State, _ *machine) {
		for i := 0; i < len(pairs); i += 2 {
			s.GPR[pairs[i]] = pairs[i+1]
		}
	}
}

// with joins several changes to the start.
func with(changes ...func(*State, *machine)) func(*State, *machine) {
	return func(s *State, m *machine) {
		for _, c := range changes {
			c(s, m)
		}
	}
}

// bytesAt puts bytes into RAM or the device.
func bytesAt(at int, text string) func(*State, *machine) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	return func(_ *State, m *machine) {
		switch {
		case err != nil:
			m.bad = append(m.bad, err.Error())
		case at >= deviceAt:
			copy(m.device[at-deviceAt:], b)
		default:
			copy(m.ram[at:], b)
		}
	}
}

// flags sets RFLAGS.
func flags(f uint64) func(*State, *machine) {
	return func(s *State, _ *machine) { s.RFLAGS = f | 2 }
}

package coredump

import (
	"bytes"

	"keel/hcl"
)

// Types of notes, and whose they are.
const (
	ownerCore    = "CORE"
	typePRStatus = 1 // NT_PRSTATUS

	ownerQEMU = "QEMU"
	typeQEMU  = 0
)

// prStatus is struct elf_prstatus for x86-64. Of what it says of a process there is only
// the number, by which gdb tells its threads apart.
type prStatus struct {
	_       [32]byte
	PID     uint32
	_       [76]byte
	General userRegisters
	_       [8]byte
}

// userRegisters is struct user_regs_struct.
type userRegisters struct {
	R15, R14, R13, R12, RBP, RBX, R11, R10 uint64
	R9, R8, RAX, RCX, RDX, RSI, RDI        uint64
	OrigRAX                                uint64
	RIP, CS, RFLAGS, RSP, SS               uint64
	FSBase, GSBase                         uint64
	DS, ES, FS, GS                         uint64
}

// qemuState is struct QEMUCPUState, with the field that was added to its end.
type qemuState struct {
	Version, Size                          uint32
	RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RIP, RFLAGS                            uint64
	CS, DS, ES, FS, GS, SS                 qemuSegment
	LDT, TR, GDT, IDT                      qemuSegment
	CR                                     [5]uint64
	KernelGSBase                           uint64
}

const (
	qemuVersion = 1
	qemuBytes   = 440
)

// qemuSegment is struct QEMUCPUSegment.
type qemuSegment struct {
	Selector, Limit, Flags uint32
	_                      uint32
	Base                   uint64
}

// notesOf makes the notes: first one for each VP that every debugger knows, then those with
// the control registers.
func notesOf(vps []VP) []byte {
	var b bytes.Buffer
	for i := range vps {
		note(&b, ownerCore, typePRStatus, statusOf(i, &vps[i]))
	}
	for i := range vps {
		note(&b, ownerQEMU, typeQEMU, qemuOf(&vps[i]))
	}
	return b.Bytes()
}

// note appends a note. Both owners have names of four characters, and all descriptions are
// multiples of four bytes long.
func note(b *bytes.Buffer, owner string, kind uint32, description any) {
	var d bytes.Buffer
	put(&d, description)
	put(b, []uint32{uint32(len(owner) + 1), uint32(d.Len()), kind})
	b.WriteString(owner + "\x00\x00\x00\x00")
	b.Write(d.Bytes())
}

func statusOf(i int, vp *VP) *prStatus {
	r, s := &vp.Registers, &vp.Special
	return &prStatus{PID: uint32(i) + 1, General: userRegisters{
		R15: r.R15, R14: r.R14, R13: r.R13, R12: r.R12, RBP: r.RBP, RBX: r.RBX, R11: r.R11, R10: r.R10,
		R9: r.R9, R8: r.R8, RAX: r.RAX, RCX: r.RCX, RDX: r.RDX, RSI: r.RSI, RDI: r.RDI,
		RIP: r.RIP, CS: uint64(s.CS.Selector), RFLAGS: r.RFLAGS, RSP: r.RSP, SS: uint64(s.SS.Selector),
		FSBase: s.FS.Base, GSBase: s.GS.Base,
		DS: uint64(s.DS.Selector), ES: uint64(s.ES.Selector), FS: uint64(s.FS.Selector), GS: uint64(s.GS.Selector),
	}}
}

func qemuOf(vp *VP) *qemuState {
	r, s := &vp.Registers, &vp.Special
	return &qemuState{
		Version: qemuVersion, Size: qemuBytes,
		RAX: r.RAX, RBX: r.RBX, RCX: r.RCX, RDX: r.RDX, RSI: r.RSI, RDI: r.RDI, RSP: r.RSP, RBP: r.RBP,
		R8: r.R8, R9: r.R9, R10: r.R10, R11: r.R11, R12: r.R12, R13: r.R13, R14: r.R14, R15: r.R15,
		RIP: r.RIP, RFLAGS: r.RFLAGS,
		CS: segment(&s.CS), DS: segment(&s.DS), ES: segment(&s.ES), FS: segment(&s.FS), GS: segment(&s.GS), SS: segment(&s.SS),
		LDT: segment(&s.LDT), TR: segment(&s.TR), GDT: table(&s.GDT), IDT: table(&s.IDT),
		CR: [5]uint64{0: s.CR0, 2: s.CR2, 3: s.CR3, 4: s.CR4}, KernelGSBase: vp.KernelGSBase,
	}
}

// segment converts a segment register; QEMU has the attributes where the upper half of a
// descriptor has them.
func segment(s *hcl.Segment) qemuSegment {
	const ofDescriptor = 0xf0ff
	return qemuSegment{Selector: uint32(s.Selector), Limit: s.Limit, Flags: s.Attributes & ofDescriptor << 8, Base: s.Base}
}

func table(t *hcl.Table) qemuSegment { return qemuSegment{Limit: uint32(t.Limit), Base: t.Base} }

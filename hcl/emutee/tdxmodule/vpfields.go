package tdxmodule

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// vpFields are the fields of a VP that are no VM's VMCS or MSR bitmaps, in the order of
// classes and codes.
var vpFields = [...]field{
	row(tdx.VP_VCPU_INDEX, 1, 0),
	row(tdx.VP_SUPERVISOR_VE, 1, 0xFF),
	row(tdx.VP_USER_VE, 1, 0xFF),
	row(tdx.VP_L2_CTLS, tdx.VMS, tdx.L2_CTLS_WRITABLE),
	row(tdx.VP_TSC_DEADLINE, tdx.VMS, all),
	row(tdx.VP_CPUID_CONTROL, cpuidControls, 3),
}

// place is where a field of a VP is: in vpFields, or in an L2's VMCS or MSR bitmaps.
type place struct {
	kind  placeKind
	vm    int
	row   int    // of vpFields or vmcsRows
	index uint32 // in the row; among all fields of the VMCS; or the word of the bitmaps
}

type placeKind uint8

const (
	placeVP placeKind = iota
	placeVMCS
	placeMSRs
	placeL1 // L1's own VMCS, which is the module's
)

// locate finds a field that an identifier names.
func (v *VP) locate(id uint64) (place, bool) {
	class, code, ok := splitID(id)
	if !ok {
		return place{}, false
	}
	if class == tdx.CLASS_VMCS {
		_, _, ok := findVMCS(code)
		return place{kind: placeL1}, ok
	}
	if class < tdx.CLASS_VMCS_1 {
		at, index, ok := find(vpFields[:], class, code)
		return place{kind: placeVP, row: at, index: index}, ok
	}
	vm := int(class-tdx.CLASS_VMCS_1)/tdx.CLASS_VM_STEP + 1
	if !v.exists(vm) {
		return place{}, false
	}
	switch (class - tdx.CLASS_VMCS_1) % tdx.CLASS_VM_STEP {
	case 0:
		at, n, ok := findVMCS(code)
		return place{kind: placeVMCS, vm: vm, row: at, index: uint32(n)}, ok
	case tdx.CLASS_MSR_BITMAPS_1 - tdx.CLASS_VMCS_1:
		return place{kind: placeMSRs, vm: vm, index: code}, code < tdx.MSR_BITMAP_WORDS
	}
	return place{}, false
}

// Read is TDG.VP.RD (ABI, that leaf).
func (v *VP) Read(rcx, id uint64) FieldResult {
	r := v.read(rcx, id)
	v.td.stats.status(r.Status)
	return r
}

func (v *VP) read(rcx, id uint64) FieldResult {
	if rcx != 0 {
		return FieldResult{Status: tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX, Next: tdx.FIELD_NONE}
	}
	if noField(id) {
		return FieldResult{Status: tdx.STATUS_FIRST_FIELD_ID_IN_CONTEXT, Next: vpFields[0].base}
	}
	p, ok := v.locate(id)
	if !ok {
		return FieldResult{Status: tdx.STATUS_FIELD_ID_INCORRECT, Next: tdx.FIELD_NONE}
	}
	readable, _ := p.masks()
	if readable == 0 {
		return FieldResult{Status: tdx.STATUS_FIELD_NOT_READABLE, Next: tdx.FIELD_NONE}
	}
	return FieldResult{Value: v.load(p) & readable, Next: v.next(p)}
}

// Write is TDG.VP.WR (ABI, that leaf).
func (v *VP) Write(rcx, id, value, mask uint64) FieldResult {
	r := v.write(rcx, id, value, mask)
	v.td.stats.status(r.Status)
	return r
}

func (v *VP) write(rcx, id, value, mask uint64) FieldResult {
	if rcx != 0 {
		return FieldResult{Status: tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX}
	}
	p, ok := v.locate(id)
	if !ok {
		return FieldResult{Status: tdx.STATUS_FIELD_ID_INCORRECT}
	}
	readable, writable := p.masks()
	old := v.load(p)
	current := old
	if p.isAddress() && current == null {
		current &= writable // an address that was never set has no other bits
	}
	merged, status := merge(current, value, mask, writable)
	if status == tdx.STATUS_SUCCESS {
		status = v.store(p, merged)
	}
	if status != tdx.STATUS_SUCCESS {
		return FieldResult{Status: status}
	}
	return FieldResult{Value: old & readable}
}

// masks are the bits of a field that L1 reads and writes.
func (p place) masks() (readable, writable uint64) {
	switch p.kind {
	case placeVP:
		return vpFields[p.row].read, vpFields[p.row].write
	case placeVMCS:
		r := &vmcsRows[p.row]
		return r.read & l2.VMCSMask(r.code), r.write & l2.VMCSMask(r.code)
	case placeL1:
		return 0, 0
	case placeMSRs:
	}
	return all, all
}

func (p place) isAddress() bool {
	return p.kind == placeVMCS && (p.code() == tdx.VMCS_VIRTUAL_APIC || p.code() == tdx.VMCS_HLAT_POINTER)
}

// code is the encoding of a field of a VMCS.
func (p place) code() uint32 {
	return vmcsRows[p.row].code + (p.index-uint32(vmcsFirst[p.row]))*tdx.VMCS_STEP
}

// load returns what L1 sees of a field.
func (v *VP) load(p place) uint64 {
	switch p.kind {
	case placeVP:
		return v.loadVP(vpFields[p.row].base, p.index)
	case placeMSRs:
		return v.l2[p.vm].msrs[p.index]
	case placeL1:
		return 0
	case placeVMCS:
	}
	value := v.l2[p.vm].vmcs[p.index]
	switch p.code() {
	case tdx.VMCS_GUEST_CR0:
		return value&^baseCR0Mask | baseCR0Shadow&baseCR0Mask
	case tdx.VMCS_GUEST_CR4:
		return value&^v.td.baseCR4Mask() | baseCR4Shadow&v.td.baseCR4Mask()
	}
	return value
}

func (v *VP) loadVP(base uint64, index uint32) uint64 {
	switch base {
	case tdx.VP_VCPU_INDEX:
		return uint64(v.index)
	case tdx.VP_SUPERVISOR_VE:
		return uint64(v.supervisorVE)
	case tdx.VP_USER_VE:
		return uint64(v.userVE)
	case tdx.VP_L2_CTLS:
		return v.ctls[index]
	case tdx.VP_TSC_DEADLINE:
		return v.deadline[index]
	}
	return uint64(v.cpuidControl[index])
}

// store checks a value and writes it.
func (v *VP) store(p place, value uint64) uint64 {
	switch p.kind {
	case placeVP:
		v.storeVP(vpFields[p.row].base, p.index, value)
		return tdx.STATUS_SUCCESS
	case placeMSRs:
		v.l2[p.vm].msrs[p.index] = value
		return tdx.STATUS_SUCCESS
	case placeL1:
		return tdx.STATUS_FIELD_NOT_WRITABLE
	case placeVMCS:
	}
	field := &v.l2[p.vm].vmcs[p.index]
	value, ok := v.td.admit(p.code(), *field, value)
	if !ok {
		return tdx.STATUS_FIELD_VALUE_NOT_VALID
	}
	*field = value
	return tdx.STATUS_SUCCESS
}

func (v *VP) storeVP(base uint64, index uint32, value uint64) {
	switch base {
	case tdx.VP_SUPERVISOR_VE:
		v.supervisorVE = uint8(value)
	case tdx.VP_USER_VE:
		v.userVE = uint8(value)
	case tdx.VP_L2_CTLS:
		v.ctls[index] = value
	case tdx.VP_TSC_DEADLINE:
		v.deadline[index] = value
	case tdx.VP_CPUID_CONTROL:
		v.cpuidControl[index] = uint8(value)
	}
}

// The bits of an L2's CR0 and CR4 that the module owns, and what L1 reads of them (TD
// Partitioning, "L2 CR0 and CR4"): NE and VMXE are 1 for the processor's sake, MCE always.
const (
	cr0NE         = 1 << 5
	cr0NW         = 1 << 29
	cr0CD         = 1 << 30
	cr0PG         = 1 << 31
	baseCR0Mask   = 0xFFFFFFFF<<32 | cr0CD | cr0NW | 0x3FF<<19 | 1<<17 | 0x3FF<<6 | cr0NE
	baseCR0Shadow = cr0NE

	cr4MCE        = 1 << 6
	cr4VMXE       = 1 << 13
	cr4KL         = 1 << 19
	cr4PKE        = 1 << 22
	cr4CET        = 1 << 23
	cr4PKS        = 1 << 24
	cr4UINTR      = 1 << 25
	baseCR4Shadow = cr4MCE | cr4VMXE
)

// baseCR4Mask is that of CR4, which has the bits of features that the TD lacks, too.
func (t *TD) baseCR4Mask() uint64 {
	writable := uint64(tdx.L2_CR4_WRITABLE &^ cr4KL)
	if t.config.XFAM&tdx.XFAM_PK == 0 {
		writable &^= cr4PKE
	}
	if t.config.XFAM&(tdx.XFAM_CET_S|tdx.XFAM_CET_U) != tdx.XFAM_CET_S|tdx.XFAM_CET_U {
		writable &^= cr4CET
	}
	if t.config.XFAM&tdx.XFAM_UINTR == 0 {
		writable &^= cr4UINTR
	}
	if t.config.Attributes&tdx.ATTRIBUTES_PKS == 0 {
		writable &^= cr4PKS
	}
	return ^writable
}

// controls are an L2's controls of one kind: their start value, the bits that must be 1,
// and those that may be.
type controls struct{ init, ones, allowed uint64 }

func controlsOf(init, writable uint64) controls {
	return controls{init, init &^ writable, init | writable}
}

// processorControls: a processor without MONITOR and MWAIT; RDPMC is free only where the
// TD has performance counters.
func (t *TD) processorControls() controls {
	init := uint64(tdx.L2_PROCESSOR_INIT | tdx.PROCESSOR_MWAIT | tdx.PROCESSOR_MONITOR)
	writable := uint64(tdx.L2_PROCESSOR_WRITABLE)
	if t.config.Attributes&tdx.ATTRIBUTES_PERFMON == 0 {
		init |= tdx.PROCESSOR_RDPMC
		writable &^= tdx.PROCESSOR_RDPMC
	}
	return controlsOf(init, writable)
}

// A processor without user-level waits, PCONFIG and HLAT.
var (
	secondaryControls = controlsOf(tdx.L2_SECONDARY_INIT, tdx.L2_SECONDARY_WRITABLE&^(tdx.SECONDARY_USER_WAIT|tdx.SECONDARY_PCONFIG))
	tertiaryControls  = controlsOf(tdx.L2_TERTIARY_INIT, 0)
)

// admit judges a value for a field of an L2's VMCS and returns what the field will hold
// (ABI, "L2 VMCS": special handling).
func (t *TD) admit(code uint32, old, value uint64) (uint64, bool) {
	switch code {
	case tdx.VMCS_GUEST_CR0:
		return value&^baseCR0Mask | old&baseCR0Mask, value&baseCR0Mask == baseCR0Shadow
	case tdx.VMCS_GUEST_CR4:
		mask := t.baseCR4Mask()
		return value&^mask | old&mask, value&mask == baseCR4Shadow
	case tdx.VMCS_PROCESSOR_CONTROLS:
		return value, t.processorControls().admit(value)
	case tdx.VMCS_SECONDARY_CONTROLS:
		return value, secondaryControls.admit(value)
	case tdx.VMCS_TERTIARY_CONTROLS:
		return value, tertiaryControls.admit(value)
	case tdx.VMCS_VIRTUAL_APIC, tdx.VMCS_HLAT_POINTER:
		return value, t.private(x86.GPA(value))
	case tdx.VMCS_EPTP:
		return value, value&tdx.EPTP_SSS == 0 || t.config.XFAM&tdx.XFAM_CET_S != 0
	case tdx.VMCS_GUEST_DEBUGCTL:
		return value, value&(debugctlTR|debugctlBTS) != debugctlTR
	}
	return value, true
}

func (c controls) admit(value uint64) bool { return value&c.ones == c.ones && value&^c.allowed == 0 }

// Branch traces (SDM vol. 3, "IA32_DEBUGCTL MSR") go to memory or nowhere.
const (
	debugctlTR  = 1 << 6
	debugctlBTS = 1 << 7
)

// next is the identifier of the field after a place that L1 can read.
func (v *VP) next(p place) uint64 {
	switch p.kind {
	case placeVP:
		f := &vpFields[p.row]
		switch {
		case p.index+1 < f.number:
			return f.id(p.index + 1)
		case p.row+1 < len(vpFields):
			return vpFields[p.row+1].base
		}
		return v.firstOf(tdx.VM_L1 + 1)
	case placeMSRs:
		if p.index+1 < tdx.MSR_BITMAP_WORDS {
			return l2.MSRBitmapField(p.vm, p.index+1)
		}
		return v.firstOf(p.vm + 1)
	case placeL1:
		return tdx.FIELD_NONE
	case placeVMCS:
	}
	if p.index+1 < uint32(vmcsFirst[p.row])+vmcsRows[p.row].number {
		return l2.VMCSField(p.vm, p.code()+tdx.VMCS_STEP)
	}
	for row := p.row + 1; row < len(vmcsRows); row++ {
		if vmcsRows[row].read != 0 {
			return l2.VMCSField(p.vm, vmcsRows[row].code)
		}
	}
	return l2.MSRBitmapField(p.vm, 0)
}

// firstOf is the first field of a VM that L1 can read.
func (v *VP) firstOf(vm int) uint64 {
	if !v.exists(vm) {
		return tdx.FIELD_NONE
	}
	return l2.VMCSField(vm, tdx.VMCS_POSTED_NOTIFICATION)
}

package tdx

import (
	"errors"
	"fmt"

	"keel/hcl/abi/tdx"
	"keel/hcl/tdx/l2"
)

var errRefused = errors.New("refused")

// maxBusy bounds how often a call is tried again that others, or an interrupt, kept from
// its end.
const maxBusy = 1 << 16

// status is what a call ended with, without details.
func status(rax uint64) uint64 { return rax & tdx.STATUS_MASK }

// again tells whether a call that ended so is to be made again as it was.
func again(rax uint64) bool {
	switch status(rax) {
	case tdx.STATUS_OPERAND_BUSY, tdx.STATUS_OPERAND_BUSY_HOST_PRIORITY, tdx.STATUS_INTERRUPTED_RESUMABLE, tdx.STATUS_INTERRUPTED_RESTARTABLE:
		return true
	}
	return false
}

// repeat makes a call until it is through. in and out may be the same registers.
func repeat(in l2.Registers, out *l2.Registers, do func(r *l2.Registers) error) error {
	for range maxBusy {
		*out = in
		if err := do(out); err != nil {
			return err
		}
		if !again(out.RAX) {
			return nil
		}
	}
	return fmt.Errorf("%w: leaf %d is busy for ever", errRefused, in.RAX)
}

// call executes a leaf on memory or on the TD.
func (p *Partition) call(in l2.Registers) (l2.Registers, error) {
	var out l2.Registers
	err := repeat(in, &out, p.hw.Call)
	return out, err
}

// field reads a field of the TD.
func (p *Partition) field(id uint64) (uint64, error) {
	r, err := p.call(l2.Registers{RAX: tdx.TDG_VM_RD, RDX: id})
	if err == nil && r.RAX != tdx.STATUS_SUCCESS {
		err = fmt.Errorf("TDG.VM.RD of %#x: %w, status %#x", id, errRefused, r.RAX)
	}
	return r.R8, err
}

// The VP's calls keep their first failure until fault takes it: whoever reads or writes
// several fields looks once.

// callVP executes a leaf on the VP, and notes a failure.
func (vp *VP) callVP(name string, in l2.Registers) uint64 {
	r := &vp.registers
	for n := 0; ; n++ {
		*r = in
		err := vp.hw.CallVP(vp.index, r)
		switch {
		case err == nil && again(r.RAX) && n < maxBusy:
			continue
		case err == nil && r.RAX == tdx.STATUS_SUCCESS:
			return r.R8
		case err == nil:
			err = fmt.Errorf("%s of %#x = %#x: %w, status %#x", name, in.RDX, in.R8, errRefused, r.RAX)
		}
		if vp.failed == nil {
			vp.failed = err
		}
		return 0
	}
}

// get reads a field of the guest's VMCS.
func (vp *VP) get(code uint32) uint64 {
	return vp.callVP("TDG.VP.RD", l2.Registers{RAX: tdx.TDG_VP_RD, RDX: l2.VMCSField(VM, code)})
}

// put writes the bits of a mask into a field of the guest's VMCS, and set the whole field.
func (vp *VP) put(code uint32, value, mask uint64) { vp.write(l2.VMCSField(VM, code), value, mask) }

func (vp *VP) set(code uint32, value uint64) { vp.put(code, value, l2.VMCSMask(code)) }

// write writes any field of the VP.
func (vp *VP) write(id, value, mask uint64) {
	vp.callVP("TDG.VP.WR", l2.Registers{RAX: tdx.TDG_VP_WR, RDX: id, R8: value, R9: mask})
}

// failure returns what failed since it was last asked.
func (vp *VP) failure(stage error) error {
	err := vp.failed
	if err == nil {
		return nil
	}
	vp.failed = nil
	return fmt.Errorf("%w %d: %w", stage, vp.index, err)
}

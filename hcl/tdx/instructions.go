package tdx

import (
	"keel/hcl/abi/tdx"
	"keel/hcl/leaves"
)

// instruction executes what the guest may not execute itself and no layer above needs to
// see. It returns false for an exit that is none of these.
func (vp *VP) instruction(reason uint32) bool {
	r := &vp.state.Registers
	switch reason {
	case tdx.EXIT_CPUID:
		a, b, c, d := vp.cpuid.Query(uint32(r.RAX), uint32(r.RCX), leaves.State{CR4: vp.cr4(), XCR0: vp.context.XCR0, XSS: vp.context.XSS})
		r.RAX, r.RBX, r.RCX, r.RDX = uint64(a), uint64(b), uint64(c), uint64(d)
	case tdx.EXIT_RDTSC, tdx.EXIT_RDTSCP:
		now := vp.hw.TSC(vp.index)
		r.RAX, r.RDX = now&0xffffffff, now>>32
		if reason == tdx.EXIT_RDTSCP {
			r.RCX = vp.context.TSCAux & 0xffffffff
		}
	case tdx.EXIT_XSETBV:
		value := r.RDX<<32 | r.RAX&0xffffffff
		if vp.cpl != 0 || uint32(r.RCX) != 0 || !vp.cpuid.ValidXCR0(value, vp.cr4()) {
			vp.p.stats.add(countXCR0)
			vp.raiseGP()
			return true
		}
		vp.context.XCR0 = value
	case tdx.EXIT_WBINVD, tdx.EXIT_INVD, tdx.EXIT_MONITOR, tdx.EXIT_MWAIT:
		// Caches are coherent, and a guest that waits a moment too short looks again.
	case tdx.EXIT_RDPMC:
		vp.p.stats.add(countInstruction)
		vp.raiseGP()
		return true
	case tdx.EXIT_GETSEC, tdx.EXIT_RSM, tdx.EXIT_VMCALL, tdx.EXIT_VMCLEAR, tdx.EXIT_VMLAUNCH, tdx.EXIT_VMPTRLD, tdx.EXIT_VMPTRST,
		tdx.EXIT_VMREAD, tdx.EXIT_VMRESUME, tdx.EXIT_VMWRITE, tdx.EXIT_VMXOFF, tdx.EXIT_VMXON, tdx.EXIT_INVEPT, tdx.EXIT_INVVPID,
		tdx.EXIT_VMFUNC, tdx.EXIT_ENCLS, tdx.EXIT_ENCLV, tdx.EXIT_PCONFIG, tdx.EXIT_UMWAIT, tdx.EXIT_TPAUSE, tdx.EXIT_LOADIWKEY,
		tdx.EXIT_ENQCMD, tdx.EXIT_ENQCMDS, tdx.EXIT_SEAMCALL, tdx.EXIT_TDCALL:
		vp.p.stats.add(countInstruction)
		vp.raiseUD()
		return true
	default:
		return false
	}
	return vp.skip()
}

package snp

import (
	"keel/hcl/abi/snp"
	"keel/hcl/leaves"
)

// instruction executes what the guest may not execute itself and no layer above needs to
// see. It returns false for an exit that is none of these.
func (vp *VP) instruction() bool {
	r := &vp.area.Registers
	switch vp.area.Exit.Code {
	case snp.EXIT_CPUID:
		a, b, c, d := vp.cpuid.Query(uint32(r.RAX), uint32(r.RCX), leaves.State{CR4: vp.area.Special.CR4, XCR0: vp.area.XCR0, XSS: vp.area.XSS})
		r.RAX, r.RBX, r.RCX, r.RDX = uint64(a), uint64(b), uint64(c), uint64(d)
	case snp.EXIT_RDTSC, snp.EXIT_RDTSCP:
		now := vp.hw.TSC(vp.index)
		r.RAX, r.RDX = now&0xffffffff, now>>32
		if vp.area.Exit.Code == snp.EXIT_RDTSCP {
			r.RCX = uint64(vp.area.TSCAux)
		}
	case snp.EXIT_XSETBV:
		value := r.RDX<<32 | r.RAX&0xffffffff
		if vp.area.CPL != 0 || uint32(r.RCX) != 0 || !vp.cpuid.ValidXCR0(value, vp.area.Special.CR4) {
			vp.p.stats.add(countXCR0)
			vp.raiseGP()
			return true
		}
		vp.area.XCR0 = value
	case snp.EXIT_WBINVD, snp.EXIT_INVD, snp.EXIT_MONITOR, snp.EXIT_MWAIT, snp.EXIT_MWAIT_COND:
		// Caches are coherent, and a guest that waits a moment too short looks again.
	case snp.EXIT_RDPMC:
		vp.p.stats.add(countInstruction)
		vp.raiseGP()
		return true
	case snp.EXIT_VMRUN, snp.EXIT_VMMCALL, snp.EXIT_VMLOAD, snp.EXIT_VMSAVE, snp.EXIT_STGI, snp.EXIT_CLGI, snp.EXIT_SKINIT,
		snp.EXIT_INVLPGA, snp.EXIT_INVLPGB, snp.EXIT_INVLPGB_ILLEGAL, snp.EXIT_RSM, snp.EXIT_RDPRU, snp.EXIT_VMGEXIT:
		vp.p.stats.add(countInstruction)
		vp.raiseUD()
		return true
	default:
		return false
	}
	return vp.skip()
}

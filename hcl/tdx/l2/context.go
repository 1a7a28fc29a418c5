package l2

// Context is what of an L2 is in no VMCS and not in its EnterState, but in registers that
// the processor has only once (TD Partitioning, "L2 VCPU State": registers that L1 must
// switch): L1's kernel loads it before TDG.VP.ENTER and stores it afterwards. The x87,
// SSE and AVX registers it switches too, without showing them.
type Context struct {
	CR2                                      uint64
	DR0, DR1, DR2, DR3, DR6                  uint64
	XCR0, XSS                                uint64
	STAR, LSTAR, CSTAR, SFMASK, KernelGSBase uint64
	TSCAux                                   uint64
}

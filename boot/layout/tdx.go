package layout

import "keel/hcl/abi/x86"

// tdxReset is the page with a TD's reset vector, the last below 4 GiB, and
// tdxVector the vector's offset in it. Every VP of a TD begins there in 32-bit
// protected mode: flat segments, paging off, EFER.LME set, ESI = its number (TDX
// module base architecture, "Initial State of Guest GPRs", "... of CRs").
const (
	tdxReset  = x86.GPA(0xfffff000)
	tdxVector = 0xff0
)

// tdxEntry returns that page. All other registers are the host's to choose in
// part, so that enterShim sets them all.
func (img *Image) tdxEntry() ([]byte, error) {
	c := &code{base: img.Isolation.TDXEntry}
	c.emit(0x85, 0xf6)     // test %esi,%esi: the VP's number
	boot := c.jump(opJZ)   // jz boot
	park := len(c.text)    // park: the shim starts no other VP yet
	c.emit(0xf3, 0x90)     // pause
	c.back(opJMP, park)    // jmp park: HLT would be a #VE, and there is no IDT
	boot()                 // boot:
	c.enterShim(&img.Info) // the page tables need no bit: clear means private
	b, err := c.page(&img.Info)
	if err != nil {
		return nil, err
	}
	vector := &code{base: c.base + tdxVector}
	vector.emit(0xe9, c.base-vector.here()-5) // jmp to the page's begin
	copy(b[tdxVector:], vector.text)
	return b, nil
}

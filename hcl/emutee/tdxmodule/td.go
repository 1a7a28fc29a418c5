// Package tdxmodule is an emulated TDX module, as the first level (L1) of a trust
// domain sees it that runs nested VMs (L2): the private memory with its page states and
// each VM's attributes, the metadata of the TD and of its VPs, measurements, and the
// ways into an L2 and out of it. It decides what the module would decide and touches no
// guest memory. Machine is such a TD around a guest, so that the backend for real hardware
// can run over it unchanged.
//
// The specification is followed as version 1.5.01 of the module's published sources
// carries it out. Where it leaves a choice, or speaks of retries, this machine takes
// the stricter side:
//   - a blocked page is refused at once, not from TDH.MEM.TRACK on, so that
//     TLB_TRACKING_NOT_DONE never occurs;
//   - locks are waited for: OPERAND_BUSY never occurs;
//   - no call is interrupted: INTERRUPTED_RESUMABLE never occurs;
//   - the host has provided all tables of the L2 page tables: L2_SEPT_WALK_FAILED never
//     occurs;
//   - the TD is neither debuggable nor migratable.
//
// An L2 gets no #VE for its memory: the module refuses the attribute SVE, and keeps the
// control "EPT-violation #VE" of an L2 at 0.
//
// Specifications: Intel TDX Module 1.5 ABI (348551), cited as ABI; Base Architecture
// (348549) and TD Partitioning Architecture (354807); Intel SDM vol. 3.
package tdxmodule

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
)

// ErrConfig says that a TD cannot be made.
var ErrConfig = errors.New("emulated TDX module")

// maxMemory bounds the table: 4 bytes a page, so 1 GiB at this size. It lies below the
// shared bit of either width.
const maxMemory = 1 << 40

// Config is what the host fixes when it makes a TD (ABI, "TD_PARAMS").
type Config struct {
	Memory     uint64 // bytes of private memory from address 0, a multiple of 2 MiB
	VMs        int    // how many L2 VMs there are, 0 to 3
	VPs        int    // how many VPs there can be, 1 to 65535
	Wide       bool   // addresses of 52 bits, not 48
	Attributes uint64 // tdx.ATTRIBUTES_SEPT_VE_DISABLE and so on
	XFAM       uint64
	FlexibleVE bool   // L1 may change TD_CTLS.PENDING_VE_DISABLE
	TSCUnits   uint16 // frequency of the TSC, in units of 25 MHz

	// Measurements are the TD's registers when it starts.
	Measurements Measurements
	// Reporter answers TDG.MR.REPORT; nil if nothing does.
	Reporter Reporter
}

// allowedAttributes are those of a TD that this machine can be.
const allowedAttributes = tdx.ATTRIBUTES_SEPT_VE_DISABLE | tdx.ATTRIBUTES_PKS | tdx.ATTRIBUTES_PERFMON

// TD is a trust domain. Its methods may be called from any thread. Check takes no lock;
// no method but New and NewVP allocates.
type TD struct {
	pages   []atomic.Uint32 // entries of 4 KiB
	regions []atomic.Uint32 // entries of 2 MiB
	giants  []giant         // entries of 1 GiB

	config Config
	vps    atomic.Int32
	ctls   atomic.Uint64 // TD_CTLS
	notify atomic.Uint64 // NOTIFY_ENABLES

	measureMu sync.Mutex
	measured  Measurements

	stats counters
}

// giant is 1 GiB of memory: its entry, and the lock that orders those who change the
// entry or one beneath it. Readers take no lock.
type giant struct {
	mu   sync.Mutex
	word atomic.Uint32
}

// New makes a TD whose memory is the host's yet: nothing is mapped. It costs 4 bytes a
// page, of which the kernel provides only what is written.
func New(c Config) (*TD, error) {
	switch {
	case c.Memory == 0 || c.Memory%x86.LargePageSize != 0 || c.Memory > maxMemory:
		return nil, fmt.Errorf("%w: memory of %#x bytes: use a multiple of 2 MiB up to 1 TiB", ErrConfig, c.Memory)
	case c.VMs < 0 || c.VMs > tdx.L2_VMS:
		return nil, fmt.Errorf("%w: %d L2 VMs: use 0 to %d", ErrConfig, c.VMs, tdx.L2_VMS)
	case c.VPs < 1 || c.VPs > 0xffff:
		return nil, fmt.Errorf("%w: %d VPs: use 1 to 65535", ErrConfig, c.VPs)
	case c.Attributes&^allowedAttributes != 0:
		return nil, fmt.Errorf("%w: attributes %#x: only %#x are emulated", ErrConfig, c.Attributes, uint64(allowedAttributes))
	case c.XFAM&(tdx.XFAM_X87|tdx.XFAM_SSE) != tdx.XFAM_X87|tdx.XFAM_SSE:
		return nil, fmt.Errorf("%w: XFAM %#x: x87 and SSE cannot be off", ErrConfig, c.XFAM)
	}
	t := &TD{
		pages:    make([]atomic.Uint32, c.Memory>>x86.PageShift),
		regions:  make([]atomic.Uint32, c.Memory>>shiftOf(tdx.LEVEL_2M)),
		giants:   make([]giant, (c.Memory+1<<shiftOf(tdx.LEVEL_1G)-1)>>shiftOf(tdx.LEVEL_1G)),
		config:   c,
		measured: c.Measurements,
	}
	if c.Attributes&tdx.ATTRIBUTES_SEPT_VE_DISABLE != 0 {
		t.ctls.Store(tdx.TD_CTLS_PENDING_VE_DISABLE)
	}
	return t, nil
}

// VMs returns how many L2 VMs there are.
func (t *TD) VMs() int { return t.config.VMs }

// SharedBit is the bit that marks an address as shared with the host.
func (t *TD) SharedBit() x86.GPA {
	if t.config.Wide {
		return tdx.GPA_SHARED_52
	}
	return tdx.GPA_SHARED_48
}

// private tells whether an address is a valid private one (Base Architecture,
// "Guest Physical Address Space").
func (t *TD) private(gpa x86.GPA) bool {
	return t.shape(gpa) && gpa&t.SharedBit() == 0
}

// shape tells whether no bit is set above the address width.
func (t *TD) shape(gpa x86.GPA) bool {
	return gpa>>tdx.GPA_WIDTH_52 == 0 && (t.config.Wide || gpa&tdx.GPA_ABOVE_48_MASK == 0)
}

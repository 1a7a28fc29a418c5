package nvme

import (
	"fmt"
	"time"
)

// Names and numbers are those of the "NVM Express Base Specification", revision
// 1.4; sections are given as "NVMe §".

// classCode of an NVM Express I/O controller: mass storage, non-volatile memory,
// NVM Express (NVMe §2.1.5).
const classCode = 0x010802

// registerBAR is the base address register of the controller's registers
// (NVMe §2.1.10).
const registerBAR = 0

// Controller registers (NVMe §3.1).
const (
	regCAP  = 0x00
	regVS   = 0x08
	regCC   = 0x14
	regCSTS = 0x1c
	regAQA  = 0x24
	regASQ  = 0x28
	regACQ  = 0x30

	regDoorbells = 0x1000
)

// CC, controller configuration (NVMe §3.1.5). Page size 4 KiB, the NVM command set
// and round robin are zeroes.
const (
	ccEnable         = 1 << 0
	ccShutdownMask   = 3 << 14
	ccShutdownNormal = 1 << 14
	ccEntrySizes     = 6<<16 | 4<<20 // IOSQES, IOCQES: 64 and 16 bytes
)

// CSTS, controller status (NVMe §3.1.6).
const (
	cstsReady        = 1 << 0
	cstsFatal        = 1 << 1
	cstsShutdownMask = 3 << 2
	cstsShutdownDone = 2 << 2
)

// allOnes is what a read of a function that is gone gives.
const allOnes = ^uint32(0)

const (
	pageSize   = 4096
	pageShift  = 12
	entrySize  = 64 // of a submission queue
	resultSize = 16 // of a completion queue's entry
	minVersion = 1 << 16
)

// capabilities is the CAP register (NVMe §3.1.1).
type capabilities uint64

// entries returns how many entries a queue may have.
func (c capabilities) entries() int { return int(c&0xffff) + 1 }

// timeout returns how long the controller may take to become ready or to stop.
func (c capabilities) timeout() time.Duration {
	return max(time.Duration(c>>24&0xff), 1) * 500 * time.Millisecond
}

// stride returns the bytes from one doorbell to the next.
func (c capabilities) stride() int { return 4 << (c >> 32 & 0xf) }

// check refuses a controller that the driver cannot run, whose registers take size
// bytes.
func (c capabilities) check(version uint32, size int) error {
	switch {
	case uint64(c) == ^uint64(0):
		return fmt.Errorf("%w: registers read as all ones", errNoAnswer)
	case version < minVersion || version == allOnes:
		return fmt.Errorf("version register is %#x", version)
	case c.entries() < 2:
		return fmt.Errorf("queues of %d entries", c.entries())
	case c>>37&1 == 0:
		return fmt.Errorf("no NVM command set (CAP is %#x)", uint64(c))
	case c>>48&0xf != 0:
		return fmt.Errorf("smallest page is %d bytes", pageSize<<(c>>48&0xf))
	case c.doorbells(0) > size:
		return fmt.Errorf("doorbells beyond the registers' %d bytes", size)
	}
	return nil
}

// doorbells returns where the doorbells of a queue pair end (NVMe §3.1.24).
func (c capabilities) doorbells(id int) int {
	return regDoorbells + (2*id+2)*c.stride()
}

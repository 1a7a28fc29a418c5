package tis

import "keel/vtpm/front"

// ones is what reads where nothing answers.
const ones = ^uint32(0)

const offsetMask = front.PageSize - 1

func locality(offset uint64) uint8 { return uint8(offset / front.PageSize) }

// isFIFO tells whether an offset in a page belongs to the byte stream.
func isFIFO(at uint64) bool {
	return at-regFIFO < fifoSize || at-regXFIFO < xfifoSize
}

// ReadMMIO reads bytes of any number of registers, lowest first. Each byte of the FIFO
// that is read is taken from the stream.
func (d *TIS) ReadMMIO(offset uint64, size int) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var v uint64
	for i := 0; i < size; {
		at := offset + uint64(i)
		n := min(int(4-at&3), size-i)
		v |= uint64(d.read(at, n)) & (1<<(8*n) - 1) << (8 * i)
		i += n
	}
	return v
}

// read reads n bytes of one register; offset is that of the first.
func (d *TIS) read(offset uint64, n int) uint32 {
	locality, at := locality(offset), offset&offsetMask
	if locality >= front.LocalityHardware {
		return ones
	}
	if !isFIFO(at) {
		return d.word(locality, at&^3) >> (8 * (at & 3))
	}
	if !d.arbiter.Holds(locality) {
		return ones
	}
	var v uint32
	for i := range n {
		v |= uint32(d.get()) << (8 * i)
	}
	return v
}

// word returns the register at an aligned offset of a page, other than the FIFO.
func (d *TIS) word(locality uint8, reg uint64) uint32 {
	switch reg {
	case regAccess:
		return d.access(locality)
	case regIntfCap:
		return intfCap
	case regStatus:
		if !d.arbiter.Holds(locality) {
			return ones
		}
		return d.status()
	case regIntfID:
		return intfID
	case regVendor:
		return vendor
	case regRevision:
		return revision
	}
	return 0
}

func (d *TIS) access(locality uint8) uint32 {
	a := &d.arbiter
	return accessValid | accessEstablished |
		flag(a.Holds(locality), accessActive) |
		flag(a.Waits(locality), accessRequest) |
		flag(a.OthersWait(locality), accessPending) |
		flag(a.WasSeized(locality), accessSeized)
}

func (d *TIS) status() uint32 {
	v, burst := uint32(statusAlways), 0
	switch d.state {
	case ready:
		v |= statusReady
		burst = len(d.buffer)
	case reception:
		if d.expects() {
			v |= statusExpect
			burst = len(d.buffer) - d.filled
		}
	case completion:
		burst = d.filled - d.taken
		v |= flag(burst != 0, statusAvailable)
	default: // nothing can be read or written
	}
	return v | uint32(min(burst, burstMax))<<statusBurstShift
}

func flag(on bool, bits uint32) uint32 {
	if on {
		return bits
	}
	return 0
}

// WriteMMIO writes bytes of any number of registers, lowest first. Each byte that is
// written to the FIFO is put into the stream.
func (d *TIS) WriteMMIO(offset uint64, size int, value uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := 0; i < size; {
		at := offset + uint64(i)
		n := min(int(4-at&3), size-i)
		d.write(at, n, uint32(value>>(8*i)))
		i += n
	}
}

// write writes n bytes of one register; offset is that of the first. Bits of bytes that
// are not written count as 0, which has no effect in any register.
func (d *TIS) write(offset uint64, n int, value uint32) {
	locality, at := locality(offset), offset&offsetMask
	if locality >= front.LocalityHardware {
		d.refused.Add(1)
		return
	}
	v := value & (1<<(8*n) - 1) << (8 * (at & 3))
	if at&^3 == regAccess {
		d.setAccess(locality, v)
		return
	}
	if !d.arbiter.Holds(locality) {
		d.refused.Add(1)
		return
	}
	switch {
	case isFIFO(at):
		for i := range n {
			d.put(byte(value >> (8 * i)))
		}
	case at&^3 == regStatus:
		d.setStatus(locality, v)
	default:
		d.refused.Add(1)
	}
}

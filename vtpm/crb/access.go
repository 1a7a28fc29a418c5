package crb

import (
	"encoding/binary"

	"keel/vtpm/front"
)

// ones is what reads where nothing answers.
const ones = ^uint32(0)

const offsetMask = front.PageSize - 1

func locality(offset uint64) uint8 { return uint8(offset / front.PageSize) }

// ReadMMIO reads bytes of any number of registers. No read has an effect.
func (c *CRB) ReadMMIO(offset uint64, size int) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := offset & offsetMask; at >= regData && at+uint64(size) <= front.PageSize {
		return c.readData(locality(offset), at-regData, size)
	}
	var v uint64
	for i := 0; i < size; {
		at := offset + uint64(i)
		lane := at & 3
		v |= uint64(c.word(at&^3)>>(8*lane)) << (8 * i)
		i += int(4 - lane)
	}
	return v
}

// readData reads the buffer. Nobody but the holder sees it, and nobody while a command
// runs.
func (c *CRB) readData(locality uint8, at uint64, size int) uint64 {
	if !c.arbiter.Holds(locality) || c.state == execution {
		return ^uint64(0)
	}
	var b [8]byte
	copy(b[:size], c.buffer[at:])
	return binary.LittleEndian.Uint64(b[:])
}

// word returns the register at an aligned offset of the window. Who does not hold the TPM
// sees one that is idle.
func (c *CRB) word(offset uint64) uint32 {
	locality, reg := locality(offset), offset&offsetMask
	if locality >= front.LocalityHardware {
		return ones
	}
	holds := c.arbiter.Holds(locality)
	buffer := uint32(c.base) + uint32(locality)*front.PageSize + regData
	switch reg {
	case regLocState:
		return c.locState()
	case regLocSts:
		return flag(holds, stsGranted) | flag(c.arbiter.WasSeized(locality), stsSeized)
	case regIntfID:
		return intfID
	case regVendor:
		return vendor
	case regCtrlSts:
		return flag(!holds || c.state == idle, ctrlIdle)
	case regCancel:
		return flag(holds, c.cancel)
	case regStart:
		return flag(holds && c.state == execution, startInvoke)
	case regCmdSize, regRspSize:
		return dataSize
	case regCmdLow, regRspLow:
		return buffer
	}
	if reg >= regData {
		return uint32(c.readData(locality, reg-regData, 4))
	}
	return 0
}

func (c *CRB) locState() uint32 {
	v := uint32(stateValid | stateEstablished)
	if holder, ok := c.arbiter.Holder(); ok {
		v |= stateAssigned | uint32(holder)<<stateLocalityShift
	}
	return v
}

func flag(on bool, bits uint32) uint32 {
	if on {
		return bits
	}
	return 0
}

// WriteMMIO writes bytes of any number of registers, lowest first.
func (c *CRB) WriteMMIO(offset uint64, size int, value uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := offset & offsetMask; at >= regData && at+uint64(size) <= front.PageSize {
		c.writeData(locality(offset), at-regData, size, value)
		return
	}
	for i := 0; i < size; {
		at := offset + uint64(i)
		n := min(int(4-at&3), size-i)
		c.write(at, n, uint32(value>>(8*i)))
		i += n
	}
}

// writeData writes the buffer. The first byte after a response begins a new command, in
// which nothing of the response is left.
func (c *CRB) writeData(locality uint8, at uint64, size int, value uint64) {
	switch {
	case !c.arbiter.Holds(locality), c.state == idle, c.state == execution:
		c.refused.Add(1)
		return
	case c.state == completion:
		clear(c.buffer[:])
	}
	c.state = reception
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], value)
	copy(c.buffer[at:], b[:size])
}

// write writes n bytes of one register; offset is that of the first.
func (c *CRB) write(offset uint64, n int, value uint32) {
	locality, reg, lane := locality(offset), offset&offsetMask&^3, offset&3
	if reg >= regData {
		c.writeData(locality, offset&offsetMask-regData, n, uint64(value))
		return
	}
	// All bits that can be written are in the lowest byte.
	if locality >= front.LocalityHardware || lane != 0 {
		c.refused.Add(1)
		return
	}
	value &= 0xff
	if reg == regLocCtrl {
		c.control(locality, value)
		return
	}
	if !c.arbiter.Holds(locality) {
		c.refused.Add(1)
		return
	}
	switch reg {
	case regCtrlReq:
		c.request(value)
	case regCancel:
		c.setCancel(value)
	case regStart:
		c.start(locality, value)
	default:
		c.refused.Add(1)
	}
}

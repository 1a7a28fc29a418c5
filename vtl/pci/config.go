package pci

import "encoding/binary"

func put16(b []byte, v uint16) { binary.LittleEndian.PutUint16(b, v) }
func put32(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }

// ReadConfig reads 1, 2 or 4 bytes of configuration space, naturally aligned.
// Space without registers reads as zero.
func (e *Endpoint) ReadConfig(offset uint16, size int) uint32 {
	if !aligned(offset, size) {
		e.lost.Add(1)
		return ^uint32(0)
	}
	if int(offset) >= headerSpace {
		return 0
	}
	if p := e.handler(int(offset)); p != nil {
		return p.handler.ReadCapability(int(offset)-p.first, size)
	}
	e.mu.Lock()
	v := e.dword(int(offset) &^ 3)
	e.mu.Unlock()
	return v >> (8 * (offset & 3)) & mask(size)
}

// WriteConfig writes 1, 2 or 4 bytes of configuration space, naturally aligned.
// Read-only registers keep what they are.
func (e *Endpoint) WriteConfig(offset uint16, size int, value uint32) {
	if !aligned(offset, size) {
		e.lost.Add(1)
		return
	}
	if int(offset) >= headerSpace {
		return
	}
	if p := e.handler(int(offset)); p != nil {
		p.handler.WriteCapability(int(offset)-p.first, size, value)
		return
	}
	shift := 8 * (offset & 3)
	e.mu.Lock()
	defer e.mu.Unlock()
	at := int(offset) &^ 3
	old := e.dword(at)
	m := mask(size) << shift
	e.setDword(at, old&^m|value<<shift&m)
}

func aligned(offset uint16, size int) bool {
	return (size == 1 || size == 2 || size == 4) && int(offset)&(size-1) == 0
}

func mask(size int) uint32 { return uint32(uint64(1)<<(8*size) - 1) }

// handler returns the capability that answers an access, nil when that is the
// header's business. The first dword of each is.
func (e *Endpoint) handler(offset int) *placed {
	for i := range e.handlers {
		if p := &e.handlers[i]; offset >= p.first+4 && offset <= p.last {
			return p
		}
	}
	return nil
}

// dword reads a register. The caller holds mu.
func (e *Endpoint) dword(at int) uint32 {
	v := binary.LittleEndian.Uint32(e.template[at:])
	switch {
	case at == regCommand:
		return v | uint32(e.command)
	case at == regCacheLine:
		return v | uint32(e.cacheLine)
	case at == regInterrupt:
		return v | uint32(e.line)
	case at == e.msixAt && e.msix != nil:
		return v | uint32(e.control)<<(8*msixControl)
	case at >= regBAR && at < regBAR+6*bytesPerBAR:
		b, high := e.bar(at)
		switch {
		case b == nil:
			return 0
		case high:
			return uint32(b.value >> 32)
		}
		return uint32(b.value) | b.flags
	}
	return v
}

// setDword writes a register: value is what it would be if all its bits were
// writable. The caller holds mu.
func (e *Endpoint) setDword(at int, value uint32) {
	switch {
	case at == regCommand:
		e.command = uint16(value) & commandWritable
	case at == regCacheLine:
		e.cacheLine = uint8(value)
	case at == regInterrupt:
		e.line = uint8(value)
	case at == e.msixAt && e.msix != nil:
		e.control = uint16(value>>(8*msixControl)) & (msixControlEnable | msixControlMask)
	case at >= regBAR && at < regBAR+6*bytesPerBAR:
		b, high := e.bar(at)
		switch {
		case b == nil:
			return
		case high:
			b.value = b.value&0xffffffff | uint64(value)<<32
		default:
			b.value = b.value&^0xffffffff | uint64(value)
		}
		// The bits that the size covers are not there: this is how software
		// learns the size (PCI 3.0 §6.2.5.1).
		b.value &^= b.size - 1
	default:
		return
	}
	e.apply()
}

// bar returns the BAR that has a register, and whether it is its upper half.
func (e *Endpoint) bar(at int) (b *decoder, high bool) {
	index := (at - regBAR) / bytesPerBAR
	for i := range e.bars {
		b := &e.bars[i]
		if b.index == index {
			return b, false
		}
		if b.wide && b.index+1 == index {
			return b, true
		}
	}
	return nil, false
}

package virtio

import (
	"encoding/binary"
	"sync"

	"keel/vtl/pci"
)

// registers is the BAR with the device's structures.
type registers struct{ d *Device }

// ReadMMIO reads a structure.
func (r registers) ReadMMIO(offset uint64, size int) uint64 {
	at := offset % regionSize
	switch offset - at {
	case regionCommon:
		return r.d.readCommon(at, size)
	case regionISR:
		if at == 0 {
			return uint64(r.d.isr.Swap(0)) // reading clears it (§4.1.4.5)
		}
	case regionDevice:
		return r.d.readConfig(at, size)
	case regionNotify:
		return 0 // there is nothing to read
	}
	r.d.refuse()
	return 0
}

// WriteMMIO writes a structure. The address of a notification names the queue
// (§4.1.4.4).
func (r registers) WriteMMIO(offset uint64, size int, value uint64) {
	at := offset % regionSize
	switch offset - at {
	case regionNotify:
		q := at / notifyMultiplier
		if at%notifyMultiplier == 0 && (size == 2 || size == 4) && q < uint64(len(r.d.queues)) {
			r.d.queues[q].Kick()
			return
		}
	case regionCommon:
		r.d.writeCommon(at, size, value)
		return
	case regionDevice:
		if at < r.d.configLen && r.d.configLen-at >= uint64(size) && size <= 4 {
			r.d.handler.WriteConfig(int(at), size, uint32(value))
			return
		}
	}
	r.d.refuse()
}

// ports is the BAR for notifications: a write of a queue's number to a port leaves the
// guest without an instruction that must be decoded.
type ports struct{ d *Device }

// ReadPIO reads zero: there is nothing to read.
func (ports) ReadPIO(uint16, int) uint32 { return 0 }

// WritePIO takes a notification. Without VIRTIO_F_NOTIFICATION_DATA it is the number of
// the queue, of 16 bits (§4.1.5.2).
func (p ports) WritePIO(offset uint16, size int, value uint32) {
	if offset == 0 && size == 2 && value < uint32(len(p.d.queues)) {
		p.d.queues[value].Kick()
		return
	}
	p.d.refuse()
}

// readConfig reads the type's configuration.
func (d *Device) readConfig(at uint64, size int) uint64 {
	if at >= d.configLen || d.configLen-at < uint64(size) || size > 4 {
		d.refuse()
		return 0
	}
	return uint64(d.handler.ReadConfig(int(at), size))
}

// capabilities returns the list that leads drivers to the structures (§4.1.4). Of two
// of a kind a driver takes the first that it can use: the ports go first.
func (d *Device) capabilities() []pci.Capability {
	list := []pci.Capability{
		capability(capTypeCommon, registerBAR, regionCommon, commonSize, capPlain),
		capability(capTypeNotify, portBAR, 0, portBARSize, capWithExtra), // its multiplier is 0
		capability(capTypeNotify, registerBAR, regionNotify, uint32(len(d.queues)*notifyMultiplier), capWithExtra),
		capability(capTypeISR, registerBAR, regionISR, 1, capPlain),
	}
	binary.LittleEndian.PutUint32(list[2].Body[capExtra-capHeader:], notifyMultiplier)
	if d.configLen != 0 {
		list = append(list, capability(capTypeDevice, registerBAR, regionDevice, uint32(d.configLen), capPlain))
	}
	access := capability(capTypeAccess, registerBAR, 0, 0, capWithExtra)
	access.Handler = &d.access
	return append(list, access)
}

func capability(kind, bar byte, offset, size uint32, length byte) pci.Capability {
	b := make([]byte, length-capHeader)
	b[capLength-capHeader], b[capType-capHeader], b[capBAR-capHeader] = length, kind, bar
	binary.LittleEndian.PutUint32(b[capOffset-capHeader:], offset)
	binary.LittleEndian.PutUint32(b[capSize-capHeader:], size)
	return pci.Capability{ID: pci.CapabilityVendor, Body: b}
}

// configAccess reaches BARs through configuration space (§4.1.4.9): the driver
// writes BAR, offset and length, and then reads or writes the data register.
type configAccess struct {
	device *Device

	mu   sync.Mutex
	regs [capWithExtra]byte
}

func (a *configAccess) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.regs = [capWithExtra]byte{}
}

// ReadCapability reads a register, or through the data register.
func (a *configAccess) ReadCapability(offset, size int) uint32 {
	if offset >= capExtra {
		bar, at, n, ok := a.target(offset)
		if !ok {
			return 0
		}
		return uint32(bar.ReadMMIO(at, n) & (1<<(8*n) - 1))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var v [4]byte
	copy(v[:size], a.regs[offset:])
	return binary.LittleEndian.Uint32(v[:])
}

// WriteCapability writes a register, or through the data register.
func (a *configAccess) WriteCapability(offset, size int, value uint32) {
	if offset >= capExtra {
		if bar, at, n, ok := a.target(offset); ok {
			bar.WriteMMIO(at, n, uint64(value)&(1<<(8*n)-1))
		}
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var v [4]byte
	binary.LittleEndian.PutUint32(v[:], value)
	copy(a.regs[offset:], v[:size])
	clear(a.regs[capBAR+1 : capOffset]) // identification and padding
}

// mmio is what a BAR has behind it.
type mmio interface {
	ReadMMIO(offset uint64, size int) uint64
	WriteMMIO(offset uint64, size int, value uint64)
}

// target checks what the registers say: 1, 2 or 4 bytes, aligned, inside a BAR.
func (a *configAccess) target(offset int) (bar mmio, at uint64, size int, ok bool) {
	a.mu.Lock()
	index := int(a.regs[capBAR])
	at = uint64(binary.LittleEndian.Uint32(a.regs[capOffset:]))
	n := binary.LittleEndian.Uint32(a.regs[capSize:])
	a.mu.Unlock()
	d, length := a.device.endpoint.BAR(index)
	if offset != capExtra || d == nil || n != 1 && n != 2 && n != 4 ||
		at%uint64(n) != 0 || at >= length || length-at < uint64(n) {
		a.device.refuse()
		return nil, 0, 0, false
	}
	return d, at, int(n), true
}

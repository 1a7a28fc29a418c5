// Package pcihost emulates a PCI host bridge: configuration through ports
// CF8h/CFCh and through the memory-mapped window (ECAM), the windows in which
// functions have their memory, and the bridge's own function 00:00.0. Functions
// that nobody added read as all ones.
package pcihost

import (
	"errors"
	"fmt"
	"sync/atomic"

	"keel/hcl/abi/x86"
	"keel/vtl/bus"
)

// ErrAdd is the stage of a function that cannot be added.
var ErrAdd = errors.New("add PCI function")

var (
	errBadAddress = errors.New("address out of range")
	errTaken      = errors.New("address taken")
)

// Function is the configuration space of one PCI function. Accesses are 1, 2 or
// 4 bytes long and naturally aligned; offsets are below 100h through the ports
// and below 1000h through ECAM. Methods may be called from several VPs at once.
type Function interface {
	ReadConfig(offset uint16, size int) uint32
	WriteConfig(offset uint16, size int, value uint32)
}

// Address is the place of a function: bus, device and function number as PCI
// packs them into 16 bits.
type Address uint16

// MakeAddress packs an address on bus 0 to 255. Preconditions: device < 32 and
// function < 8.
func MakeAddress(bus, device, function uint8) Address {
	return Address(bus)<<8 | Address(device&31)<<3 | Address(function&7)
}

// String returns the usual notation.
func (a Address) String() string {
	return fmt.Sprintf("%02x:%02x.%x", uint8(a>>8), uint8(a>>3)&31, uint8(a)&7)
}

// Host is the bridge. It implements bus.PIODevice over PortCount ports from
// Port, bus.MMIODevice over ECAMSize bytes, or fewer where guests need not look
// at all buses, and bus.Resetter. Functions are added before any VP runs and
// only read afterwards.
type Host struct {
	reset     bus.PIODevice
	address   atomic.Uint32
	functions map[Address]Function
	decoders  []decoder // the functions with BARs, by address
	unclaimed atomic.Uint64
}

// New returns a host bridge with an otherwise empty bus. ecam is where the owner
// maps the window, which the bridge's PCIEXBAR shows; resetControl gets the byte
// accesses to port CF9h, at its offset 0.
func New(ecam x86.GPA, resetControl bus.PIODevice) *Host {
	return &Host{
		reset:     resetControl,
		functions: map[Address]Function{0: newBridge(ecam)},
	}
}

// Add places a function. It fails when the address is taken, or has no function
// 0 beside it, without which guests never look (PCI 3.0 §3.2.2.3.4). A function
// that is a Decoder is found through the windows too.
// Preconditions: no VP runs.
func (h *Host) Add(at Address, f Function) error {
	if _, ok := h.functions[at&^7]; !ok && at&7 != 0 {
		return fmt.Errorf("%w: %s: %w", ErrAdd, at, errBadAddress)
	}
	if _, ok := h.functions[at]; ok {
		return fmt.Errorf("%w: %s: %w", ErrAdd, at, errTaken)
	}
	h.functions[at] = f
	h.addDecoder(at, f)
	return nil
}

// Reset clears the address latch. Functions are reset by their owners.
func (h *Host) Reset() { h.address.Store(0) }

// ReadPIO reads the address latch, data, or the reset control register.
func (h *Host) ReadPIO(offset uint16, size int) uint32 {
	switch {
	case offset == portAddress && size == 4:
		return h.address.Load()
	case offset == portReset && size == 1:
		return h.reset.ReadPIO(0, 1)
	case offset >= portData:
		if at, reg, ok := h.target(offset); ok {
			return h.read(at, reg, size)
		}
	}
	return ^uint32(0)
}

// WritePIO writes the address latch, data, or the reset control register.
// Other accesses to the latch's ports are none of it (PCI 3.0 §3.2.2.3.2).
func (h *Host) WritePIO(offset uint16, size int, value uint32) {
	switch {
	case offset == portAddress && size == 4:
		h.address.Store(value & addressMask)
	case offset == portReset && size == 1:
		h.reset.WritePIO(0, 1, value)
	case offset >= portData:
		if at, reg, ok := h.target(offset); ok {
			h.write(at, reg, size, value)
		}
	}
}

// target decodes the address latch for an access to a data port.
func (h *Host) target(offset uint16) (at Address, reg uint16, ok bool) {
	a := h.address.Load()
	return Address(a >> addressBDFShift), uint16(a&0xfc) | offset&3, a&addressEnable != 0
}

// ReadMMIO reads through ECAM.
func (h *Host) ReadMMIO(offset uint64, size int) uint64 {
	at, reg := Address(offset>>ecamBDFShift), uint16(offset&0xfff)
	v := uint64(h.read(at, reg, min(size, 4)))
	if size == 8 {
		v |= uint64(h.read(at, reg+4, 4)) << 32
	}
	return v
}

// WriteMMIO writes through ECAM.
func (h *Host) WriteMMIO(offset uint64, size int, value uint64) {
	at, reg := Address(offset>>ecamBDFShift), uint16(offset&0xfff)
	h.write(at, reg, min(size, 4), uint32(value))
	if size == 8 {
		h.write(at, reg+4, 4, uint32(value>>32))
	}
}

// limit is the end of a function's configuration space.
const limit = 1 << ecamBDFShift

// read gives a function only aligned accesses: a misaligned one becomes bytes,
// and what reaches past the function's space reads as ones.
func (h *Host) read(at Address, reg uint16, size int) uint32 {
	f, ok := h.functions[at]
	if !ok {
		return ^uint32(0)
	}
	if int(reg)&(size-1) == 0 && reg < limit {
		return f.ReadConfig(reg, size)
	}
	var v uint32
	for i := range size {
		b := uint32(0xff)
		if at := reg + uint16(i); at < limit {
			b = f.ReadConfig(at, 1) & 0xff
		}
		v |= b << (8 * i)
	}
	return v
}

func (h *Host) write(at Address, reg uint16, size int, value uint32) {
	f, ok := h.functions[at]
	if !ok {
		return
	}
	if int(reg)&(size-1) == 0 && reg < limit {
		f.WriteConfig(reg, size, value)
		return
	}
	for i := range size {
		if at := reg + uint16(i); at < limit {
			f.WriteConfig(at, 1, value>>(8*i)&0xff)
		}
	}
}

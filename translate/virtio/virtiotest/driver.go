// Package virtiotest is a guest's driver of virtio over PCI, for tests of devices.
// It reaches the device as a guest does: through configuration space, BARs and
// guest memory.
package virtiotest

import (
	"sync/atomic"
	"testing"

	"keel/hcl/abi/x86"
	"keel/vtl/guestmem"
	"keel/vtl/pci"
)

// Where the driver puts the BARs.
const (
	portBase = 0xc000
	barBase  = x86.GPA(0xc0000000)
	barStep  = x86.GPA(0x100000)
)

// Vectors counts messages by their data. It implements irq.MSITarget.
type Vectors [64]atomic.Uint64

// SignalMSI counts a message.
func (v *Vectors) SignalMSI(_ uint64, data uint32) { v[data%64].Add(1) }

// Count is the number of messages that a vector has sent.
func (v *Vectors) Count(vector int) uint64 { return v[vector].Load() }

// structure is where one of the device's structures lies.
type structure struct {
	gpa  x86.GPA
	size uint32
}

// Driver drives one device.
type Driver struct {
	tb         testing.TB
	function   *pci.Endpoint
	memory     *guestmem.Memory
	common     structure
	isr        structure
	config     structure
	notify     structure
	multiplier uint32
	ports      bool          // notifications may go there
	notified   atomic.Uint32 // times
	next       x86.GPA       // free memory
}

// New finds the device's structures, places its BARs and enables its MSI-X with
// all vectors open, vector n having n as its data. Rings and buffers lie from
// memory's address base on.
func New(tb testing.TB, function *pci.Endpoint, memory *guestmem.Memory, base x86.GPA) *Driver {
	tb.Helper()
	d := &Driver{tb: tb, function: function, memory: memory, next: base}
	d.function.WriteConfig(0x10, 4, uint32(barBase))
	d.function.WriteConfig(0x14, 4, 0)
	d.function.WriteConfig(0x18, 4, uint32(barBase+barStep))
	d.function.WriteConfig(0x1c, 4, portBase)
	d.function.WriteConfig(0x04, 2, 7)
	for at := uint16(function.ReadConfig(0x34, 1)); at != 0; at = uint16(function.ReadConfig(at+1, 1)) {
		d.capability(at)
	}
	if d.common.size == 0 || d.notify.size == 0 || d.isr.size == 0 || d.multiplier == 0 || !d.ports {
		tb.Fatal("the device lacks a structure")
	}
	return d
}

func (d *Driver) capability(at uint16) {
	switch d.function.ReadConfig(at, 1) {
	case 0x11:
		table := barBase + barStep
		for v := range d.function.ReadConfig(at+2, 2)&0x7ff + 1 {
			d.Write(table+x86.GPA(16*v), 8, 0xfee00000)
			d.Write(table+x86.GPA(16*v)+8, 4, uint64(v))
			d.Write(table+x86.GPA(16*v)+12, 4, 0)
		}
		d.function.WriteConfig(at+2, 2, 0x8000)
	case 9:
		s := structure{
			gpa:  barBase + x86.GPA(d.function.ReadConfig(at+4, 1))*barStep/2 + x86.GPA(d.function.ReadConfig(at+8, 4)),
			size: d.function.ReadConfig(at+12, 4),
		}
		switch d.function.ReadConfig(at+3, 1) {
		case 1:
			d.common = s
		case 2:
			if d.function.ReadConfig(at+4, 1) == 3 {
				d.ports = true
				return
			}
			d.notify, d.multiplier = s, d.function.ReadConfig(at+16, 4)
		case 3:
			d.isr = s
		case 4:
			d.config = s
		}
	}
}

// Read reads from a BAR.
func (d *Driver) Read(gpa x86.GPA, size int) uint64 {
	device, offset, ok := d.function.DecodeMMIO(gpa, size)
	if !ok {
		d.tb.Errorf("nobody answers at %#x", gpa)
		return 0
	}
	return device.ReadMMIO(offset, size)
}

// Write writes to a BAR.
func (d *Driver) Write(gpa x86.GPA, size int, value uint64) {
	device, offset, ok := d.function.DecodeMMIO(gpa, size)
	if !ok {
		d.tb.Errorf("nobody answers at %#x", gpa)
		return
	}
	device.WriteMMIO(offset, size, value)
}

// Common reads a field of the common configuration structure.
func (d *Driver) Common(offset x86.GPA, size int) uint64 { return d.Read(d.common.gpa+offset, size) }

// SetCommon writes one.
func (d *Driver) SetCommon(offset x86.GPA, size int, value uint64) {
	d.Write(d.common.gpa+offset, size, value)
}

// Config reads a field of the type's configuration.
func (d *Driver) Config(offset x86.GPA, size int) uint64 { return d.Read(d.config.gpa+offset, size) }

// SetConfig writes one.
func (d *Driver) SetConfig(offset x86.GPA, size int, value uint64) {
	d.Write(d.config.gpa+offset, size, value)
}

// ISR reads and clears the ISR status.
func (d *Driver) ISR() uint64 { return d.Read(d.isr.gpa, 1) }

// Status reads the device status.
func (d *Driver) Status() uint64 { return d.Common(0x14, 1) }

// SetStatus writes it.
func (d *Driver) SetStatus(v uint64) { d.SetCommon(0x14, 1, v) }

// Offered reads the device's features.
func (d *Driver) Offered() uint64 {
	var f uint64
	for i := range uint64(2) {
		d.SetCommon(0x00, 4, i)
		f |= d.Common(0x04, 4) << (32 * i)
	}
	return f
}

// Negotiate resets the device, accepts features and tells whether the device
// took them. Preconditions: nothing is in flight.
func (d *Driver) Negotiate(features uint64) bool {
	d.SetStatus(0)
	if d.Status() != 0 {
		d.tb.Fatal("the device does not come out of its reset")
	}
	d.SetStatus(1)
	d.SetStatus(3)
	for i := range uint64(2) {
		d.SetCommon(0x08, 4, i)
		d.SetCommon(0x0c, 4, features>>(32*i)&0xffffffff)
	}
	d.SetStatus(0xb)
	return d.Status()&8 != 0
}

// Run says that the driver is ready.
func (d *Driver) Run() { d.SetStatus(0xf) }

// Allocate returns n bytes of guest memory, zeroed and aligned to 64 bytes.
func (d *Driver) Allocate(n int) x86.GPA {
	at := d.next
	d.next += x86.GPA(n+63) &^ 63
	clear(d.View(at, n))
	return at
}

// View returns guest memory.
func (d *Driver) View(at x86.GPA, n int) []byte {
	b, err := d.memory.Slice(at, n)
	if err != nil {
		d.tb.Fatal(err)
	}
	return b
}

// Notify tells the device of new chains in a queue.
func (d *Driver) Notify(queue int) {
	d.SetCommon(0x16, 2, uint64(queue))
	d.notifyAt(queue, d.Common(0x1e, 2))
}

// notifyAt takes both ways in turn.
func (d *Driver) notifyAt(queue int, offset uint64) {
	if d.notified.Add(1)%2 == 0 {
		d.Write(d.notify.gpa+x86.GPA(offset*uint64(d.multiplier)), 2, uint64(queue))
		return
	}
	if ports, at, ok := d.function.DecodePIO(portBase, 2); ok {
		ports.WritePIO(at, 2, uint32(queue))
	} else {
		d.tb.Error("nobody answers at the port")
	}
}

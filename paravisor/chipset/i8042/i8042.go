// Package i8042 emulates the keyboard controller of PCs with neither keyboard
// nor mouse: reset, A20 gate and self test are what it is for.
//
// It is an idle controller that answers each command at once, so that a driver
// which probes it meets no time-out. A guest is best told not to look at all, by
// leaving IAPC_BOOT_ARCH bit 1 of the FADT clear (ACPI 6.5 table 5.11).
package i8042

import (
	"sync"

	"keel/vtl/bus"
)

// Controller is the chip. It implements bus.Resetter; Data and Command are its
// two ports.
type Controller struct {
	reset func()

	mu      sync.Mutex
	status  uint8
	config  uint8 // the command byte
	output  uint8 // the output port
	reply   uint8
	pending uint8 // command that waits for its data byte; 0: none
}

// New returns a controller in its reset state. reset is called when the guest
// pulses the reset line, on the VP that wrote, without locks.
func New(reset func()) *Controller {
	c := &Controller{reset: reset}
	c.Reset()
	return c
}

// Reset puts the controller into its power-on state: both devices disabled, the
// A20 gate open.
func (c *Controller) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.config, c.output = statusUnlocked, byteReset, outReset
	c.reply, c.pending = 0, 0
}

// Data returns the device behind DataPort.
func (c *Controller) Data() bus.PIODevice { return (*data)(c) }

// Command returns the device behind CommandPort.
func (c *Controller) Command() bus.PIODevice { return (*command)(c) }

// answer puts a byte into the output buffer. Preconditions: the mutex is held.
func (c *Controller) answer(v uint8) {
	c.reply = v
	c.status |= statusOutputFull
	c.status &^= statusTimeout
}

// noDevice is what becomes of a byte for a device that is not there.
func (c *Controller) noDevice() {
	c.answer(replyResend)
	c.status |= statusTimeout
}

// setConfig stores the command byte, whose system flag shows in the status.
func (c *Controller) setConfig(v uint8) {
	c.config = v & byteMask
	c.status = c.status&^statusSystem | c.config&byteSystem
}

// setOutput drives the output port and reports whether that resets.
func (c *Controller) setOutput(v uint8) (reset bool) {
	c.output = v | outNoReset // a reset ends the write that began it
	return v&outNoReset == 0
}

// data is the controller seen through port 60h.
type data Controller

func (d *data) ReadPIO(_ uint16, _ int) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status &^= statusOutputFull | statusTimeout
	return uint32(d.reply)
}

func (d *data) WritePIO(_ uint16, _ int, value uint32) {
	if (*Controller)(d).write(uint8(value)) {
		d.reset()
	}
}

// write takes a data byte and reports whether it resets.
func (c *Controller) write(v uint8) (reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status &^= statusCommand
	pending := c.pending
	c.pending = 0
	switch pending {
	case cmdWriteByte:
		c.setConfig(v)
	case cmdWriteOutput:
		return c.setOutput(v)
	case cmdLoopKeyboard, cmdLoopAux:
		c.answer(v) // not marked as auxiliary data: there is no such port
	default:
		c.noDevice()
	}
	return false
}

// command is the controller seen through port 64h.
type command Controller

func (p *command) ReadPIO(_ uint16, _ int) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return uint32(p.status)
}

func (p *command) WritePIO(_ uint16, _ int, value uint32) {
	if (*Controller)(p).execute(uint8(value)) {
		p.reset()
	}
}

// execute performs a command and reports whether it resets. Unknown commands
// are ignored, as the chip ignores them.
func (c *Controller) execute(cmd uint8) (reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status |= statusCommand
	c.pending = 0
	switch cmd {
	case cmdReadByte:
		c.answer(c.config)
	case cmdWriteByte, cmdWriteOutput, cmdLoopKeyboard, cmdLoopAux, cmdWriteAux:
		c.pending = cmd
	case cmdDisableAux:
		c.config |= byteDisableAux
	case cmdEnableAux:
		c.config &^= byteDisableAux
	case cmdDisableKeyboard:
		c.config |= byteDisableKeyboard
	case cmdEnableKeyboard:
		c.config &^= byteDisableKeyboard
	case cmdTestAux:
		c.answer(replyAuxStuck)
	case cmdTestKeyboard:
		c.answer(replyKeyboardOK)
	case cmdSelfTest:
		c.setConfig(byteReset | byteSystem)
		c.answer(replySelfTest)
	case cmdReadInput:
		c.answer(replyInput)
	case cmdReadOutput:
		c.answer(c.output)
	case cmdA20Off:
		c.output &^= outA20
	case cmdA20On:
		c.output |= outA20
	default:
		return cmd >= cmdPulse && cmd&outNoReset == 0
	}
	return false
}

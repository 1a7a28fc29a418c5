package nvmetest

import "keel/hcl/pci"

// Registers (NVMe §3.1).
const (
	regCAP  = 0x00
	regVS   = 0x08
	regCC   = 0x14
	regCSTS = 0x1c
	regAQA  = 0x24
	regASQ  = 0x28
	regACQ  = 0x30
	regBell = 0x1000

	ccEnable   = 1
	ccShutdown = 3 << 14
	cstsReady  = 1
	cstsFatal  = 2
	cstsDone   = 2 << 2
)

// registers are the memory-mapped registers.
type registers struct{ c *Controller }

// Registers implements pci.Function.
func (c *Controller) Registers(bar int) (pci.Registers, error) {
	if bar != 0 {
		return nil, pci.ErrLimit
	}
	return registers{c}, nil
}

// Size implements pci.Registers.
func (r registers) Size() int { return r.c.config.Size }

// Read32 implements pci.Registers.
func (r registers) Read32(offset int) uint32 {
	if offset%8 == 4 {
		return uint32(r.Read64(offset-4) >> 32)
	}
	return uint32(r.Read64(offset))
}

// Read64 implements pci.Registers.
func (r registers) Read64(offset int) uint64 {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vanished || c.closed || offset < 0 || offset+8 > c.config.Size {
		return ^uint64(0)
	}
	switch offset {
	case regCAP:
		return c.capabilities()
	case regVS:
		return uint64(c.config.VS)
	case regCC - 4:
		return uint64(c.cc) << 32
	case regCSTS - 4:
		return uint64(c.csts) << 32
	case regAQA - 4:
		return uint64(c.aqa) << 32
	case regASQ:
		return c.asq
	case regACQ:
		return c.acq
	}
	return 0
}

// capabilities is the CAP register: contiguous queues, half a second to become
// ready, the NVM command set, 4 KiB pages.
func (c *Controller) capabilities() uint64 {
	if c.config.CAP != 0 {
		return c.config.CAP
	}
	return uint64(c.config.Entries-1) | 1<<16 | 1<<24 | 1<<37
}

// Write32 implements pci.Registers.
func (r registers) Write32(offset int, value uint32) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vanished || c.closed || offset < 0 || offset+4 > c.config.Size {
		return
	}
	switch {
	case offset == regCC:
		c.configure(value)
	case offset == regAQA:
		c.aqa = value
	case offset >= regBell:
		c.bell(offset-regBell, value)
	}
}

// Write64 implements pci.Registers.
func (r registers) Write64(offset int, value uint64) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch offset {
	case regASQ:
		c.asq = value
	case regACQ:
		c.acq = value
	}
}

// configure is a write to CC.
func (c *Controller) configure(value uint32) {
	before := c.cc
	c.cc = value
	switch {
	case value&ccEnable != 0 && before&ccEnable == 0:
		c.enable()
	case value&ccEnable == 0 && before&ccEnable != 0:
		c.counts.Disables++
		status, late := c.csts, c.late
		for _, h := range c.hung {
			late = append(late, h)
		}
		c.clear()
		if c.faults.StuckReady {
			c.csts, c.late = status, late
		}
	}
	if value&ccShutdown != 0 && before&ccShutdown == 0 {
		c.counts.Shutdowns++
		if !c.faults.NoShutdown {
			c.csts |= cstsDone
		}
	}
}

// enable starts the controller with its admin queues.
func (c *Controller) enable() {
	if value := c.cc; value>>16&0xf != 6 || value>>20&0xf != 4 || value>>7&0xf != 0 {
		c.t.Errorf("CC is %#x", value)
	}
	if c.asq%pageSize != 0 || c.acq%pageSize != 0 {
		c.t.Errorf("admin queues at %#x and %#x", c.asq, c.acq)
	}
	if c.faults.NeverReady {
		return
	}
	c.csts |= cstsReady
	cq := &completionQueue{base: c.acq, size: int(c.aqa>>16&0xfff) + 1, interrupts: true, phase: phaseTag}
	c.cqs[0] = cq
	c.sqs[0] = &submission{base: c.asq, size: int(c.aqa&0xfff) + 1, cq: cq}
}

// Fail makes the controller stop with a fatal status.
func (c *Controller) Fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.csts |= cstsFatal
}

// Vanish makes the registers read as all ones, as those of a controller that was
// pulled out. Nobody is told.
func (c *Controller) Vanish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vanished = true
}

// Unplug takes the function away and tells the driver.
func (c *Controller) Unplug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vanished = true; c.closed {
		return
	}
	select {
	case <-c.gone:
	default:
		close(c.gone)
	}
}

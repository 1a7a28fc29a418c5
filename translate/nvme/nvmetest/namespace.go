package nvmetest

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// add takes up a namespace.
func (c *Controller) add(n Namespace) {
	setDefault(&n.BlockSize, 512)
	setDefault(&n.DLFEAT, 9)
	n.data = make([]byte, n.Blocks*uint64(n.BlockSize))
	c.namespaces[n.ID] = &n
}

// change tells the driver of a change of a namespace, if it wants to know.
func (c *Controller) change(id uint32) {
	c.changed[id] = true
	if c.features[featureEvents]&(1<<8) != 0 {
		c.event(2, 0, 4)
	}
}

// Add makes a namespace appear.
func (c *Controller) Add(n Namespace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(n)
	c.change(n.ID)
}

// Remove makes a namespace go away.
func (c *Controller) Remove(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.namespaces, id)
	c.change(id)
}

// Resize gives a namespace another number of blocks.
func (c *Controller) Resize(id uint32, blocks uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.namespaces[id]
	if n == nil {
		return
	}
	data := make([]byte, blocks*uint64(n.BlockSize))
	copy(data, n.data)
	n.data, n.Blocks = data, blocks
	c.change(id)
}

// Data returns a copy of the contents of a namespace.
func (c *Controller) Data(id uint32) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.namespaces[id].data)
}

// Fill sets the contents of a namespace.
func (c *Controller) Fill(id uint32, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	copy(c.namespaces[id].data, data)
}

// identify writes the Identify Namespace data structure.
func (n *Namespace) identify(b []byte) {
	binary.LittleEndian.PutUint64(b, n.Blocks)
	binary.LittleEndian.PutUint64(b[8:], n.Blocks)
	b[33] = n.DLFEAT
	if n.ReadOnly {
		b[99] = 1
	}
	copy(b[104:], n.NGUID[:])
	copy(b[120:], n.EUI64[:])
	binary.LittleEndian.PutUint32(b[128:], uint32(bits.TrailingZeros(uint(n.BlockSize)))<<16)
}

// io executes a command of the NVM command set (NVMe §6).
func (c *Controller) io(cmd *Command, e []byte, a Action) uint16 {
	if cmd.Opcode == 0x00 {
		c.counts.Flushes++
		return 0
	}
	n := c.namespaces[cmd.NSID]
	if n == nil {
		return statusInvalidNamespace
	}
	if cmd.Opcode == 0x09 {
		return c.deallocate(n, cmd, e)
	}
	if n.ReadOnly && cmd.Opcode != 0x02 && cmd.Opcode != 0x05 {
		return statusProtected
	}
	data, ok := n.run(cmd.LBA, uint64(cmd.Blocks))
	if !ok {
		return statusRange
	}
	if mdts := c.config.MDTS; mdts != 0 && cmd.Opcode != 0x08 && len(data) > pageSize<<mdts {
		c.t.Errorf("command of %d bytes", len(data))
		return statusInvalidField
	}
	same := true
	var move func(b []byte)
	switch cmd.Opcode {
	case 0x01:
		move = func(b []byte) { data = data[copy(data, b):] }
	case 0x02:
		if a.Data != nil {
			a.Data(data)
		}
		move = func(b []byte) { data = data[copy(b, data):] }
	case 0x05:
		move = func(b []byte) {
			same = same && bytes.Equal(b, data[:len(b)])
			data = data[len(b):]
		}
	case 0x08:
		clear(data)
		return 0
	default:
		return statusInvalidOpcode
	}
	if status := c.transfer(e, len(data), move); status != 0 {
		return status
	}
	if !same {
		return statusCompare
	}
	return 0
}

// run returns the contents of blocks.
func (n *Namespace) run(lba, blocks uint64) ([]byte, bool) {
	if lba > n.Blocks || blocks > n.Blocks-lba {
		return nil, false
	}
	size := uint64(n.BlockSize)
	return n.data[lba*size : (lba+blocks)*size], true
}

// deallocate executes Dataset Management (NVMe §6.7).
func (c *Controller) deallocate(n *Namespace, cmd *Command, e []byte) uint16 {
	if n.ReadOnly {
		return statusProtected
	}
	list := make([]byte, 0, pageSize)
	status := c.transfer(e, int(cmd.DW10&0xff+1)*descriptorSize, func(b []byte) { list = append(list, b...) })
	if status != 0 || cmd.DW11&4 == 0 {
		return status
	}
	for ; len(list) > 0; list = list[descriptorSize:] {
		data, ok := n.run(binary.LittleEndian.Uint64(list[8:]), uint64(binary.LittleEndian.Uint32(list[4:])))
		if !ok {
			return statusRange
		}
		clear(data)
	}
	return 0
}

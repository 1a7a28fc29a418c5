package nvmetest

import (
	"encoding/binary"
	"maps"
	"slices"
)

// Statuses.
const (
	statusInvalidOpcode    = 0x001
	statusInvalidField     = 0x002
	statusAborted          = 0x007
	statusInvalidNamespace = 0x00b
	statusRange            = 0x080
	statusProtected        = 0x020
	statusCompare          = 0x285
	statusQueue            = 0x101
	statusTooManyEvents    = 0x105
)

const (
	featureCache  = 0x06
	featureQueues = 0x07
	featureEvents = 0x0b
)

// execute runs a command and tells whether it is answered now.
func (c *Controller) execute(q *submission, cmd *Command, e *[entrySize]byte, a Action) (status uint16, result uint32, answered bool) {
	if q.id != 0 {
		return c.io(cmd, e[:], a), 0, true
	}
	answered = true
	switch cmd.Opcode {
	case 0x00, 0x04:
		status = c.deleteQueue(cmd)
	case 0x01, 0x05:
		status = c.createQueue(cmd, e[:])
	case 0x02:
		status = c.page(e[:], c.log(cmd), a)
	case 0x06:
		data, err := c.identify(cmd)
		if status = err; status == 0 {
			status = c.page(e[:], data, a)
		}
	case 0x08:
		c.counts.Aborts++
		key := [2]uint16{uint16(cmd.DW10), uint16(cmd.DW10 >> 16)}
		result = 1
		if hung := c.hung[key]; hung != nil && !c.faults.IgnoreAborts {
			delete(c.hung, key)
			c.complete(hung.sq, key[1], statusAborted, 0, Action{})
			result = 0
		}
	case 0x09:
		result = cmd.DW11
		if cmd.DW10&0xff == featureQueues {
			n := uint32(c.config.Queues - 1)
			result = n<<16 | n
		}
		c.features[cmd.DW10&0xff] = cmd.DW11
	case 0x0a:
		result = c.features[cmd.DW10&0xff]
	case 0x0c:
		if len(c.waiting) > int(c.config.AERL) {
			c.t.Errorf("%d Asynchronous Event Requests at once", len(c.waiting)+1)
			return statusTooManyEvents, 0, true
		}
		c.waiting = append(c.waiting, waiter{q, cmd.ID})
		c.deliver()
		answered = false
	default:
		status = statusInvalidOpcode
	}
	return status, result, answered
}

// page writes the data of a command, at most a page.
func (c *Controller) page(e, data []byte, a Action) uint16 {
	if a.Data != nil {
		a.Data(data)
	}
	return c.transfer(e, len(data), func(b []byte) {
		data = data[copy(b, data):]
	})
}

// createQueue makes an I/O queue.
func (c *Controller) createQueue(cmd *Command, e []byte) uint16 {
	id, size := uint16(cmd.DW10), int(cmd.DW10>>16)+1
	base := binary.LittleEndian.Uint64(e[24:])
	if id == 0 || int(id) > c.config.Queues || size > c.config.Entries || size < 2 || base%pageSize != 0 || cmd.DW11&1 == 0 {
		c.t.Errorf("queue %d of %d entries at %#x", id, size, base)
		return statusQueue
	}
	if cmd.Opcode == 0x05 {
		vector := int(cmd.DW11 >> 16)
		if vector >= len(c.interrupts) || c.cqs[id] != nil {
			c.t.Errorf("completion queue %d of vector %d", id, vector)
			return statusQueue
		}
		c.cqs[id] = &completionQueue{id: id, base: base, size: size, vector: vector, interrupts: cmd.DW11&2 != 0, phase: phaseTag}
		return 0
	}
	cq := c.cqs[uint16(cmd.DW11>>16)]
	if cq == nil || c.sqs[id] != nil {
		c.t.Errorf("submission queue %d without completion queue", id)
		return statusQueue
	}
	c.sqs[id] = &submission{id: id, base: base, size: size, cq: cq}
	return 0
}

// deleteQueue takes an I/O queue away.
func (c *Controller) deleteQueue(cmd *Command) uint16 {
	id := uint16(cmd.DW10)
	if cmd.Opcode == 0x00 {
		if c.sqs[id] == nil || id == 0 {
			return statusQueue
		}
		delete(c.sqs, id)
		return 0
	}
	if c.cqs[id] == nil || c.sqs[id] != nil || id == 0 {
		if !c.extra {
			c.t.Errorf("completion queue %d deleted before its submission queue", id)
		}
		return statusQueue
	}
	delete(c.cqs, id)
	return 0
}

// log makes a log page.
func (c *Controller) log(cmd *Command) []byte {
	b := make([]byte, min(int(cmd.DW10>>16+1)*4, pageSize))
	if cmd.DW10&0xff == 4 {
		for i, id := range slices.Sorted(maps.Keys(c.changed)) {
			if 4*i+4 <= len(b) {
				binary.LittleEndian.PutUint32(b[4*i:], id)
			}
		}
		clear(c.changed)
	}
	return b
}

// identify makes an Identify data structure (NVMe §5.15).
func (c *Controller) identify(cmd *Command) ([]byte, uint16) {
	b := make([]byte, pageSize)
	n := c.namespaces[cmd.NSID]
	switch cmd.DW10 & 0xff {
	case 0:
		if cmd.NSID == 0 || cmd.NSID > c.config.NN {
			return nil, statusInvalidNamespace
		}
		if n != nil {
			n.identify(b)
		}
	case 1:
		c.identifyController(b)
	case 2:
		if c.config.OldLists {
			return nil, statusInvalidField
		}
		i := 0
		for _, id := range slices.Sorted(maps.Keys(c.namespaces)) {
			if id > cmd.NSID && 4*i+4 <= len(b) {
				binary.LittleEndian.PutUint32(b[4*i:], id)
				i++
			}
		}
	case 3:
		if n == nil {
			return nil, statusInvalidNamespace
		}
		if n.UUID != [16]byte{} {
			b[0], b[1] = 3, 16
			copy(b[4:], n.UUID[:])
		}
	default:
		return nil, statusInvalidField
	}
	return b, 0
}

func (c *Controller) identifyController(b []byte) {
	copy(b[4:24], "                    ")
	copy(b[4:24], c.config.Serial)
	copy(b[24:64], "                                        ")
	copy(b[24:64], c.config.Model)
	b[77] = c.config.MDTS
	binary.LittleEndian.PutUint32(b[92:], 1<<8)
	b[258], b[259] = c.config.ACL, c.config.AERL
	b[512], b[513] = 0x66, 0x44
	binary.LittleEndian.PutUint32(b[516:], c.config.NN)
	binary.LittleEndian.PutUint16(b[520:], c.config.ONCS)
	if !c.config.NoCache {
		b[525] = 1
	}
	binary.LittleEndian.PutUint32(b[536:], c.config.SGL)
}

// deliver completes event requests with events, as long as there are both.
func (c *Controller) deliver() {
	for len(c.waiting) > 0 && len(c.events) > 0 {
		w, e := c.waiting[0], c.events[0]
		c.waiting, c.events = c.waiting[1:], c.events[1:]
		c.complete(w.sq, w.id, 0, e, Action{})
	}
}

// Event makes an asynchronous event: its type, information and log page.
func (c *Controller) Event(kind, info, page byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.event(kind, info, page)
}

func (c *Controller) event(kind, info, page byte) {
	if c.csts&cstsReady == 0 {
		return
	}
	c.events = append(c.events, uint32(kind)|uint32(info)<<8|uint32(page)<<16)
	c.deliver()
}

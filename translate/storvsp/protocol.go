package storvsp

import (
	"encoding/binary"

	"keel/translate/scsi"
	"keel/translate/vmbus"
)

// handle runs an operation of the guest. The command is the queue's and goes back
// with its answer. It returns false when the packet has to wait.
func (q *queue) handle(c *command, p *vmbus.Packet) bool {
	ct := q.ctl
	operation := binary.LittleEndian.Uint32(p.Payload[atOperation:])
	if operation == opExecuteSRB {
		return q.execute(c, p)
	}
	status := uint32(ntInvalidRequest)
	switch operation {
	case opResetBus, opResetAdapter, opResetLUN:
		if ct.ready() {
			q.reset(c, p, operation == opResetLUN)
			return true
		}
		ct.n.badState.Add(1)
		status = ntInvalidState
	case opBeginInit, opQueryVersion, opQueryProperties, opEndInit, opCreateSubChannels:
		// Sub-channels exist when the initialization is over, and are not asked.
		status = ntInvalidState
		if q == &ct.main {
			status = ct.negotiate(operation, p.Payload, &c.answer)
		}
		if status == ntInvalidState {
			ct.n.badState.Add(1)
		}
	default:
		ct.n.badPackets.Add(1)
	}
	q.complete(c, status)
	return true
}

func (ct *Controller) ready() bool { return phase(ct.phase.Load()) == phaseReady }

// negotiate does a step of the initialization. Each is allowed at one moment only.
// Linux creates sub-channels after the end of the initialization, others before it.
func (ct *Controller) negotiate(operation uint32, payload []byte, answer *[packetSize]byte) uint32 {
	at := phase(ct.phase.Load())
	next, status := at, uint32(ntSuccess)
	switch {
	case operation == opBeginInit && at == phaseBegin:
		next = phaseVersion
	case operation == opQueryVersion && at == phaseVersion:
		version := binary.LittleEndian.Uint16(payload[atVersion:])
		binary.LittleEndian.PutUint16(answer[atVersion:], version)
		switch version {
		case versionWin8, versionWin81, versionWin10:
			next = phaseProperties
		default:
			status = ntRevision
		}
	case operation == opQueryProperties && at == phaseProperties:
		binary.LittleEndian.PutUint16(answer[atMaxChannels:], uint16(ct.VPs-1))
		binary.LittleEndian.PutUint32(answer[atFlags:], supportsMulti)
		binary.LittleEndian.PutUint32(answer[atMaxTransfer:], uint32(ct.Transfer))
		next = phaseEnd
	case operation == opCreateSubChannels && (at == phaseEnd || at == phaseReady):
		status = ct.createSubs(int(binary.LittleEndian.Uint16(payload[atSubChannels:])))
	case operation == opEndInit && at == phaseEnd:
		next = phaseReady
	default:
		return ntInvalidState
	}
	// Who serves the first channel alone changes the phase.
	ct.phase.Store(uint32(next))
	return status
}

// reset aborts what is under way, all of it or that of one disk, and answers when
// every aborted command has been answered.
func (q *queue) reset(c *command, p *vmbus.Packet, one bool) {
	c.task.Function, c.task.Initiator, c.task.LUN = scsi.NexusReset, q.ctl.Initiator, 0
	if one && p.Payload[atPath] == 0 && p.Payload[atTarget] == 0 {
		c.task.Function, c.task.LUN = scsi.LogicalUnitReset, uint16(p.Payload[atLUN])
	}
	q.ctl.Target.Manage(&c.task)
}

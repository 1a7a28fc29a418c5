package vsock

import (
	"errors"
	"fmt"
)

// messagesATurn bounds how long the front end can keep the loop from its other work.
const messagesATurn = 16

// control answers the messages that are here. An error ends the device.
func (d *Device) control() error {
	for range messagesATurn {
		m, ok, err := d.channel.receive()
		if err != nil || !ok {
			return err
		}
		d.count.Messages.Add(1)
		answer, err := d.handle(&m)
		closeAll(m.fds)
		acknowledge := m.flags&messageNeedReply != 0 && d.protocol&protocolReplyAck != 0
		switch {
		case err != nil:
			err = fmt.Errorf("%w: request %d: %w", ErrProtocol, m.request, err)
			if acknowledge {
				_ = d.channel.reply(m.request, le.AppendUint64(nil, 1)) // the device ends anyway
			}
		case answer != nil:
			err = d.channel.reply(m.request, answer)
		case acknowledge:
			err = d.channel.reply(m.request, le.AppendUint64(nil, 0))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sizes of the payloads of requests; those with descriptors or of variable length
// are checked by themselves.
func payloadSize(r request) int {
	switch r {
	case reqSetFeatures, reqSetProtocolFeatures, reqSetVringKick, reqSetVringCall, reqSetVringErr:
		return wordBytes
	case reqSetVringNum, reqSetVringBase, reqGetVringBase, reqSetVringEnable:
		return stateBytes
	case reqSetVringAddr:
		return addrBytes
	default:
		return 0
	}
}

// handle obeys a message and returns its answer, nil for those that have none.
func (d *Device) handle(m *message) ([]byte, error) {
	switch m.request {
	case reqSetMemTable:
		return nil, d.setMemory(m)
	case reqGetConfig:
		return d.config(m.payload)
	default:
		if len(m.payload) != payloadSize(m.request) {
			return nil, errShort
		}
	}
	switch m.request {
	case reqGetFeatures:
		return le.AppendUint64(nil, featuresOffered), nil
	case reqSetFeatures:
		return nil, d.setFeatures(le.Uint64(m.payload))
	case reqGetProtocolFeatures:
		return le.AppendUint64(nil, protocolOffered), nil
	case reqSetProtocolFeatures:
		if d.protocol = le.Uint64(m.payload); d.protocol&^protocolOffered != 0 {
			return nil, fmt.Errorf("protocol features %#x were not offered", d.protocol&^protocolOffered)
		}
		return nil, nil
	case reqSetOwner, reqResetOwner:
		return nil, nil
	case reqSetVringKick, reqSetVringCall, reqSetVringErr:
		return nil, d.setEvent(m)
	case reqSetVringNum, reqSetVringBase, reqGetVringBase, reqSetVringEnable, reqSetVringAddr:
		index := le.Uint32(m.payload)
		if index >= queues {
			return nil, errIndex
		}
		return d.setRing(m.request, &d.rings[index], m.payload)
	default:
		return nil, errors.New("unknown")
	}
}

func (d *Device) setFeatures(features uint64) error {
	if refused := features & featuresRefused; refused != 0 {
		return fmt.Errorf("features %#x are not supported: leave iommu_platform, packed and seqpacket off", refused)
	}
	for i := range d.rings {
		r := &d.rings[i]
		if r.started {
			return errActive
		}
		r.indirect, r.events = features&featureIndirect != 0, features&featureEventIndex != 0
		if features&featureProtocol == 0 {
			r.enabled = true // "Ring states"
		}
	}
	return nil
}

// setMemory replaces the memory that the front end shares. Rings may run: from
// here on they lie in the new memory.
func (d *Device) setMemory(m *message) error {
	fresh, err := mapTable(m.payload, m.fds)
	if err != nil {
		return err
	}
	old := d.memory
	d.memory = fresh
	for i := range d.rings {
		r := &d.rings[i]
		r.blind()
		if !r.started || d.broken != nil {
			continue
		}
		if err := r.view(&d.memory); err != nil {
			d.fail(err)
		}
	}
	old.unmap()
	return nil
}

// config answers with the device's configuration space (virtio 1.2 §5.10.4).
// An answer of no length is an error that concerns this request only.
func (d *Device) config(payload []byte) ([]byte, error) {
	if len(payload) < configHeader {
		return nil, errShort
	}
	offset, size := le.Uint32(payload), le.Uint32(payload[4:])
	if int64(size) != int64(len(payload)-configHeader) {
		return nil, errShort
	}
	space := le.AppendUint64(nil, uint64(d.options.CID))
	if uint64(offset)+uint64(size) > uint64(len(space)) {
		return []byte{}, nil
	}
	answer := append([]byte(nil), payload[:configHeader]...)
	return append(answer, space[offset:offset+size]...), nil
}

// setEvent takes an eventfd of a ring. The one for kicks starts it.
func (d *Device) setEvent(m *message) error {
	word := le.Uint64(m.payload)
	index := word & vringIndexMask
	if index >= queues {
		return errIndex
	}
	r := &d.rings[index]
	fd := -1
	if word&vringNoFD == 0 {
		var err error
		if fd, err = m.take(); err != nil {
			return err
		}
	}
	switch m.request {
	case reqSetVringCall:
		closeFD(&r.call)
		r.call = fd
	case reqSetVringErr:
		closeFD(&r.err)
		r.err = fd
	default:
		d.unwatch(&r.kick)
		if fd < 0 {
			return errors.New("rings are not polled")
		}
		r.kick = fd
		if err := d.watch(fd, kickEvent(r.index)); err != nil {
			return err
		}
		return d.start(r)
	}
	if fd >= 0 {
		return nonblocking(fd)
	}
	return nil
}

// setRing handles the messages about a ring that carry no descriptor.
func (d *Device) setRing(q request, r *vring, payload []byte) ([]byte, error) {
	value := le.Uint32(payload[4:])
	switch q {
	case reqGetVringBase:
		return d.stop(r), nil
	case reqSetVringEnable:
		r.enabled = value == 1
		return nil, nil
	case reqSetVringAddr:
		r.desc, r.used, r.avail = le.Uint64(payload[8:]), le.Uint64(payload[16:]), le.Uint64(payload[24:])
		if r.started && d.broken == nil {
			if err := r.view(&d.memory); err != nil {
				d.fail(err)
			}
		}
		return nil, nil
	default:
		return nil, r.configure(q, value)
	}
}

// configure sets the base or the size of a ring that does not run.
func (r *vring) configure(q request, value uint32) error {
	switch {
	case r.started:
		return errActive
	case q == reqSetVringBase:
		r.base = uint16(value)
	case value == 0 || value > maxQueueSize || value&(value-1) != 0:
		return fmt.Errorf("a virtqueue of %d entries", value)
	default:
		r.size = uint16(value)
	}
	return nil
}

// start lets a ring run from its base on. A driver that does not go on where the
// ring was stopped is another one: the connections of the last one are gone.
func (d *Device) start(r *vring) error {
	if r.started {
		return nil // only its event changed
	}
	if r.index != queueEvent && int(r.base) != r.stopped {
		d.fresh()
	}
	r.started, r.next, r.decided, r.quiet = true, r.base, false, false
	if d.broken != nil {
		return nil
	}
	if err := r.view(&d.memory); err != nil {
		d.fail(err)
		return nil
	}
	r.usedIndex = le.Uint16(r.usedRing[ringIndex:])
	d.seen = true
	return nil
}

// stop halts a ring and returns where it stands.
func (d *Device) stop(r *vring) []byte {
	r.started = false
	r.stopped = int(r.next)
	if d.broken != nil {
		r.stopped = -1
	}
	d.unwatch(&r.kick)
	closeFD(&r.call)
	closeFD(&r.err)
	r.blind()
	return le.AppendUint32(le.AppendUint32(nil, uint32(r.index)), uint32(r.next))
}

// fresh forgets everything about a driver that is gone.
func (d *Device) fresh() {
	for _, c := range d.conns {
		if c.used && c.state != stateHello {
			d.release(c)
		}
	}
	d.resets.clear()
	d.broken = nil
}

// fail stops the device until its driver resets it.
func (d *Device) fail(err error) {
	if d.broken != nil {
		return
	}
	d.broken = err
	d.count.Broken.Add(1)
	d.warn("the guest's driver is broken: vsock stops until it resets the device", "error", err)
	for _, c := range d.conns {
		if c.used && c.state != stateHello {
			d.release(c)
		}
	}
	d.resets.clear()
	for i := range d.rings {
		d.rings[i].blind()
		notify(d.rings[i].err)
	}
}

// running tells whether packets can pass.
func (d *Device) running() bool {
	rx, tx := &d.rings[queueRx], &d.rings[queueTx]
	return d.broken == nil && rx.started && rx.enabled && tx.started && tx.enabled
}

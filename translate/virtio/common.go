package virtio

import "math/bits"

// readCommon reads the common configuration structure. Each field is accessed
// whole, those of 64 bits also by halves (§4.1.3.1); other accesses read as zero
// and are counted.
func (d *Device) readCommon(offset uint64, size int) uint64 {
	if offset == regStatus && size == 1 {
		return uint64(uint8(d.status.Load()))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if size == 8 || offset >= regQueueDesc && offset < regQueueNotifyData {
		return d.readAddress(offset, size)
	}
	q := d.selectedQueue()
	switch offset<<3 | uint64(size) {
	case regDeviceFeatureSelect<<3 | 4:
		return uint64(d.deviceSelect)
	case regDeviceFeature<<3 | 4:
		return half(d.offered, d.deviceSelect)
	case regDriverFeatureSelect<<3 | 4:
		return uint64(d.driverSelect)
	case regDriverFeature<<3 | 4:
		return half(d.driver, d.driverSelect)
	case regConfigVector<<3 | 2:
		return uint64(d.configVector.Load())
	case regNumQueues<<3 | 2:
		return uint64(len(d.queues))
	case regGeneration<<3 | 1:
		return 0 // no type changes its configuration (§4.1.4.3.1)
	case regQueueSelect<<3 | 2:
		return uint64(d.selected)
	case regQueueSize<<3 | 2:
		if q != nil {
			return uint64(q.size)
		}
		return 0
	case regQueueVector<<3 | 2:
		if q != nil {
			return uint64(q.vector.Load())
		}
		return NoVector
	case regQueueEnable<<3 | 2:
		return flag(q != nil && q.enabled)
	case regQueueNotifyOffset<<3 | 2:
		if q != nil {
			return uint64(q.index)
		}
		return 0
	case regQueueReset<<3 | 2:
		return flag(q != nil && q.draining != nil)
	case regQueueNotifyData<<3 | 2: // not offered
		return 0
	}
	d.refuse()
	return 0
}

// readAddress reads one of the queue's addresses, or half of it.
func (d *Device) readAddress(offset uint64, size int) uint64 {
	q, at := d.selectedQueue(), (*uint64)(nil)
	if q != nil {
		at = q.address(offset)
	}
	switch {
	case at != nil && size == 8 && offset&7 == 0:
		return *at
	case at != nil && size == 4 && offset&3 == 0:
		return *at >> (8 * (offset & 4)) & 0xffffffff
	}
	d.refuse()
	return 0
}

func flag(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}

// half returns 32 feature bits; there are none beyond 63.
func half(f Features, selector uint32) uint64 {
	if selector > 1 {
		return 0
	}
	return uint64(f>>(32*selector)) & 0xffffffff
}

func (d *Device) selectedQueue() *Queue {
	if int(d.selected) < len(d.queues) {
		return d.queues[d.selected]
	}
	return nil
}

// address returns the register of one of the queue's three addresses.
func (q *Queue) address(offset uint64) *uint64 {
	switch offset &^ 7 {
	case regQueueDesc:
		return &q.desc
	case regQueueDriver:
		return &q.driver
	case regQueueDevice:
		return &q.used
	}
	return nil
}

// writeCommon writes the common configuration structure. What the driver must not
// write is ignored and counted.
func (d *Device) writeCommon(offset uint64, size int, value uint64) {
	if offset == regStatus && size == 1 {
		d.writeStatus(Status(value))
		return
	}
	if proceed := d.writeLocked(offset, size, value); proceed != nil {
		proceed()
	}
}

func (d *Device) writeLocked(offset uint64, size int, value uint64) (proceed func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resetting {
		d.refuse()
		return nil
	}
	switch offset<<3 | uint64(size)&7 {
	case regDeviceFeatureSelect<<3 | 4:
		d.deviceSelect = uint32(value)
	case regDriverFeatureSelect<<3 | 4:
		d.driverSelect = uint32(value)
	case regDriverFeature<<3 | 4:
		d.writeFeatures(value)
	case regConfigVector<<3 | 2:
		d.configVector.Store(d.checkVector(value))
	case regQueueSelect<<3 | 2:
		d.selected = uint16(value)
	default:
		q := d.selectedQueue()
		if q == nil || q.draining != nil {
			d.refuse()
			return nil
		}
		return d.writeQueue(q, offset, size, value)
	}
	return nil
}

// writeFeatures takes the driver's feature bits. They are fixed once they were
// accepted; whether they suit is checked then.
func (d *Device) writeFeatures(value uint64) {
	if Status(d.status.Load())&StatusFeaturesOK != 0 || d.driverSelect > 1 {
		d.refuse()
		return
	}
	shift := 32 * d.driverSelect
	d.driver = d.driver&^(0xffffffff<<shift) | Features(value&0xffffffff)<<shift
}

// checkVector returns what a vector register holds after a write (§4.1.5.1.2.1).
func (d *Device) checkVector(value uint64) uint32 {
	if uint32(value) >= d.vectors {
		return NoVector
	}
	return uint32(value)
}

// writeQueue writes a register of a queue. What describes the ring is fixed while
// the queue is enabled.
func (d *Device) writeQueue(q *Queue, offset uint64, size int, value uint64) (proceed func()) {
	key := offset<<3 | uint64(size)&7
	switch {
	case key == regQueueVector<<3|2:
		q.vector.Store(d.checkVector(value))
		return nil
	case key == regQueueReset<<3|2 && value == 1 && d.Features()&FeatureRingReset != 0:
		return d.beginQueueReset(q)
	case q.enabled:
	case key == regQueueSize<<3|2 && value <= uint64(q.max) && bits.OnesCount64(value) == 1:
		q.size = uint16(value)
		return nil
	case key == regQueueEnable<<3|2 && value == 1 && Status(d.status.Load())&StatusFeaturesOK != 0:
		if err := q.enable(); err != nil {
			d.fail(err)
		}
		return nil
	case q.address(offset) != nil && size == 8 && offset&7 == 0:
		*q.address(offset) = value
		return nil
	case q.address(offset) != nil && size == 4 && offset&3 == 0:
		at, shift := q.address(offset), 8*(offset&4)
		*at = *at&^(0xffffffff<<shift) | (value&0xffffffff)<<shift
		return nil
	}
	d.refuse()
	return nil
}

// writeStatus sets bits of the status, or starts a reset (§2.1, §3.1.1). Bits
// that are set stay so until a reset.
func (d *Device) writeStatus(v Status) {
	if v == 0 {
		d.beginReset()
		return
	}
	d.mu.Lock()
	if d.resetting {
		d.refuse()
		d.mu.Unlock()
		return
	}
	old := Status(d.status.Load())
	set := v &^ old & statusByDriver
	if old&^v&statusByDriver != 0 {
		d.refuse()
	}
	if set&StatusFeaturesOK != 0 {
		if d.driver&^d.offered == 0 && d.driver&d.required == d.required {
			d.features.Store(uint64(d.driver))
		} else {
			set &^= StatusFeaturesOK
			d.refuse()
		}
	}
	if set&StatusDriverOK != 0 && (old|set)&StatusFeaturesOK == 0 {
		set &^= StatusDriverOK
		d.refuse()
	}
	d.status.Or(uint32(set))
	d.mu.Unlock()
	if set&StatusDriverOK == 0 {
		return
	}
	// A driver should notify only from here on; be kind to those that did before.
	for _, q := range d.queues {
		q.Kick()
	}
}

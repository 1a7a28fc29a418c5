package virtioscsi

import (
	"encoding/binary"

	"keel/translate/scsi"
	"keel/translate/virtio"
)

// maxPending is how many events wait for the driver's buffers; more are lost, and
// the driver is told so.
const maxPending = 64

// event is what the driver hears.
type event struct {
	kind   uint32
	lun    uint16
	reason uint32
}

// Notify takes a change of the target to the guest: for scsi.New.
func (ct *Controller) Notify(e scsi.Event) {
	if !ct.device.Running() || e.LUN >= scsi.MaxLUNs {
		return // the driver looks at everything when it starts
	}
	out := event{lun: e.LUN}
	features := ct.device.Features()
	switch e.Kind {
	case scsi.LUNAdded:
		out.kind, out.reason = eventTransportReset, reasonRescan
	case scsi.LUNRemoved:
		out.kind, out.reason = eventTransportReset, reasonRemoved
		ct.subscribe[e.LUN].Store(0)
	case scsi.LUNResized:
		out.kind, out.reason = eventParamChange, reasonCapacity
	case scsi.MediumChanged:
		out.kind, out.reason = eventAsync, ct.subscribe[e.LUN].Load()&asyncMediaChange
	}
	switch {
	case out.kind == eventTransportReset && features&featureHotplug == 0,
		out.kind == eventParamChange && features&featureChange == 0,
		out.reason == 0:
		ct.counters.unwanted.Add(1)
		return
	}
	ct.post(out)
}

// post queues an event and brings it to the driver.
func (ct *Controller) post(e event) {
	ct.mu.Lock()
	if ct.count == maxPending {
		ct.missed = true
		ct.counters.missed.Add(1)
	} else {
		ct.pending[(ct.first+ct.count)%maxPending] = e
		ct.count++
	}
	ct.mu.Unlock()
	ct.device.Queue(queueEvent).Kick()
}

// deliver puts pending events into the driver's buffers. The last event is lost
// at worst, when the driver's reset comes in between; then nobody wants it.
func (ct *Controller) deliver(q *virtio.Queue) {
	for ct.waiting() {
		chain := q.Next()
		if chain == nil {
			return
		}
		if chain.WritableBytes < eventSize {
			ct.counters.malformed.Add(1)
			chain.Complete(0)
			continue
		}
		e, ok := ct.take()
		if !ok {
			e = event{} // reset: "no event"
		}
		var b [eventSize]byte
		binary.LittleEndian.PutUint32(b[:], e.kind)
		if ok {
			putLUN(b[eventLUN:], e.lun)
		}
		binary.LittleEndian.PutUint32(b[eventReason:], e.reason)
		virtio.Write(chain.Writable, b[:])
		ct.counters.events.Add(1)
		chain.Complete(eventSize)
	}
}

func (ct *Controller) waiting() bool {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	return ct.count > 0
}

// take removes the oldest event, and says with it whether others were lost.
func (ct *Controller) take() (e event, ok bool) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if ct.count == 0 {
		return e, false
	}
	e = ct.pending[ct.first]
	ct.first, ct.count = (ct.first+1)%maxPending, ct.count-1
	if ct.missed {
		e.kind |= eventMissed
		ct.missed = false
	}
	return e, true
}

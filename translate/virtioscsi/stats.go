package virtioscsi

import (
	"sync/atomic"

	"keel/translate/virtio"
	"keel/vtl/pci"
)

type counters struct {
	malformed, badTarget, overruns, config, managed, events, missed, unwanted atomic.Uint64
}

// Stats counts what a controller did and refused.
type Stats struct {
	Malformed uint64 // requests without a whole header or room for a response
	BadTarget uint64 // requests for what cannot be a logical unit
	Overruns  uint64 // requests with too little room for their data
	Config    uint64 // writes to the configuration that the driver must not make
	Managed   uint64 // task management functions
	Events    uint64 // delivered
	Missed    uint64 // events lost because the driver gave no buffers
	Unwanted  uint64 // events that the driver did not ask for
	Virtio    virtio.Stats
	PCI       pci.Stats
}

// Stats returns the counters.
func (ct *Controller) Stats() Stats {
	c := &ct.counters
	return Stats{
		Malformed: c.malformed.Load(), BadTarget: c.badTarget.Load(), Overruns: c.overruns.Load(),
		Config: c.config.Load(), Managed: c.managed.Load(), Events: c.events.Load(),
		Missed: c.missed.Load(), Unwanted: c.unwanted.Load(),
		Virtio: ct.device.Stats(), PCI: ct.device.PCI().Stats(),
	}
}

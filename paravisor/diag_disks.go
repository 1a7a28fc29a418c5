package paravisor

import (
	"fmt"
	"slices"
	"strconv"

	"keel/diag/inspect"
)

// name is what the state tree and captures call a disk.
func (u *unit) name() string { return fmt.Sprintf("%v.%d", u.Front, u.LUN) }

// list returns the disks that the guest has now.
func (d *disks) list() []*unit {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.units)
}

// Inspect writes what each disk of the guest is and did. A disk is named after its front
// and its logical unit number, which the host has chosen.
func (d *disks) Inspect(f *inspect.Fields) {
	for _, u := range d.list() {
		f.Node(u.name(), diskState{d, u}, "a disk of the guest")
	}
}

// diskState is the node of a disk.
type diskState struct {
	disks *disks
	unit  *unit
}

// Inspect writes what the disk is, what the guest asked of it, and what its controllers
// did.
func (s diskState) Inspect(f *inspect.Fields) {
	u := s.unit
	info := u.slot.Info()
	f.Gauge("blocks", inspect.Public, inspect.Count, info.Blocks, "size in blocks")
	f.Gauge("block_size", inspect.Public, inspect.Bytes, uint64(info.BlockSize), "bytes of a block")
	f.Bool("read_only", inspect.Public, info.ReadOnly, "nothing writes to it")
	f.Bool("dvd", inspect.Public, u.DVD, "it is a DVD drive")
	f.Gauge("chunk", inspect.Public, inspect.Bytes, uint64(u.Chunk), "bytes of a stripe's chunk, 0 for a disk that is none")
	if target := s.disks.targets[u.Front]; target != nil {
		if n := target.Unit(uint16(u.LUN)); n != nil {
			f.Node("guest", n, "the guest's SCSI commands, since the disk was added")
		}
	}
	f.Each("members", "member", members{s.disks.controllers, u.Serials}, "the disk's NVMe controllers")
}

// members is the node of a disk's controllers.
type members struct {
	controllers *controllers
	serials     []string
}

// Inspect writes what each controller did since it was plugged in.
func (m members) Inspect(f *inspect.Fields) {
	for i, serial := range m.serials {
		if c := m.controllers.get(serial); c != nil {
			f.Node(strconv.Itoa(i), c, "an NVMe controller, since it was plugged in")
		}
	}
}

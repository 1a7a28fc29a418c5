package scsi

import (
	"fmt"
	"sync/atomic"

	"keel/translate/blk"
	"keel/translate/tap"
)

// Kinds that only the controller makes. They complete those of Kind.
const (
	kindDisk      = Disk
	kindDVD       = DVD
	kindAbsent    = Kind(2)
	kindWellKnown = Kind(3)
)

// dvdBlock is the block size of a DVD medium, in bytes.
const dvdBlock = 2048

// unit is a logical unit.
type unit struct {
	ctl   *Controller
	lun   uint16
	kind  Kind
	disk  blk.Disk
	block uint32 // bytes, as the guest sees them
	scale uint32 // blocks of the disk in one of these

	tasks        taskSet
	gate         gate
	reservations reservations
	figures      figures
	tap          atomic.Pointer[tap.Tap] // nil while nobody captures
	attentions   [MaxInitiators]atomic.Uint32

	reached  atomic.Bool   // somebody has sent a command
	modes    atomic.Uint32 // modeWCE and so on
	stopped  atomic.Bool   // by START STOP UNIT
	ejected  atomic.Bool   // the DVD drive's tray is open
	locked   atomic.Uint32 // bit set of nexuses that prevent removal
	media    atomic.Uint32 // event of GET EVENT STATUS NOTIFICATION
	vanished atomic.Bool   // the DVD drive's medium, for good
}

// What MODE SELECT can change.
const (
	modeWCE = 1 << iota
	modeDSense
	modeSWP
)

func newUnit(ct *Controller, lun uint16, kind Kind, disk blk.Disk) (*unit, error) {
	i := disk.Info()
	u := &unit{ctl: ct, lun: lun, kind: kind, disk: disk, block: i.BlockSize, scale: 1}
	switch {
	case i.BlockSize != 512 && i.BlockSize != 4096:
		return nil, fmt.Errorf("%w: block size %d", ErrDisk, i.BlockSize)
	case i.Blocks == 0:
		return nil, fmt.Errorf("%w: no blocks", ErrDisk)
	case kind == DVD && i.BlockSize != 512:
		return nil, fmt.Errorf("%w: a DVD needs a disk of 512-byte blocks, not %d", ErrDisk, i.BlockSize)
	case kind == DVD && i.Blocks < dvdBlock/512:
		return nil, fmt.Errorf("%w: no DVD fits on %d blocks", ErrDisk, i.Blocks)
	case kind == DVD && i.MaxBlocks != 0 && i.MaxBlocks < dvdBlock/512:
		return nil, fmt.Errorf("%w: requests of %d blocks are too small for a DVD", ErrDisk, i.MaxBlocks)
	case kind > DVD:
		return nil, fmt.Errorf("%w: kind %d", ErrDisk, kind)
	}
	if kind == DVD {
		u.block, u.scale = dvdBlock, dvdBlock/i.BlockSize
	}
	u.powerOn()
	return u, nil
}

// powerOn sets everything to its default.
func (u *unit) powerOn() {
	u.resetState()
	u.reservations.powerOn()
	for i := range u.attentions {
		u.attentions[i].Store(attentionPowerOn)
	}
}

// resetState is what a logical unit reset sets back.
func (u *unit) resetState() {
	u.modes.Store(0)
	if u.info().Volatile {
		u.modes.Store(modeWCE)
	}
	u.stopped.Store(false)
	u.locked.Store(0)
	u.ejected.Store(false)
}

// info describes the disk. A disk whose blocks have changed their size has none.
func (u *unit) info() blk.Info {
	i := u.disk.Info()
	if i.BlockSize != u.block/u.scale {
		i.Blocks, i.BlockSize = 0, u.block/u.scale
	}
	return i
}

// blocks returns the capacity in blocks of the guest.
func (u *unit) blocks(i *blk.Info) uint64 { return i.Blocks / uint64(u.scale) }

// maxTransfer returns the longest READ or WRITE in blocks, 0 for no bound.
func (u *unit) maxTransfer(i *blk.Info) uint32 { return i.MaxBlocks / u.scale }

func (u *unit) descriptorSense() bool { return u.modes.Load()&modeDSense != 0 }

// writeThrough says that every write is to be on stable storage when it ends.
func (u *unit) writeThrough(i *blk.Info) bool { return i.Volatile && u.modes.Load()&modeWCE == 0 }

// diskEvent hears from the disk.
func (u *unit) diskEvent(e blk.Event) {
	switch {
	case u.ctl.units[u.lun].Load() != u: // removed
	case e == blk.EventResized && u.kind == kindDVD:
		u.mediumChanged(mediaNew)
		u.ctl.notify(Event{MediumChanged, u.lun})
	case e == blk.EventResized:
		u.attendOthers(-1, attentionCapacity)
		u.ctl.notify(Event{LUNResized, u.lun})
	case e == blk.EventRemoved && u.kind == kindDVD:
		u.vanished.Store(true)
		u.media.Store(mediaRemoved)
		u.ctl.notify(Event{MediumChanged, u.lun})
	case e == blk.EventRemoved:
		u.ctl.drop(u)
	}
}

// ready tells whether the medium can be reached.
func (u *unit) ready() (sense, bool) {
	switch {
	case u.vanished.Load():
		return sense{key: keyNotReady, code: ascNoMedium}, false
	case u.ejected.Load():
		return sense{key: keyNotReady, code: ascTrayOpen}, false
	case u.stopped.Load():
		return sense{key: keyNotReady, code: ascStopped}, false
	}
	return sense{}, true
}

// protected tells why writes are refused.
func (u *unit) protected(i *blk.Info) (sense, bool) {
	switch {
	case i.ReadOnly || u.kind == kindDVD:
		return sense{key: keyDataProtect, code: ascWriteProtected}, true
	case u.modes.Load()&modeSWP != 0:
		return sense{key: keyDataProtect, code: ascSoftwareProtected}, true
	}
	return sense{}, false
}

// Package blk is the interface between what a guest sees of a disk and what
// drives it. Above it stand the SCSI target and the front ends, beneath it the
// NVMe driver and what is composed of other disks.
package blk

import "errors"

// Errors with which requests end. A disk wraps one of them and adds its cause.
var (
	ErrRange       = errors.New("blocks beyond the end of the disk")
	ErrMedium      = errors.New("medium error")
	ErrProtected   = errors.New("disk is read-only")
	ErrMiscompare  = errors.New("data differs")
	ErrFull        = errors.New("no space left behind the disk")
	ErrUnsupported = errors.New("request is not supported by the disk")
	ErrAborted     = errors.New("request was aborted")
	ErrDevice      = errors.New("device failed")
	ErrRemoved     = errors.New("disk is gone")
)

// Op is what a request asks for.
type Op uint8

// The requests. Each names the fields of Request that it uses.
const (
	OpRead        Op = iota // LBA, Blocks, Segments
	OpWrite                 // LBA, Blocks, Segments, FUA
	OpFlush                 // none: what completed before it is on stable storage
	OpDiscard               // Ranges: contents may be lost
	OpWriteZeroes           // LBA, Blocks, FUA, Unmap
	OpCompare               // LBA, Blocks, Segments
)

// Writes tells whether the operation changes what is on the disk.
func (o Op) Writes() bool { return o == OpWrite || o == OpDiscard || o == OpWriteZeroes }

// String returns the name that logs use.
func (o Op) String() string {
	switch o {
	case OpRead:
		return "read"
	case OpWrite:
		return "write"
	case OpFlush:
		return "flush"
	case OpDiscard:
		return "discard"
	case OpWriteZeroes:
		return "write-zeroes"
	case OpCompare:
		return "compare"
	}
	return "unknown"
}

// Info describes a disk at one moment. Counts of blocks are in blocks of BlockSize
// bytes.
type Info struct {
	Blocks        uint64
	BlockSize     uint32 // bytes, 512 or 4096
	PhysicalSize  uint32 // bytes of the unit that is written at once; a multiple of BlockSize
	Optimal       uint32 // blocks of a transfer that suits the disk best, 0 when unknown
	MaxBlocks     uint32 // of one request, 0 for no bound
	ReadOnly      bool
	Volatile      bool     // writes need a flush or FUA to be on stable storage
	Discard       bool     // OpDiscard is supported
	DiscardUnit   uint32   // blocks that can be discarded at once, at least 1
	MaxDiscard    uint64   // blocks of one range, 0 for no bound
	MaxRanges     uint32   // ranges of one OpDiscard, at least 1
	DiscardZeroes bool     // discarded blocks read as zeroes
	WriteZeroes   bool     // OpWriteZeroes is supported
	MaxZeroes     uint32   // blocks of one OpWriteZeroes, 0 for no bound
	Compare       bool     // OpCompare is supported
	ID            [16]byte // the same for as long as the disk exists, unlike that of any other
	Serial        string   // printable ASCII, may be empty
}

// Event is a change of a disk that nobody asked for.
type Event uint8

// The events.
const (
	EventResized Event = iota // Info has changed
	EventRemoved              // every request ends with ErrRemoved from now on
)

// Disk is a block device.
//
// Requests may complete in any order and before Submit returns: the caller of
// Submit holds no lock that the request's Done takes. Every request completes
// exactly once, also when the device fails or goes away.
type Disk interface {
	// Info describes the disk as it is now. It takes no lock and allocates
	// nothing.
	Info() Info
	// Submit starts a request. queue is a hint, usually the number of the VP:
	// requests of one queue do not wait for another queue's locks. The request
	// and its segments belong to the disk until Done. Submit checks the fields of
	// the request against Info; it does not block.
	Submit(queue int, r *Request)
	// Cancel asks for an early end of a request that was submitted. It completes
	// all the same, with ErrAborted or as if nobody had asked.
	Cancel(r *Request)
	// Watch sets who is told of events, one at a time, from a goroutine of the
	// disk's own. It is called once, before the first request.
	Watch(f func(Event))
}

// Package vmbus is the server side of Hyper-V's VMBus: the bus over which a guest
// finds synthetic devices and talks to them through pairs of rings in its own
// memory.
//
// The guest's driver posts messages to the bus and gets messages back on a
// synthetic interrupt; over an open channel the two sides only write rings and
// signal each other with event flags. Everything that the guest writes, messages,
// page lists, ring indices and packets, is copied once and then checked. A wrong
// message is counted and ignored, or answered with an error where the protocol has
// one; a ring whose indices or lengths cannot be stops its channel until the guest
// closes it.
//
// Facts are from Linux (include/linux/hyperv.h, drivers/hv), Microsoft's openvmm
// (vmbus_core, vmbus_ring) and the Hypervisor Top Level Functional Specification
// (TLFS).
package vmbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"keel/hcl/abi/x86"
	"keel/vtl/guestmem"
)

// Errors of the bus.
var (
	// ErrConfig says that a server or an offer cannot be made as asked.
	ErrConfig = errors.New("vmbus configuration")
	// ErrLimit says that there is no room for another channel.
	ErrLimit = errors.New("too many channels")
	// ErrConnection says that a message or signal was for nobody here.
	ErrConnection = errors.New("no such connection")
	// ErrBusy says that the guest has to take its own messages first.
	ErrBusy = errors.New("too many messages wait for the guest")
)

const pageSize = x86.PageSize

// Bounds of what a guest can make the server keep.
const (
	// DefaultChannels is how many channels a server offers at most.
	DefaultChannels = 256

	maxGPADLs      = 8       // of one channel
	defaultFrames  = 1 << 16 // page numbers in all GPADLs: 256 MiB
	defaultPacket  = 4096    // bytes of a packet
	largestPacket  = 0xFFFF * packetUnit
	spareMessages  = 32 // that may wait for the guest beside offers and rescinds
	smallestPacket = sizeGPAHeader
)

// Hypervisor is the part of the SynIC that the server speaks through.
type Hypervisor interface {
	// PostMessage puts a message into a SINT's slot of a VP, or into a queue before
	// it. An error means that it has to be tried again.
	PostMessage(vp int, sint int, kind uint32, payload []byte) error
	// SignalEvent sets an event flag of a SINT of a VP and interrupts it.
	SignalEvent(vp int, sint int, flag int) error
}

// Config is what a server needs.
type Config struct {
	Memory     *guestmem.Memory
	Hypervisor Hypervisor
	VPs        int // of the guest
	// MaxChannels bounds the channels, sub-channels among them; 0 for
	// DefaultChannels. At most 2047.
	MaxChannels int
	// MaxFrames bounds the page numbers in all GPADLs; 0 for 65536.
	MaxFrames int
}

// connection is what the server and the guest are to each other.
type connection uint8

const (
	disconnected connection = iota
	connected
	leaving // channels have to be closed first; then comes what Server.then says
)

// contact is a guest's wish to connect.
type contact struct {
	version uint32
	vp      int // that messages go to
	sint    int
	failed  bool // the VP does not exist
}

// Server is the bus.
type Server struct {
	memory      *guestmem.Memory
	hv          Hypervisor
	vps         int
	maxChannels int
	maxFrames   int
	byRelID     []atomic.Pointer[Channel] // read without a lock
	out         outbox
	n           counters

	mu       sync.Mutex
	idle     sync.Cond // leaving has ended
	channels []*Channel
	state    connection
	version  uint32
	vp       int // that messages go to
	offered  bool
	then     func() // with the lock held, when leaving has ended
	building map[uint32]*gpadl
	frames   int
	kicks    []*Channel // to be served once the lock is free
}

// New returns a server without channels.
func New(c Config) (*Server, error) {
	if c.MaxChannels == 0 {
		c.MaxChannels = DefaultChannels
	}
	if c.MaxFrames == 0 {
		c.MaxFrames = defaultFrames
	}
	if c.Memory == nil || c.Hypervisor == nil || c.VPs < 1 || c.MaxChannels < 1 || c.MaxChannels > maxRelID || c.MaxFrames < 1 {
		return nil, fmt.Errorf("%w: %d VPs, %d channels", ErrConfig, c.VPs, c.MaxChannels)
	}
	s := &Server{
		memory: c.Memory, hv: c.Hypervisor, vps: c.VPs, maxChannels: c.MaxChannels, maxFrames: c.MaxFrames,
		byRelID:  make([]atomic.Pointer[Channel], c.MaxChannels+1),
		building: map[uint32]*gpadl{},
	}
	s.idle.L = &s.mu
	s.out = outbox{to: c.Hypervisor, n: &s.n, kick: make(chan struct{}, 1)}
	return s, nil
}

// Message takes a message that the guest posted to a connection. payload is a copy
// that the guest cannot change. It is called on the thread of the VP that posted;
// what a device has to do follows on it.
//
// The error is ErrConnection, or ErrBusy when the guest must take messages and then
// try again. A message that is wrong is no error.
func (s *Server) Message(connection uint32, payload []byte) error {
	if connection != connectionOld && connection != connectionNew {
		s.n.badConnection.Add(1)
		return fmt.Errorf("%w: message to %#x", ErrConnection, connection)
	}
	// Every message may be answered once, and a request for offers once for each
	// channel, for which the queue has room of its own.
	if s.out.waiting() > spareMessages {
		s.n.backpressure.Add(1)
		return ErrBusy
	}
	s.n.messages.Add(1)
	s.mu.Lock()
	s.dispatch(payload)
	s.unlock()
	return nil
}

// unlock frees the lock and serves the channels that have something to do.
func (s *Server) unlock() {
	kicks := s.kicks
	s.kicks = nil
	s.mu.Unlock()
	for _, c := range kicks {
		c.kick()
	}
}

// Signal takes a signal of the guest. It is called on the thread of the VP that
// signalled, takes no lock and allocates nothing; the device's work follows on the
// same thread, up to a bound.
func (s *Server) Signal(connection uint32) error {
	id := connection - eventConnection
	if connection < eventConnection || id >= uint32(len(s.byRelID)) {
		s.n.badConnection.Add(1)
		return ErrConnection
	}
	c := s.byRelID[id].Load()
	if c == nil {
		s.n.badConnection.Add(1)
		return ErrConnection
	}
	s.n.signals.Add(1)
	c.kick()
	return nil
}

// Reset forgets the guest, which has been reset. It returns when no device uses
// guest memory any more. No VP runs meanwhile.
func (s *Server) Reset() {
	s.mu.Lock()
	s.out.flush()
	s.disconnect(func() {})
	s.unlock()
	s.mu.Lock()
	for s.state == leaving {
		s.idle.Wait()
	}
	s.mu.Unlock()
	s.out.flush()
}

// Close resets the server and ends its goroutines. It is not used any more.
func (s *Server) Close() {
	s.Reset()
	s.out.close()
	s.mu.Lock()
	channels := slices.Clone(s.channels)
	s.channels = nil
	s.mu.Unlock()
	for _, c := range channels {
		c.stopWorker()
	}
}

// lookup returns the channel that the guest knows by a number.
func (s *Server) lookup(relID uint32) *Channel {
	if relID >= uint32(len(s.byRelID)) {
		return nil
	}
	return s.byRelID[relID].Load()
}

// field reads a word of a message.
func field(m []byte, at int) uint32 { return binary.LittleEndian.Uint32(m[at:]) }

// message returns an empty message of a type.
func message(kind uint32) [MessageSize]byte {
	var m [MessageSize]byte
	binary.LittleEndian.PutUint32(m[:], kind)
	return m
}

// reply sends a message to the guest.
func (s *Server) reply(m []byte) {
	// Offers and rescinds are one each for a number that the guest holds.
	s.out.send(s.vp, MessageSINT, m, 2*s.maxChannels+2*spareMessages)
}

// Package vsock is a virtio-vsock device for QEMU: a vhost-user back end (QEMU
// docs/interop/vhost-user.rst) that lives in the launcher's process and speaks
// virtio 1.2 §5.10 with the guest. The launcher uses it on hosts that have
// /dev/vhost-vsock, too: one way is simpler than two, it needs no privileges and no
// identifier that is unique on the host, and it ends with the launcher.
//
// On the host it is a Unix socket with the hybrid handshake that Firecracker and
// Cloud Hypervisor made usual. A client connects, writes "CONNECT <port>\n", and
// after "OK <host port>\n" is connected with the process that listens on that port
// in the guest; when nobody does, it reads the end of the file. A process in the
// guest that connects to CID 2, port P, reaches the Unix socket "<Path>_<P>". A path
// that begins with @ is an abstract name, which leaves no file behind however the
// process ends. Only processes of the same user, or of root, are at the other ends.
//
// Whatever comes from the guest and from QEMU is hostile. One goroutine does all
// the work; nothing of the guest's memory is held between two of its turns. A
// guest that breaks the rules of virtqueues stops its device until it resets it,
// one that breaks the rules of a connection loses that, and a QEMU that breaks the
// rules of vhost-user ends Serve with an error.
package vsock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrOptions says that the Options are not usable.
var ErrOptions = errors.New("vsock options")

// ErrServing says that Serve was called twice, or after Close.
var ErrServing = errors.New("the vsock device was served already")

// Options is what a device needs to know.
type Options struct {
	CID  uint32       // the guest's context identifier, 3 or above
	Path string       // of the Unix socket, or @ and an abstract name; sockets for guest-initiated connections have it as a prefix
	Log  *slog.Logger // nil for none

	MaxConnections   int           // in all, 128 if 0; at most half of them are the guest's own
	HandshakeTimeout time.Duration // for a client's CONNECT, 5 s if 0
	ConnectTimeout   time.Duration // for the guest's answer, 10 s if 0
	StallTimeout     time.Duration // for a client that takes none of the data that wait for it, 60 s if 0
	LingerTimeout    time.Duration // for the rest of a connection that one side has left, 30 s if 0
}

// maxConnections bounds Options.MaxConnections: each may hold 256 KiB.
const maxConnections = 4096

func (o *Options) complete() error {
	switch {
	case o.CID < cidFirst || o.CID == cidAny:
		return fmt.Errorf("%w: CID %d is reserved: use 3 to %d", ErrOptions, o.CID, uint32(cidAny-1))
	case o.MaxConnections < 0 || o.MaxConnections > maxConnections:
		return fmt.Errorf("%w: %d connections: use 1 to %d", ErrOptions, o.MaxConnections, maxConnections)
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 128
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, t := range []struct {
		value  *time.Duration
		preset time.Duration
	}{{&o.HandshakeTimeout, 5 * time.Second}, {&o.ConnectTimeout, 10 * time.Second}, {&o.StallTimeout, time.Minute}, {&o.LingerTimeout, 30 * time.Second}} {
		if *t.value <= 0 {
			*t.value = t.preset
		}
	}
	return nil
}

// Device is a vsock device. Its exported methods may be called from any goroutine.
type Device struct {
	options Options
	count   counters
	socket  *socketFile
	peer    *os.File // QEMU's end
	wake    int      // eventfd

	serving atomic.Bool
	closing atomic.Bool
	done    chan struct{} // closed when Serve returns
	once    sync.Once

	// The rest belongs to the goroutine of Serve.
	epoll    int
	sets     *os.File // the same descriptor, for Go's runtime
	raw      syscall.RawConn
	look     func(uintptr) bool // poll
	polled   [64]unix.EpollEvent
	ripe     int  // how many of polled are valid
	armed    bool // sets has a deadline
	channel  channel
	protocol uint64 // protocol features that QEMU took
	memory   memory
	rings    [queues]vring
	broken   error // why no packets pass
	seen     bool  // there was a driver

	conns   []*conn // by slot
	free    []int   // slots
	keys    map[key]*conn
	ready   fifo // connections that have something to send
	resets  orphans
	guests  int // connections that the guest began
	port    uint32
	spare   [][]byte
	header  header
	scratch [packetHeader]byte

	now    time.Time
	ticked time.Time
	timed  bool // somebody has a deadline
	paused bool // the listener is, for want of descriptors
	more   bool // packets wait for another turn
	warned int
}

// New makes a device and listens on its socket, which has mode 0600 if it is a file.
// The socket of a dead process is replaced. Close frees what it made.
// Errors: ErrOptions, ErrSocket, and those of the system.
func New(o Options) (_ *Device, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	d, err := newDevice(o)
	if err != nil {
		return nil, err
	}
	if d.socket, err = listen(o.Path); err == nil {
		err = d.watch(d.socket.fd, listenEvent)
	}
	if err != nil {
		d.discard()
		return nil, err
	}
	return d, nil
}

// newDevice makes all but the socket for clients.
func newDevice(o Options) (*Device, error) {
	d := &Device{
		options: o, wake: -1, epoll: -1, done: make(chan struct{}),
		keys: make(map[key]*conn), ready: fifo{slots: make([]int, o.MaxConnections)}, port: firstPort,
	}
	d.channel.fd = -1
	for i := range d.rings {
		d.rings[i] = vring{index: i, kick: -1, call: -1, err: -1, writable: i != queueTx, segments: make([][]byte, 0, maxSegments)}
	}
	err := d.open()
	if err != nil {
		d.discard()
		return nil, fmt.Errorf("making the vsock device: %w", err)
	}
	return d, nil
}

func (d *Device) open() (err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d.channel.fd = pair[0]
	d.peer = os.NewFile(uintptr(pair[1]), "vsock")
	if err := nonblocking(pair[0]); err != nil {
		return err
	}
	if d.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	if d.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := nonblocking(d.epoll); err != nil { // for os.NewFile to see
		return err
	}
	d.sets, d.look = os.NewFile(uintptr(d.epoll), "vsock events"), d.poll
	if d.raw, err = d.sets.SyscallConn(); err != nil {
		return err
	}
	return errors.Join(d.watch(d.channel.fd, controlEvent), d.watch(d.wake, wakeEvent))
}

// Peer is QEMU's end of the connection: QEMU inherits it, and the caller closes
// it when QEMU runs.
func (d *Device) Peer() *os.File { return d.peer }

// QEMUArgs returns the arguments that give QEMU the device; fd is the number that
// Peer has there. The machine's memory must be that of MemoryArgs.
func (*Device) QEMUArgs(fd int) []string {
	return []string{
		"-chardev", "socket,id=vsock,fd=" + strconv.Itoa(fd),
		"-device", "vhost-user-vsock-pci,id=vsock0,chardev=vsock",
	}
}

// MemoryArgs returns the arguments that make the machine's memory, of the given
// size in bytes, one that the device can share. They come beside -m with the same size.
func MemoryArgs(bytes uint64) []string {
	return []string{
		"-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%d,share=on,seal=on", bytes),
		"-machine", "memory-backend=ram",
	}
}

// Close ends Serve, closes all connections and removes the socket.
func (d *Device) Close() error {
	d.closing.Store(true)
	if d.serving.CompareAndSwap(false, true) {
		d.discard()
		close(d.done)
		return nil
	}
	d.once.Do(d.rouse)
	select {
	case <-d.done:
		return nil
	case <-time.After(closePatience):
		// A QEMU that plays with shared descriptors can hold the loop up, not us.
		return errors.Join(errors.New("the vsock device does not end"), d.socket.remove())
	}
}

// closePatience is how long Close waits for Serve.
const closePatience = 5 * time.Second

// rouse lets the loop look at whether it should end. The descriptor lives until
// Serve is done.
func (d *Device) rouse() { notify(d.wake) }

// discard frees everything. Preconditions: the loop does not run.
func (d *Device) discard() {
	for _, c := range d.conns {
		if c.used {
			d.release(c)
		}
	}
	for i := range d.rings {
		r := &d.rings[i]
		r.started = false
		r.blind()
		for _, fd := range []*int{&r.kick, &r.call, &r.err} {
			closeFD(fd)
		}
	}
	d.memory.unmap()
	closeAll(d.channel.fds)
	d.channel.fds, d.spare = nil, nil
	if d.sets != nil {
		_ = d.sets.Close() // nothing is buffered
		d.epoll = -1
	}
	for _, fd := range []*int{&d.channel.fd, &d.epoll, &d.wake} {
		closeFD(fd)
	}
	if d.peer != nil {
		_ = d.peer.Close() // the caller may have done so
	}
	if d.socket != nil {
		if err := d.socket.remove(); err != nil {
			d.options.Log.Warn("the vsock socket stays behind", "error", err)
		}
		closeFD(&d.socket.fd)
	}
}

// Serve plays the device until ctx is done, Close is called or QEMU is gone. It is
// called once, before QEMU starts or beside it: QEMU waits for its answers. At its
// end the socket is removed. Errors: ErrProtocol, ErrMemory, ErrServing, those of
// the system.
func (d *Device) Serve(ctx context.Context) error {
	if !d.serving.CompareAndSwap(false, true) {
		return ErrServing
	}
	stop := context.AfterFunc(ctx, func() {
		d.closing.Store(true)
		d.once.Do(d.rouse)
	})
	defer func() {
		stop()
		d.once.Do(func() {}) // waits for a rouse that runs, and lets no other one begin
		d.discard()
		close(d.done)
	}()
	return d.loop()
}

package vsock

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Where the front end's machine has its memory.
const (
	guestBase  = 0x100000
	userBase   = 0x7f0000000000
	memoryFile = 24 << 20
	memoryBack = 16 << 20 // what lies above is a second region, which does not touch the first
	backGap    = 1 << 30
	queueSize  = 128
	guestCID   = 77
	patience   = 20 * time.Second
)

// frontend plays QEMU and the guest's driver: it speaks vhost-user over the real
// socket and drives real rings in shared memory.
type frontend struct {
	tb       testing.TB
	device   *Device
	path     string
	fd       int
	memfd    int
	memory   []byte
	features uint64
	rings    [queues]driverRing
	manual   bool // no Serve: the test's goroutine takes the device's turns
	served   chan error
	fence    atomic.Uint32
}

// driverRing is the driver's side of a virtqueue. Offsets are into the memory file.
type driverRing struct {
	desc, avail, used, buffers int
	stride                     int // bytes between buffers
	kick, call, err            int
	index, seen                uint16
	free                       []uint16 // of transmit slots: two descriptors each
}

// newFrontend makes a device with a socket, and a front end that has not said
// anything yet.
func newFrontend(tb testing.TB, o Options) *frontend {
	tb.Helper()
	f := &frontend{tb: tb, features: featuresOffered, served: make(chan error, 1)}
	f.path = filepath.Join(tb.TempDir(), "vsock")
	o.CID, o.Path = guestCID, f.path
	var err error
	if f.device, err = New(o); err != nil {
		tb.Fatal(err)
	}
	f.fd, err = unix.Dup(int(f.device.Peer().Fd()))
	f.check(err)
	f.device.Peer().Close()
	f.memfd, err = unix.MemfdCreate("guest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	f.check(err)
	f.check(unix.Ftruncate(f.memfd, memoryFile))
	_, err = unix.FcntlInt(uintptr(f.memfd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	f.check(err)
	f.memory, err = unix.Mmap(f.memfd, 0, memoryFile, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	f.check(err)
	for i := range f.rings {
		f.rings[i].kick, f.rings[i].call, f.rings[i].err = -1, -1, -1
	}
	tb.Cleanup(f.end)
	return f
}

// boot is newFrontend with a driver that runs.
func boot(tb testing.TB, o Options) *frontend {
	tb.Helper()
	f := newFrontend(tb, o)
	f.serve()
	f.setUp()
	return f
}

func (f *frontend) check(err error) {
	f.tb.Helper()
	if err != nil {
		f.tb.Fatal(err)
	}
}

func (f *frontend) serve() {
	go func() { f.served <- f.device.Serve(context.Background()) }()
}

// end closes everything, and wants the device to end by itself.
func (f *frontend) end() {
	closeFD(&f.fd)
	if err := f.device.Close(); err != nil {
		f.tb.Error(err)
	}
	closeFD(&f.memfd)
	for i := range f.rings {
		for _, fd := range []*int{&f.rings[i].kick, &f.rings[i].call, &f.rings[i].err} {
			closeFD(fd)
		}
	}
	unix.Munmap(f.memory)
	f.memory = nil
}

// step lets the device take a turn without waiting.
func (f *frontend) step() {
	f.tb.Helper()
	f.device.more = true
	if err := f.device.turn(); err != nil {
		f.tb.Fatal(err)
	}
}

// say sends a message.
func (f *frontend) say(q request, flags uint32, payload []byte, fds ...int) {
	f.tb.Helper()
	b := le.AppendUint32(nil, uint32(q))
	b = le.AppendUint32(b, messageVersion|flags)
	b = append(le.AppendUint32(b, uint32(len(payload))), payload...)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	f.check(unix.Sendmsg(f.fd, b, rights, nil, 0))
	if f.manual {
		f.step()
	}
}

// ask sends a message that has an answer, and returns that.
func (f *frontend) ask(q request, flags uint32, payload []byte, fds ...int) []byte {
	f.tb.Helper()
	f.say(q, flags, payload, fds...)
	b := make([]byte, messageHeader+maxPayload)
	f.check(unix.SetsockoptTimeval(f.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}))
	n, err := unix.Read(f.fd, b)
	f.check(err)
	if n < messageHeader || le.Uint32(b) != uint32(q) || le.Uint32(b[4:]) != messageVersion|messageReply || int(le.Uint32(b[8:])) != n-messageHeader {
		f.tb.Fatalf("answer % x to request %d", b[:n], q)
	}
	return b[messageHeader:n]
}

// acked sends a message and wants it to be done.
func (f *frontend) acked(q request, payload []byte, fds ...int) {
	f.tb.Helper()
	if got := f.ask(q, messageNeedReply, payload, fds...); le.Uint64(got) != 0 {
		f.tb.Fatalf("request %d was refused: % x", q, got)
	}
}

func word(v uint64) []byte          { return le.AppendUint64(nil, v) }
func vringState(i, v uint32) []byte { return le.AppendUint32(le.AppendUint32(nil, i), v) }

// table is a SET_MEM_TABLE payload of the front end's two regions.
func table() []byte {
	b := le.AppendUint32(nil, 2)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint64{
		guestBase, memoryBack, userBase, 0,
		guestBase + backGap, memoryFile - memoryBack, userBase + backGap, memoryBack,
	} {
		b = le.AppendUint64(b, v)
	}
	return b
}

// addresses of an offset in the memory file.
func shift(offset int) uint64 {
	if offset >= memoryBack {
		return uint64(offset - memoryBack + backGap)
	}
	return uint64(offset)
}
func gpa(offset int) uint64  { return guestBase + shift(offset) }
func user(offset int) uint64 { return userBase + shift(offset) }

// setUp does what QEMU does when a driver is ready.
func (f *frontend) setUp() {
	f.tb.Helper()
	if got := le.Uint64(f.ask(reqGetFeatures, 0, nil)); got != featuresOffered {
		f.tb.Fatalf("features %#x", got)
	}
	if got := le.Uint64(f.ask(reqGetProtocolFeatures, 0, nil)); got != protocolOffered {
		f.tb.Fatalf("protocol features %#x", got)
	}
	f.say(reqSetProtocolFeatures, 0, word(protocolOffered))
	f.say(reqSetOwner, 0, nil)
	f.acked(reqSetFeatures, word(f.features))
	f.acked(reqSetMemTable, table(), f.memfd, f.memfd)
	f.startRings(0, 0)
}

// startRings lays the rings out and starts them, like a driver after a reset when
// the bases are 0.
func (f *frontend) startRings(rx, tx uint16) {
	f.tb.Helper()
	for i, base := range []uint16{rx, tx} {
		if base == 0 {
			f.layOut(i)
		}
		f.startRing(i, base)
	}
	for i := range uint32(2) {
		f.acked(reqSetVringEnable, vringState(i, 1))
	}
}

// layOut places a ring and fills the receive queue.
func (f *frontend) layOut(i int) {
	r := &f.rings[i]
	at := i * 64 << 10
	clear(f.memory[at : at+64<<10])
	*r = driverRing{desc: at, avail: at + 16<<10, used: at + 32<<10, kick: r.kick, call: r.call, err: r.err}
	if i == queueRx {
		r.buffers, r.stride = 1<<20, 4096
		for n := range uint16(queueSize) {
			f.describe(r, n, r.buffers+int(n)*r.stride, r.stride, flagWrite, 0)
			f.offer(r, n)
		}
		return
	}
	r.buffers, r.stride = 2<<20, 68<<10 // from the first region into the second
	for n := range uint16(queueSize / 2) {
		r.free = append(r.free, n)
	}
}

func (f *frontend) startRing(i int, base uint16) {
	f.tb.Helper()
	r := &f.rings[i]
	n := uint32(i)
	closeAll([]int{r.kick, r.call, r.err})
	for _, fd := range []*int{&r.kick, &r.call, &r.err} {
		var err error
		*fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		f.check(err)
	}
	f.acked(reqSetVringNum, vringState(n, queueSize))
	f.acked(reqSetVringBase, vringState(n, uint32(base)))
	f.acked(reqSetVringAddr, f.addr(i))
	f.acked(reqSetVringCall, word(uint64(i)), r.call)
	f.acked(reqSetVringErr, word(uint64(i)), r.err)
	f.acked(reqSetVringKick, word(uint64(i)), r.kick)
}

func (f *frontend) addr(i int) []byte {
	r := &f.rings[i]
	b := vringState(uint32(i), 0)
	for _, v := range []uint64{user(r.desc), user(r.used), user(r.avail), 0} {
		b = le.AppendUint64(b, v)
	}
	return b
}

// stopRings returns the bases at which the rings stopped.
func (f *frontend) stopRings() (rx, tx uint16) {
	f.tb.Helper()
	var base [2]uint16
	for i := range uint32(2) {
		base[i] = uint16(le.Uint32(f.ask(reqGetVringBase, 0, vringState(i, 0))[4:]))
	}
	return base[0], base[1]
}

// describe writes a descriptor.
func (f *frontend) describe(r *driverRing, n uint16, offset, length int, flags, next uint16) {
	f.raw(r, n, gpa(offset), uint32(length), flags, next)
}

func (f *frontend) raw(r *driverRing, n uint16, address uint64, length uint32, flags, next uint16) {
	d := f.memory[r.desc+descBytes*int(n):]
	le.PutUint64(d, address)
	le.PutUint32(d[descLength:], length)
	le.PutUint16(d[descFlags:], flags)
	le.PutUint16(d[descNext:], next)
}

// offer makes a chain available.
func (f *frontend) offer(r *driverRing, head uint16) {
	le.PutUint16(f.memory[r.avail+ringEntries+availEntry*int(r.index%queueSize):], head)
	r.index++
	f.fence.Load()
	le.PutUint16(f.memory[r.avail+ringIndex:], r.index)
	f.fence.Add(1)
}

// kickNow tells the device, when it wants to hear.
func (f *frontend) kickNow(r *driverRing) {
	if f.features&featureEventIndex == 0 {
		if le.Uint16(f.memory[r.used+ringFlags:])&noNotify == 0 {
			notify(r.kick)
		}
		return
	}
	if le.Uint16(f.memory[r.used+ringEntries+usedEntry*queueSize:]) == r.index-1 {
		notify(r.kick)
	}
}

// reap takes a used chain.
func (f *frontend) reap(r *driverRing) (head uint16, written int, ok bool) {
	if le.Uint16(f.memory[r.used+ringIndex:]) == r.seen {
		if f.features&featureEventIndex != 0 {
			le.PutUint16(f.memory[r.avail+ringEntries+availEntry*queueSize:], r.seen)
		}
		f.fence.Add(1)
		if le.Uint16(f.memory[r.used+ringIndex:]) == r.seen {
			return 0, 0, false
		}
	}
	e := f.memory[r.used+ringEntries+usedEntry*int(r.seen%queueSize):]
	r.seen++
	return uint16(le.Uint32(e)), int(le.Uint32(e[4:])), true
}

// wait waits for an interrupt.
func (f *frontend) wait(r *driverRing, t time.Duration) {
	if f.manual {
		f.step()
		return
	}
	if readable(r.call, t) == nil {
		var b [8]byte
		unix.Read(r.call, b[:])
	}
}

// readable waits until there is something to read.
func readable(fd int, t time.Duration) error {
	end := time.Now().Add(t)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		switch n, err := unix.Poll(p, int(time.Until(end)/time.Millisecond)); {
		case n > 0:
			return nil
		case err == unix.EINTR && time.Now().Before(end): // the scheduler's signals
		case err != nil:
			return err
		default:
			return os.ErrDeadlineExceeded
		}
	}
}

// packet is the header of one that the guest sends in a connection.
func packet(op uint16, guest, host uint32) header {
	return header{srcCID: guestCID, dstCID: cidHost, srcPort: guest, dstPort: host, kind: typeStream, op: op, bufAlloc: bufferBytes}
}

// send puts a packet into the transmit queue, in two pieces, as Linux does.
func (f *frontend) send(h header, payload []byte) {
	f.tb.Helper()
	r := &f.rings[queueTx]
	for end := time.Now().Add(patience); ; f.wait(r, 100*time.Millisecond) {
		for head, _, ok := f.reap(r); ok; head, _, ok = f.reap(r) {
			r.free = append(r.free, head/2)
		}
		if len(r.free) > 0 {
			break
		}
		if time.Now().After(end) {
			f.tb.Fatal("the transmit queue stays full")
		}
	}
	slot := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	h.length = uint32(len(payload))
	at := r.buffers + int(slot)*r.stride
	var b [packetHeader]byte
	h.put(&b)
	copy(f.memory[at:], b[:])
	copy(f.memory[at+64:], payload)
	flags := uint16(0)
	if len(payload) > 0 {
		flags = flagNext
		f.describe(r, 2*slot+1, at+64, len(payload), 0, 0)
	}
	f.describe(r, 2*slot, at, packetHeader, flags, 2*slot+1)
	f.offer(r, 2*slot)
	f.kickNow(r)
	if f.manual {
		f.step()
	}
}

// poll returns the next packet of the receive queue, whose buffer goes back.
func (f *frontend) poll(t time.Duration) (h header, payload []byte, ok bool) {
	f.tb.Helper()
	r := &f.rings[queueRx]
	for end := time.Now().Add(t); ; f.wait(r, time.Until(end)) {
		head, n, ok := f.reap(r)
		if ok {
			at := r.buffers + int(head)*r.stride
			h.parse((*[packetHeader]byte)(f.memory[at:]))
			if n != packetHeader+int(h.length) || h.srcCID != cidHost || h.dstCID != guestCID {
				f.tb.Fatalf("%d bytes in a packet %+v", n, h)
			}
			payload = bytes.Clone(f.memory[at+packetHeader : at+n])
			f.offer(r, head)
			f.kickNow(r)
			return h, payload, true
		}
		if !time.Now().Before(end) {
			return h, nil, false
		}
	}
}

// expect wants a packet of an operation.
func (f *frontend) expect(op uint16) (header, []byte) {
	f.tb.Helper()
	h, p, ok := f.poll(patience)
	if !ok {
		f.tb.Fatalf("no packet, operation %d expected; %+v", op, f.device.Stats())
	}
	if h.op != op {
		f.tb.Fatalf("operation %d, %d expected: %+v", h.op, op, h)
	}
	return h, p
}

// silence wants no packet for a while.
func (f *frontend) silence() {
	f.tb.Helper()
	if h, _, ok := f.poll(50 * time.Millisecond); ok {
		f.tb.Fatalf("unexpected packet %+v", h)
	}
}

// dial connects a client to the device's socket.
func (f *frontend) dial(text string) *net.UnixConn {
	f.tb.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: f.path, Net: "unix"})
	f.check(err)
	f.tb.Cleanup(func() { c.Close() })
	f.check(c.SetDeadline(time.Now().Add(patience)))
	c.Write([]byte(text)) // one that has no place may be closed already
	return c
}

// link connects a client with a port of the guest, which has a buffer of alloc
// bytes, and returns the host's port.
func (f *frontend) link(guestPort, alloc uint32) (*net.UnixConn, uint32) {
	f.tb.Helper()
	c := f.dial("CONNECT " + itoa(guestPort) + "\n")
	h, _ := f.expect(opRequest)
	if h.dstPort != guestPort || h.kind != typeStream || h.bufAlloc != bufferBytes || h.fwdCnt != 0 || h.length != 0 {
		f.tb.Fatalf("request %+v", h)
	}
	answer := packet(opResponse, guestPort, h.srcPort)
	answer.bufAlloc = alloc
	f.send(answer, nil)
	f.hear(c, "OK "+itoa(h.srcPort)+"\n")
	return c, h.srcPort
}

// hear wants a client to read exactly this.
func (f *frontend) hear(c net.Conn, want string) {
	f.tb.Helper()
	b := make([]byte, len(want))
	for n := 0; n < len(b); {
		k, err := c.Read(b[n:])
		if n += k; err != nil {
			f.tb.Fatalf("%q, then %v; %q expected", b[:n], err, want)
		}
	}
	if string(b) != want {
		f.tb.Fatalf("%q, %q expected", b, want)
	}
}

// closed wants a client to be at its end.
func (f *frontend) closed(c net.Conn) {
	f.tb.Helper()
	var b [1]byte
	if n, err := c.Read(b[:]); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		f.tb.Fatalf("%d bytes, %v; the end expected", n, err)
	}
}

// until waits for a condition about the device's counters.
func (f *frontend) until(what string, ok func(Stats) bool) {
	f.tb.Helper()
	for end := time.Now().Add(patience); !ok(f.device.Stats()); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			f.tb.Fatalf("%s: %+v", what, f.device.Stats())
		}
	}
}

// descriptors lists the process's open files.
func descriptors(tb testing.TB) []string {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			list = append(list, to)
		}
	}
	slices.Sort(list)
	return list
}

package vsock

// bufferBytes is what the guest may send to a client that does not read: the
// credit of a connection, in bytes. Linux takes no more than its own 256 KiB.
const bufferBytes = 256 << 10

// spareBuffers bounds how many buffers are kept for the next slow client.
const spareBuffers = 16

// backlog holds what a client did not take yet, in a circle. It has memory only
// while it is not empty.
type backlog struct {
	data    []byte
	head, n int
}

// add appends p. Preconditions: there is memory, and room for p.
func (b *backlog) add(p []byte) {
	at := (b.head + b.n) % len(b.data)
	k := copy(b.data[at:], p)
	copy(b.data, p[k:])
	b.n += len(p)
}

// front is the longest piece at the front that lies in one stretch.
func (b *backlog) front() []byte {
	return b.data[b.head:min(b.head+b.n, len(b.data))]
}

// drop takes n bytes off the front.
func (b *backlog) drop(n int) {
	b.head = (b.head + n) % len(b.data)
	b.n -= n
}

// buffer gives a backlog its memory.
func (d *Device) buffer(b *backlog) {
	if b.data != nil {
		return
	}
	if n := len(d.spare); n > 0 {
		b.data, d.spare = d.spare[n-1], d.spare[:n-1]
		return
	}
	b.data = make([]byte, bufferBytes)
}

// unbuffer drops what a backlog holds, and its memory.
func (d *Device) unbuffer(b *backlog) {
	if b.data != nil && len(d.spare) < spareBuffers {
		d.spare = append(d.spare, b.data)
	}
	*b = backlog{}
}

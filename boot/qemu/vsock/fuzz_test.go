package vsock

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzMessages plays a front end that sends anything, with any descriptors. The
// input is a list of records: what comes along, the number of bytes, the bytes.
func FuzzMessages(f *testing.F) {
	record := func(with byte, q request, payload []byte) []byte {
		b := []byte{with, byte(messageHeader + len(payload)), byte(q), 0, 0, 0, messageVersion | messageNeedReply, 0, 0, 0, byte(len(payload)), 0, 0, 0}
		return append(b, payload...)
	}
	var start []byte
	for _, r := range [][]byte{
		record(0, reqGetFeatures, nil), record(0, reqSetFeatures, word(featuresOffered)),
		record(0, reqSetProtocolFeatures, word(protocolOffered)), record(2, reqSetMemTable, table()),
		record(0, reqSetVringNum, vringState(1, queueSize)), record(0, reqSetVringBase, vringState(1, 0)),
		record(0, reqSetVringAddr, append(vringState(1, 0), append(word(userBase), append(word(userBase+16<<10), append(word(userBase+8<<10), word(0)...)...)...)...)),
		record(9, reqSetVringCall, word(1)), record(9, reqSetVringKick, word(1)), record(0, reqSetVringEnable, vringState(1, 1)),
		record(0, reqGetVringBase, vringState(1, 0)),
	} {
		f.Add(r)
		start = append(start, r...)
	}
	f.Add(start)
	f.Fuzz(func(t *testing.T, input []byte) {
		fe := newFrontend(t, Options{MaxConnections: 4})
		fe.manual = true
		event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		fe.check(err)
		defer unix.Close(event)
		answers := make([]byte, 4096)
		d := fe.device
		for len(input) >= 2 {
			with, n := input[0], min(int(input[1]), len(input)-2)
			var fds []int
			for range with % 10 & 7 {
				fds = append(fds, fe.memfd)
			}
			if with%10 > 7 {
				fds = []int{event}
			}
			if n == 0 {
				break
			}
			if unix.Sendmsg(fe.fd, input[2:2+n], unix.UnixRights(fds...), nil, unix.MSG_DONTWAIT) != nil {
				break
			}
			input = input[2+n:]
			d.more = true
			if d.turn() != nil {
				break
			}
			unix.Recvfrom(fe.fd, answers, unix.MSG_DONTWAIT)
			total := uint64(0)
			for _, r := range d.memory.regions {
				if uint64(len(r.data)) != r.size || r.size > memoryFile {
					t.Fatalf("region %#x of %#x bytes has %#x", r.gpa, r.size, len(r.data))
				}
				total += r.size
			}
			for i := range d.rings {
				r := &d.rings[i]
				if r.usedRing != nil && (int(r.size) > maxQueueSize || len(r.table) != descBytes*int(r.size)) {
					t.Fatalf("ring %d: %d entries, %d bytes", i, r.size, len(r.table))
				}
			}
			if total > maxMemory || len(d.channel.fds) > maxFDs {
				t.Fatalf("%d bytes, %d descriptors", total, len(d.channel.fds))
			}
		}
	})
}

// FuzzPackets plays a guest that puts anything into its queues, while clients come,
// talk and go. The input is a list of operations.
func FuzzPackets(f *testing.F) {
	f.Add([]byte{0, 0, 3, 'C', 1, 2, 2, 5, 3, 2, 5, 5, 1, 4, 1, 2, 4, 0})
	f.Add([]byte{5, 0, 1, 9, 5, 200, 6, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add([]byte{2, 1, 0, 2, 5, 40, 2, 5, 255, 2, 4, 3, 4, 0, 2, 3, 0, 7, 1, 7, 2})
	f.Fuzz(func(t *testing.T, input []byte) {
		fe := newFrontend(t, Options{MaxConnections: 4})
		fe.manual = true
		fe.setUp()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fe.path + "_0", Net: "unix"})
		fe.check(err)
		defer l.Close()
		tx := &fe.rings[queueTx]
		var clients []*net.UnixConn
		host := uint32(firstPort)
		next := func() (b byte) {
			if len(input) > 0 {
				b, input = input[0], input[1:]
			}
			return b
		}
		for len(input) > 0 {
			switch next() % 8 {
			case 0:
				if len(clients) < 8 {
					clients = append(clients, fe.dial("CONNECT 5\n"))
				}
			case 1: // take what came
				for range 4 {
					h, _, ok := fe.pollOnce()
					if !ok {
						break
					}
					if h.op == opRequest {
						host = h.srcPort
					}
				}
			case 2: // a sound packet, or nearly
				op, n := uint16(next()), int(next())
				h := packet(op, 5, host-uint32(next()&1))
				h.flags, h.fwdCnt, h.bufAlloc = uint32(n)&3, uint32(n>>6), uint32(n)<<10
				fe.sendOnce(h, make([]byte, n<<8))
			case 3:
				if len(clients) > 0 {
					clients[int(next())%len(clients)].Write(make([]byte, int(next())<<9+1))
				}
			case 4:
				if len(clients) > 0 {
					clients[int(next())%len(clients)].Close()
				}
			case 5: // a descriptor of any kind
				fe.raw(tx, uint16(next()), gpa(int(next())<<12), uint32(next())<<next()&31, uint16(next()), uint16(next()))
				fe.offer(tx, uint16(next()))
			case 6: // the guest dials
				h := packet(opRequest, uint32(next()), 0)
				fe.sendOnce(h, nil)
			case 7: // a driver that starts again
				rx, txBase := fe.stopRings()
				if next()&1 == 0 {
					rx, txBase = 0, 0
				}
				fe.startRings(rx, txBase)
			}
			fe.device.more = true
			if err := fe.device.turn(); err != nil {
				t.Fatal(err)
			}
			fe.invariants(t)
		}
	})
}

// pollOnce takes a packet if there is one.
func (f *frontend) pollOnce() (header, []byte, bool) {
	r := &f.rings[queueRx]
	head, n, ok := f.reap(r)
	if !ok || head >= queueSize || n > r.stride || n < packetHeader {
		return header{}, nil, false
	}
	var h header
	at := r.buffers + int(head)*r.stride
	h.parse((*[packetHeader]byte)(f.memory[at:]))
	f.offer(r, head)
	return h, nil, true
}

// sendOnce sends a packet unless the queue is full.
func (f *frontend) sendOnce(h header, payload []byte) {
	r := &f.rings[queueTx]
	for head, _, ok := f.reap(r); ok && len(r.free) < queueSize/2; head, _, ok = f.reap(r) {
		r.free = append(r.free, head/2%(queueSize/2))
	}
	if len(r.free) > 0 && len(payload) <= r.stride-64 {
		f.send(h, payload)
	}
}

// invariants hold whatever the guest and the clients do.
func (f *frontend) invariants(t *testing.T) {
	t.Helper()
	d := f.device
	used, guests := 0, 0
	for _, c := range d.conns {
		if !c.used {
			continue
		}
		used++
		if c.guest {
			guests++
		}
		switch {
		case c.named && d.keys[c.key] != c:
			t.Fatalf("%+v is not in the table", c)
		case uint32(c.out.n) != c.received-c.forwarded || c.out.n > bufferBytes:
			t.Fatalf("%d bytes wait, %d received, %d forwarded", c.out.n, c.received, c.forwarded)
		case c.fd < 0 && c.state != stateClosing:
			t.Fatalf("state %d without a socket", c.state)
		case c.state == stateClosing && c.deadline.IsZero():
			t.Fatal("a connection may close for ever")
		case c.wants() && !c.queued:
			t.Fatalf("%+v was forgotten", c)
		}
	}
	if used > d.options.MaxConnections || len(d.keys) > used || guests != d.guests || int64(used) != d.count.Open.Load() || used+len(d.free) != len(d.conns) {
		t.Fatalf("%d connections, %d keys, %d and %d of the guest, %d free of %d", used, len(d.keys), guests, d.guests, len(d.free), len(d.conns))
	}
	if len(d.spare) > spareBuffers {
		t.Fatalf("%d buffers", len(d.spare))
	}
}

package vsock

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"
)

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// TestNegotiation asks for what QEMU asks for (vhost-user.rst, virtio 1.2 §5.10.4).
func TestNegotiation(t *testing.T) {
	f := newFrontend(t, Options{})
	f.serve()
	ask := func(offset, size uint32) []byte {
		b := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, offset), size), 0)
		return f.ask(reqGetConfig, 0, append(b, make([]byte, size)...))
	}
	if got := ask(0, 8); len(got) != configHeader+8 || le.Uint64(got[configHeader:]) != guestCID {
		t.Errorf("configuration % x", got)
	}
	if got := ask(4, 4); len(got) != configHeader+4 || le.Uint32(got[configHeader:]) != 0 {
		t.Errorf("upper half of the CID % x", got)
	}
	for _, c := range [][2]uint32{{0, 9}, {8, 1}, {0xffffffff, 8}, {4, 256}} {
		if got := ask(c[0], c[1]); len(got) != 0 {
			t.Errorf("configuration at %d, %d bytes: % x", c[0], c[1], got)
		}
	}
	f.setUp()
	c, host := f.link(1234, bufferBytes)
	f.send(packet(opRW, 1234, host), []byte("hello"))
	f.hear(c, "hello")
}

// featureSets are the ways in which drivers use rings.
var featureSets = map[string]uint64{
	"all":    featuresOffered,
	"plain":  featuresOffered &^ (featureEventIndex | featureIndirect),
	"events": featuresOffered &^ featureIndirect,
}

// TestStreams moves random pieces both ways at once and compares.
func TestStreams(t *testing.T) {
	const total = 3 << 20
	for name, features := range featureSets {
		t.Run(name, func(t *testing.T) {
			f := newFrontend(t, Options{})
			f.features = features
			f.serve()
			f.setUp()
			up, down := make([]byte, total), make([]byte, total)
			random := rand.New(rand.NewPCG(1, 2))
			for i := range up {
				up[i], down[i] = byte(random.Uint32()), byte(random.Uint32())
			}
			c, host := f.link(5, bufferBytes)
			go func() {
				c.Write(up)
				c.CloseWrite()
			}()
			heard := make(chan []byte, 1)
			go func() {
				b, _ := io.ReadAll(c)
				heard <- b
			}()
			// The guest: reads, and writes as far as it has credit.
			var got []byte
			var sent, peerFwd uint32
			ended := false
			h := packet(opRW, 5, host)
			for !ended || int(sent) < total {
				p, payload, ok := f.poll(0)
				if !ok && int(sent) < total {
					room := min(bufferBytes-(sent-peerFwd), uint32(total)-sent, uint32(1+random.IntN(maxData)))
					if room > 0 {
						h.fwdCnt = uint32(len(got))
						f.send(h, down[sent:sent+room])
						sent += room
						continue
					}
				}
				if !ok {
					if p, payload, ok = f.poll(patience); !ok {
						t.Fatalf("nothing comes: %d received, %d sent, %+v", len(got), sent, f.device.Stats())
					}
				}
				peerFwd = p.fwdCnt
				switch p.op {
				case opRW:
					got = append(got, payload...)
					if len(got)%7 == 0 || len(got)+(64<<10) > total {
						u := packet(opCreditUpdate, 5, host)
						u.fwdCnt = uint32(len(got))
						f.send(u, nil)
					}
				case opCreditRequest:
					u := packet(opCreditUpdate, 5, host)
					u.fwdCnt = uint32(len(got))
					f.send(u, nil)
				case opShutdown:
					if p.flags != shutdownSend {
						t.Fatalf("shutdown %+v", p)
					}
					ended = true
				case opCreditUpdate:
				default:
					t.Fatalf("packet %+v", p)
				}
			}
			h.op, h.flags, h.fwdCnt = opShutdown, shutdownBoth, uint32(len(got))
			f.send(h, nil)
			if b := <-heard; !bytes.Equal(b, down) {
				t.Errorf("the client got %d bytes, or others", len(b))
			}
			if !bytes.Equal(got, up) {
				t.Errorf("the guest got %d bytes, or others", len(got))
			}
			for {
				p, _, ok := f.poll(patience)
				if !ok {
					t.Fatal("no RST confirms the shutdown")
				}
				if p.op == opReset {
					break
				}
			}
			f.until("connections stay", func(s Stats) bool { return s.Open == 0 })
			s := f.device.Stats()
			if s.BadPackets+s.Broken+s.TimedOut+s.DroppedResets != 0 || s.BytesToGuest != total || s.BytesFromGuest != total {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestPipelined lets the client talk before it has its answer.
func TestPipelined(t *testing.T) {
	f := boot(t, Options{})
	c := f.dial("connect 99\r\nfirst words")
	h, _ := f.expect(opRequest)
	f.silence() // no data before the response
	f.send(packet(opResponse, 99, h.srcPort), nil)
	if _, p := f.expect(opRW); string(p) != "first words" {
		t.Errorf("%q", p)
	}
	f.hear(c, "OK "+itoa(h.srcPort)+"\n")
	// A line may come in pieces.
	c = f.dial("CONNECT")
	f.silence()
	c.Write([]byte(" 7\n"))
	if h, _ = f.expect(opRequest); h.dstPort != 7 {
		t.Errorf("%+v", h)
	}
}

func TestRefusedLines(t *testing.T) {
	f := boot(t, Options{})
	for _, line := range []string{
		"\n", "CONNECT\n", "CONNECT \n", "CONNECT x\n", "CONNECT -1\n", "CONNECT 4294967296\n", "CONNECT 4294967295\n",
		"CONNECT 1 2\n", "CONNECT  1\n", "LISTEN 1\n", "CONNECT 0000000000000000000000000000000001\n", "GET / HTTP/1.1\r\nHost: example.org\r\n",
	} {
		f.closed(f.dial(line))
	}
	f.until("counted", func(s Stats) bool { return s.Refused == 12 && s.Open == 0 })
	f.silence()
	// The guest refuses.
	c := f.dial("CONNECT 5\n")
	h, _ := f.expect(opRequest)
	f.send(packet(opReset, 5, h.srcPort), nil)
	f.closed(c)
}

// TestNoDriver wants clients to learn at once that there is nobody.
func TestNoDriver(t *testing.T) {
	f := newFrontend(t, Options{})
	f.serve()
	f.closed(f.dial("CONNECT 5\n"))
	f.setUp()
	f.link(5, 1)
}

func TestHalfCloseAndClose(t *testing.T) {
	f := boot(t, Options{})
	c, host := f.link(5, bufferBytes)
	c.Write([]byte("last"))
	c.CloseWrite()
	f.expect(opRW)
	if h, _ := f.expect(opShutdown); h.flags != shutdownSend {
		t.Errorf("half closed: %+v", h)
	}
	f.send(packet(opRW, 5, host), []byte("still open"))
	f.hear(c, "still open")
	c.Close()
	if h, _ := f.expect(opShutdown); h.flags != shutdownBoth {
		t.Errorf("closed: %+v", h)
	}
	f.send(packet(opReset, 5, host), nil)
	f.until("the connection stays", func(s Stats) bool { return s.Open == 0 })

	// The guest half closes, and stops to read.
	c, host = f.link(5, bufferBytes)
	h := packet(opShutdown, 5, host)
	h.flags = shutdownSend
	f.send(packet(opRW, 5, host), []byte("bye"))
	f.send(h, nil)
	f.hear(c, "bye")
	f.closed(c)
	c.Write([]byte("more"))
	f.expect(opRW)
	h.flags = shutdownReceive
	f.send(h, nil) // now both
	f.expect(opReset)

	// A client that closed with data under way: they arrive, then the end.
	c, host = f.link(6, 4)
	c.Write([]byte("12345678"))
	c.Close()
	if _, p := f.expect(opRW); string(p) != "1234" {
		t.Errorf("%q", p)
	}
	for {
		p, payload, ok := f.poll(patience)
		if !ok {
			t.Fatal("the rest does not come")
		}
		if p.op == opCreditRequest {
			u := packet(opCreditUpdate, 6, host)
			u.bufAlloc, u.fwdCnt = 4, 4
			f.send(u, nil)
		}
		if p.op == opRW && string(payload) != "5678" {
			t.Errorf("%q", payload)
		}
		if p.op == opShutdown && p.flags == shutdownBoth {
			break
		}
	}
}

// TestCreditOfGuest lets a guest with a small buffer read slowly.
func TestCreditOfGuest(t *testing.T) {
	f := boot(t, Options{})
	c, host := f.link(5, 1000)
	text := bytes.Repeat([]byte("0123456789"), 250)
	c.Write(text)
	var got []byte
	take := func(n int) {
		t.Helper()
		for len(got) < n {
			_, p := f.expect(opRW)
			got = append(got, p...)
		}
		if len(got) != n {
			t.Fatalf("%d bytes, credit for %d", len(got), n)
		}
		f.expect(opCreditRequest)
		f.silence()
	}
	take(1000)
	u := packet(opCreditUpdate, 5, host)
	u.bufAlloc, u.fwdCnt = 1000, 1
	f.send(u, nil)
	take(1001)
	u.bufAlloc, u.fwdCnt = 10, 500 // it shrank below what is under way
	f.send(u, nil)
	f.silence()
	u.bufAlloc, u.fwdCnt = 1000, 1001
	f.send(u, nil)
	take(2001)
	u.fwdCnt = 2001
	f.send(u, nil)
	_, p := f.expect(opRW)
	if got = append(got, p...); !bytes.Equal(got, text) {
		t.Errorf("%d bytes arrived, or others", len(got))
	}
	u.fwdCnt = 2501 // more than was sent
	f.send(u, nil)
	f.expect(opReset)
	f.closed(c)
}

// TestCreditOfClient lets the guest fill the buffer of a client that does not read.
func TestCreditOfClient(t *testing.T) {
	f := boot(t, Options{})
	c, host := f.link(5, bufferBytes)
	data := make([]byte, 3*bufferBytes)
	for i := range data {
		data[i] = byte(i * 7 / 3)
	}
	// The kernel takes some of it: go on until credit is really short.
	sent, fwd := uint32(0), uint32(0)
	for {
		room := min(bufferBytes-(sent-fwd), 32<<10)
		if room == 0 {
			h, _, ok := f.poll(100 * time.Millisecond)
			if !ok {
				break
			}
			fwd = h.fwdCnt
			continue
		}
		f.send(packet(opRW, 5, host), data[sent:sent+room])
		sent += room
	}
	if sent <= bufferBytes || sent >= uint32(len(data)) {
		t.Fatalf("%d bytes were taken", sent)
	}
	f.hear(c, string(data[:sent])) // all of it is there, in order
	h, _ := f.expect(opCreditUpdate)
	for h.fwdCnt != sent { // several may come; the last announcement may wait for half a buffer
		var ok bool
		if h, _, ok = f.poll(100 * time.Millisecond); !ok {
			break
		}
	}
	f.send(packet(opCreditRequest, 5, host), nil)
	if h, _ = f.expect(opCreditUpdate); h.fwdCnt != sent || h.bufAlloc != bufferBytes {
		t.Errorf("%+v after %d bytes", h, sent)
	}
	// Without credit the guest loses its connection.
	for range 2 * bufferBytes / maxData {
		f.send(packet(opRW, 5, host), data[:maxData])
	}
	for h.op != opReset {
		var ok bool
		if h, _, ok = f.poll(patience); !ok {
			t.Fatal("no RST")
		}
	}
	if s := f.device.Stats(); s.BadPackets == 0 {
		t.Errorf("%+v", s)
	}
}

// TestRestReachesClient ends a connection while a slow client has not read.
func TestRestReachesClient(t *testing.T) {
	for _, op := range []uint16{opShutdown, opReset} {
		f := boot(t, Options{})
		c, host := f.link(5, bufferBytes)
		text := bytes.Repeat([]byte("0123456789abcdef"), bufferBytes/16)
		for at := 0; at < len(text); at += maxData {
			f.send(packet(opRW, 5, host), text[at:at+maxData])
		}
		h := packet(op, 5, host)
		h.flags = shutdownBoth
		f.send(h, nil)
		if op == opShutdown {
			for p, _ := f.expectAny(); p.op != opReset; {
				p, _ = f.expectAny()
			}
		}
		time.Sleep(20 * time.Millisecond)
		if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, text) {
			t.Errorf("operation %d: %d bytes, %v", op, len(b), err)
		}
		f.until("the connection stays", func(s Stats) bool { return s.Open == 0 })
	}
}

func (f *frontend) expectAny() (header, []byte) {
	f.tb.Helper()
	h, p, ok := f.poll(patience)
	if !ok {
		f.tb.Fatal("no packet")
	}
	return h, p
}

// TestGuestInitiated connects the guest with sockets beside the device's.
func TestGuestInitiated(t *testing.T) {
	f := boot(t, Options{MaxConnections: 4})
	f.send(packet(opRequest, 40, 50), nil)
	if h, _ := f.expect(opReset); h.srcPort != 50 || h.dstPort != 40 {
		t.Errorf("%+v", h)
	}
	l, err := net.Listen("unix", f.path+"_50")
	f.check(err)
	defer l.Close()
	var conns []net.Conn
	for guest := range uint32(2) {
		h := packet(opRequest, 40+guest, 50)
		h.bufAlloc = 3
		f.send(h, nil)
		if h, _ := f.expect(opResponse); h.srcPort != 50 || h.dstPort != 40+guest || h.bufAlloc != bufferBytes {
			t.Errorf("%+v", h)
		}
		c, err := l.Accept()
		f.check(err)
		defer c.Close()
		conns = append(conns, c)
	}
	f.send(packet(opRW, 41, 50), []byte("from the guest"))
	f.hear(conns[1], "from the guest")
	conns[0].Write([]byte("abc"))
	if h, p := f.expect(opRW); string(p) != "abc" || h.dstPort != 40 {
		t.Errorf("%q in %+v", p, h)
	}
	// Half of the connections are for clients.
	f.send(packet(opRequest, 42, 50), nil)
	if h, _ := f.expect(opReset); h.dstPort != 42 {
		t.Errorf("%+v", h)
	}
	f.link(9, 1)
	f.link(9, 1)
	f.closed(f.dial("CONNECT 9\n"))
	// A second request in the same connection breaks it.
	f.send(packet(opRequest, 41, 50), nil)
	if h, _ := f.expect(opReset); h.dstPort != 41 {
		t.Errorf("%+v", h)
	}
	f.closed(conns[1])
}

// TestBadPackets sends what no driver sends (§5.10.6).
func TestBadPackets(t *testing.T) {
	f := boot(t, Options{})
	change := func(op uint16, with func(*header)) header {
		h := packet(op, 1, 2)
		with(&h)
		return h
	}
	for _, c := range []struct {
		name   string
		packet header
		reset  bool
	}{
		{"data to nobody", packet(opRW, 1, 2), true},
		{"response to nobody", packet(opResponse, 1, 2), true},
		{"unknown operation", packet(77, 1, 2), true},
		{"operation 0", packet(0, 1, 2), true},
		{"reset to nobody", packet(opReset, 1, 2), false},
		{"foreign source", change(opRW, func(h *header) { h.srcCID = 78 }), false},
		{"foreign destination", change(opRW, func(h *header) { h.dstCID = 1 }), false},
		{"source with high bits", change(opRequest, func(h *header) { h.srcCID |= 1 << 32 }), false},
		{"seqpacket", change(opRequest, func(h *header) { h.kind = 2 }), true},
		{"no type", change(opRequest, func(h *header) { h.kind = 0 }), true},
	} {
		f.send(c.packet, nil)
		if !c.reset {
			f.silence()
			continue
		}
		if h, _ := f.expect(opReset); h.kind != c.packet.kind || h.srcPort != 2 || h.dstPort != 1 {
			t.Errorf("%s: %+v", c.name, h)
		}
	}
	// In a connection.
	for name, with := range map[string]func(uint32){
		"second response":   func(host uint32) { f.send(packet(opResponse, 5, host), nil) },
		"unknown operation": func(host uint32) { f.send(packet(8, 5, host), nil) },
		"too long":          func(host uint32) { f.send(packet(opRW, 5, host), make([]byte, maxData+1)) },
		"length beyond the chain": func(host uint32) {
			r := &f.rings[queueTx]
			f.send(packet(opCreditUpdate, 5, host), nil) // prepares a slot, which is then used again
			f.wait(r, time.Second)
			for head, _, ok := f.reap(r); ok; head, _, ok = f.reap(r) {
				r.free = append(r.free, head/2)
			}
			slot := r.free[len(r.free)-1]
			at := r.buffers + int(slot)*r.stride
			h := packet(opRW, 5, host)
			h.length = 1
			h.put((*[packetHeader]byte)(f.memory[at:]))
			f.describe(r, 2*slot, at, packetHeader, 0, 0)
			f.offer(r, 2*slot)
			f.kickNow(r)
		},
	} {
		c, host := f.link(5, bufferBytes)
		with(host)
		if h, _, ok := f.poll(patience); !ok || h.op != opReset {
			t.Errorf("%s: %+v", name, h)
		}
		f.closed(c)
	}
}

// TestFairness has one client flood while others talk.
func TestFairness(t *testing.T) {
	f := boot(t, Options{})
	flood, _ := f.link(1, 1<<30)
	go func() {
		b := make([]byte, 1<<20)
		for {
			if _, err := flood.Write(b); err != nil {
				return
			}
		}
	}()
	f.expect(opRW) // the flood has begun
	quiet := f.dial("CONNECT 2\n")
	before := 0
	for h, _ := f.expectAny(); h.op != opRequest; h, _ = f.expectAny() {
		before++
	}
	if before > 2*queueSize { // what lay in the ring already, and may be filled before we look
		t.Errorf("%d packets came first", before)
	}
	quiet.Close()
	flood.Close()
}

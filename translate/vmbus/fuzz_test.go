package vmbus_test

import (
	"bytes"
	"sync/atomic"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/vmbus"
	"keel/translate/vmbus/vmbustest"
)

// FuzzMessage posts messages in any order, with signals, rescinds and late closes
// among them. The input is a list of a length byte and as many bytes; lengths from
// 250 on stand for the rest.
func FuzzMessage(f *testing.F) {
	seq := func(messages ...[]byte) []byte {
		var all []byte
		for _, m := range messages {
			all = append(append(all, byte(len(m))), m...)
		}
		return all
	}
	msg := func(kind uint32, words ...uint32) []byte {
		m := make([]byte, 8, 8+4*len(words))
		le.PutUint32(m, kind)
		for _, w := range words {
			m = le.AppendUint32(m, w)
		}
		return m
	}
	contact := msg(14, 5<<16|3, 0, 2, 0, 0, 0, 0, 0)
	rings := []uint32{1, 7, 1<<16 | 40, 4 * page, 0, 16, 0, 17, 0, 18, 0, 19, 0}
	open := append([]uint32{1, 1, 7, 0, 2}, make([]uint32, 30)...)
	f.Add(seq(contact, msg(3), msg(8, rings...), msg(5, open...), msg(22, 1, 1), msg(7, 1), msg(11, 1, 7), msg(13, 1), msg(16)))
	f.Add(append(append(seq(contact, msg(3), msg(8, rings...), msg(5, open...)), 250, 253, 251, 252), seq(contact, msg(3))...))
	f.Add(seq(contact, msg(3), msg(8, 1, 9, 1<<16|64, 0x7000, 0), msg(9, 1, 9, 1, 0), msg(9, 2, 9, 2, 0, 3, 0)))
	f.Add(seq(contact, msg(21, 1, 2, 3, 4, 5, 6, 7, 8), msg(99), msg(0)))
	f.Fuzz(func(t *testing.T, data []byte) {
		g := vmbustest.NewGuest(t, vmbus.Config{MaxChannels: 4, MaxFrames: 64})
		e, late := newEcho(), newEcho()
		late.late = true
		for i, d := range []*echo{e, late} {
			if _, err := g.Bus.Offer(vmbus.Offer{Sub: uint16(i)}, d); err != nil {
				t.Fatal(err)
			}
		}
		closes := func() {
			for len(late.closed) > 0 {
				(<-late.closed).Closed()
			}
		}
		for sub := uint16(2); len(data) > 0; {
			n := int(data[0])
			data = data[1:]
			switch {
			case n < 250:
				n = min(n, len(data))
				_ = g.Bus.Message(4, data[:n])
				data = data[n:]
			case n == 250:
				_ = g.Bus.Signal(0x2001)
			case n == 251:
				closes()
			case n == 252 && e.channel != nil:
				e.channel.Rescind()
			case n == 253:
				if _, err := g.Bus.Offer(vmbus.Offer{Sub: sub}, e); err == nil {
					sub++
				}
			case n == 254:
				g.SynIC.Forget()
			}
			if err := g.Bus.Check(); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan struct{})
		go func() {
			g.Bus.Reset()
			close(done)
		}()
		for waiting := true; waiting; {
			select {
			case <-done:
				waiting = false
			case c := <-late.closed:
				c.Closed()
			}
		}
		if !g.Bus.Idle() {
			t.Error("something is left after a reset")
		}
	})
}

// FuzzGPADL sends a page list as the guest likes. What is accepted must be guest
// memory.
func FuzzGPADL(f *testing.F) {
	good := le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, page), 0), 5)
	f.Add(uint16(16), uint16(1), good)
	f.Add(uint16(16), uint16(1), le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, page), 0), 1<<52))
	f.Add(uint16(32), uint16(2), append(bytes.Clone(good), good...))
	f.Add(uint16(8), uint16(1), good[:8])
	f.Add(uint16(0xFFF8), uint16(0xFFFF), good)
	f.Fuzz(func(t *testing.T, want, count uint16, list []byte) {
		g, _ := start(t, 4<<16, newEcho())
		list = list[:min(len(list), 8000)]
		m := make([]byte, 20, 240)
		le.PutUint32(m, 8)
		le.PutUint32(m[8:], 1)
		le.PutUint32(m[12:], 5)
		le.PutUint16(m[16:], want)
		le.PutUint16(m[18:], count)
		n := min(len(list), 220)
		g.Raw(append(m, list[:n]...))
		for n < len(list) {
			b := make([]byte, 16, 240)
			le.PutUint32(b, 9)
			le.PutUint32(b[12:], 5)
			part := list[n:min(n+224, len(list))]
			g.Raw(append(b, part...))
			n += len(part)
		}
		if err := g.Bus.Check(); err != nil {
			t.Fatal(err)
		}
		answers := g.SynIC.Waiting()
		if answers == 0 {
			return // not complete
		}
		if m := g.Want(10, 20); le.Uint32(m[16:]) != 0 {
			return
		}
		list = list[:min(int(want), len(list))]
		for range count {
			length, offset := uint64(le.Uint32(list)), uint64(le.Uint32(list[4:]))
			list = list[8:]
			for i := range (offset + length + page - 1) / page {
				if length == 0 {
					break
				}
				if _, err := g.Mem.Slice(x86.GPA(le.Uint64(list[8*i:])*page), 1); err != nil {
					t.Fatalf("page %#x was accepted", le.Uint64(list[8*i:]))
				}
			}
			if length != 0 {
				list = list[8*((offset+length+page-1)/page):]
			}
		}
	})
}

// FuzzRing writes anything into a ring's control page and data and signals.
func FuzzRing(f *testing.F) {
	packet := make([]byte, 32)
	le.PutUint16(packet, 6)
	le.PutUint16(packet[2:], 2)
	le.PutUint16(packet[4:], 3)
	le.PutUint16(packet[6:], 1)
	f.Add(uint32(0), uint32(32), uint32(0), uint32(0), packet)
	f.Add(uint32(8184), uint32(24), uint32(0x1FFF), uint32(0), packet)
	f.Add(uint32(4), uint32(0xFFFFFFF8), uint32(1), uint32(0xFFFFFFF8), packet)
	f.Add(uint32(0), uint32(40), uint32(0), uint32(8), append(vmbustest.Direct(0, 1, 5), packet...))
	f.Fuzz(func(t *testing.T, at, write, pending, outRead uint32, data []byte) {
		e := newEcho()
		g, offer := start(t, 4<<16, e)
		p, status := g.OpenWith(offer, 0, 2)
		if status != 0 {
			t.Fatal("open failed")
		}
		// The ring is moved to where the data shall be: the server has its own index.
		for i := uint32(0); i < at%p.Out.Size/8*8; i += 32 {
			if le.Uint32(packet) == 0 {
				break
			}
			if !p.Write(packet[:24]) {
				break
			}
			e.mu.Lock()
			e.full = nil
			e.mu.Unlock()
			p.Poll()
		}
		start := atomic.LoadUint32(&p.Out.Ctl[0])
		p.Out.Copy(start, data[:min(len(data), int(p.Out.Size))], true)
		atomic.StoreUint32(&p.Out.Ctl[3], pending)
		atomic.StoreUint32(&p.In.Ctl[1], outRead)
		atomic.StoreUint32(&p.Out.Ctl[0], write)
		p.Ring()
		p.Ring()
		if _, ok := g.Bus.Stats(), write%8 == 0 && write < p.Out.Size; !ok && g.Bus.Stats().BrokenRings != 1 {
			t.Errorf("write index %#x: %+v", write, g.Bus.Stats())
		}
		if read := atomic.LoadUint32(&p.Out.Ctl[1]); read%8 != 0 || read >= p.Out.Size {
			t.Errorf("read index %#x", read)
		}
		if at := atomic.LoadUint32(&p.In.Ctl[0]); at%8 != 0 || at >= p.In.Size {
			t.Errorf("write index of the answers %#x", at)
		}
		// Whatever happened, the channel works after it was opened afresh.
		g.Post(7, p.RelID)
		g.Post(11, p.RelID, p.Handle)
		g.Want(12, 12)
		e.full = nil
		p = g.Open(offer, 0)
		p.Send(6, 1, 3, nil, make([]byte, 8))
		if _, id, _ := p.Recv(); id != 3 {
			t.Error("the channel does not work any more")
		}
	})
}

package storvsp_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"keel/hcl/abi/x86"
	"keel/translate/blk"
	"keel/translate/scsi"
	"keel/translate/storvsp"
	"keel/translate/vmbus/vmbustest"
)

func read10(lba uint32, blocks uint16) []byte {
	c := make([]byte, 10)
	c[0] = 0x28
	c[2], c[3], c[4], c[5] = byte(lba>>24), byte(lba>>16), byte(lba>>8), byte(lba)
	c[7], c[8] = byte(blocks>>8), byte(blocks)
	return c
}

func write10(lba uint32, blocks uint16) []byte {
	c := read10(lba, blocks)
	c[0] = 0x2A
	return c
}

func inquiry(length byte) []byte { return []byte{0x12, 0, 0, 0, length, 0} }

func TestNewChecks(t *testing.T) {
	for _, c := range []storvsp.Config{{}, {VPs: 1}} {
		if _, err := storvsp.New(c); !errors.Is(err, storvsp.ErrConfig) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestNegotiationOrder(t *testing.T) {
	m := boot(t, storvsp.Config{})
	if m.max != storvsp.DefaultTransfer || m.subs != vmbustest.VPs-1 {
		t.Errorf("transfers of %d bytes, %d sub-channels", m.max, m.subs)
	}
	// Everything is over but sub-channels.
	for _, op := range []uint32{7, 8, 9, 10} {
		if s, _ := m.op(m.main, op, 64, nil); s != 0xC0000184 {
			t.Errorf("operation %d when ready: %#x", op, s)
		}
	}
	for _, op := range []uint32{0, 1, 2, 11, 12, 14, 0xFFFFFFFF} {
		if s, _ := m.op(m.main, op, 64, nil); s != 0xC0000010 {
			t.Errorf("operation %#x: %#x", op, s)
		}
	}
	// Afresh, in wrong order.
	m.main.Close()
	if s := m.main.Open(0, m.Pages(64), 32); s != 0 {
		t.Fatalf("reopening: %#x", s)
	}
	for _, op := range []uint32{3, 4, 5, 6, 8, 9, 10, 13} {
		if s, _ := m.op(m.main, op, 64, nil); s != 0xC0000184 {
			t.Errorf("operation %d before the beginning: %#x", op, s)
		}
	}
	m.op(m.main, 7, 48, nil)
	for _, c := range []struct {
		version uint16
		status  uint32
	}{{2 << 8, 0xC0000059}, {4<<8 | 2, 0xC0000059}, {7 << 8, 0xC0000059}, {6 << 8, 0}} {
		s, a := m.op(m.main, 9, 48, func(p []byte) { le.PutUint16(p[12:], c.version) })
		if s != c.status || le.Uint16(a[12:]) != c.version {
			t.Errorf("version %#x: %#x, % x", c.version, s, a[8:16])
		}
	}
}

func TestPacketsThatNobodyCanAnswer(t *testing.T) {
	m := boot(t, storvsp.Config{})
	m.main.Send(6, 0, 1, nil, make([]byte, 64)) // wants no completion
	m.main.Send(6, 1, 1, nil, make([]byte, 40)) // too short
	m.main.Send(11, 1, 1, nil, make([]byte, 64))
	m.ready()
	if s := m.vsp.Stats(); s.BadPackets != 2 {
		t.Errorf("%+v", s)
	}
	if s := m.Bus.Stats(); s.BadPackets != 1 {
		t.Errorf("%+v", s)
	}
}

func TestReadAndWrite(t *testing.T) {
	for _, directDMA := range []bool{false, true} {
		m := boot(t, storvsp.Config{DirectDMA: directDMA})
		m.ready()
		pages := m.Pages(4)
		want := make([]byte, 3*page)
		for i := range want {
			want[i] = byte(i * 7)
		}
		put := func(data []byte) {
			for i, at := 0, uint32(0x200); i < len(pages); i, at = i+1, 0 {
				n := min(len(data), int(page-at))
				if err := m.Mem.WriteAt(pages[i]+x86.GPA(at), data[:n]); err != nil {
					t.Fatal(err)
				}
				data = data[n:]
			}
		}
		put(want)
		list := vmbustest.Direct(0x200, 3*page, pages...)
		a := m.run(m.main, srb{cdb: write10(8, 24), in: 0, length: 3 * page, data: list})
		if a.srb != 1 || a.status != 0 || a.moved != 3*page || a.nt != 0 {
			t.Errorf("write: %+v", a)
		}
		if !bytes.Equal(m.disk.data[8*512:][:3*page], want) {
			t.Error("the disk has other data")
		}
		if dma := m.disk.dma[0]; directDMA && dma != uint64(pages[0])+0x200 || !directDMA && dma != blk.NoDMA {
			t.Errorf("DMA address %#x", dma)
		}
		put(make([]byte, 3*page))
		a = m.run(m.main, srb{cdb: read10(8, 24), in: 1, length: 3 * page, data: list})
		if a.srb != 1 || a.moved != 3*page {
			t.Errorf("read: %+v", a)
		}
		got := make([]byte, 0x100)
		if err := m.Mem.ReadAt(pages[1], got); err != nil || !bytes.Equal(got, want[page-0x200:][:0x100]) {
			t.Errorf("read % x, %v", got[:16], err)
		}
	}
}

// TestLargeTransfers uses long page lists, more at once than there are.
func TestLargeTransfers(t *testing.T) {
	m := boot(t, storvsp.Config{Depth: 512})
	m.ready()
	m.disk.setHold(true)
	pages := m.Pages(65)
	list := vmbustest.Direct(0x800, 64*page, pages...)
	sent, answered := 0, 0
	for i := range 200 {
		r := srb{cdb: read10(0, 512), in: 1, length: 64 * page, data: list, id: uint64(i + 1)}
		if submit(m.main, r) {
			sent++
		}
		if i == 100 {
			m.disk.setHold(false)
		}
		for {
			_, id, a, ok := m.main.Poll()
			if !ok {
				break
			}
			if r := parse(t, id, a); r.srb != 1 || r.moved != 64*page {
				t.Fatalf("%+v", r)
			}
			answered++
		}
	}
	for ; answered < sent; answered++ {
		_, id, a := m.main.Recv()
		if r := parse(t, id, a); r.srb != 1 {
			t.Fatalf("%+v", r)
		}
	}
	if s := m.vsp.Stats(); s.Stalls == 0 || s.BadRequest != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBadRequests(t *testing.T) {
	m := boot(t, storvsp.Config{})
	m.ready()
	p := m.Pages(2)
	cdb := read10(0, 8)
	for name, r := range map[string]srb{
		"no CDB":             {in: 1, length: page, data: vmbustest.Direct(0, page, p[0])},
		"CDB of 17 bytes":    {cdb: make([]byte, 17), in: 1, length: page, data: vmbustest.Direct(0, page, p[0])},
		"no pages":           {cdb: cdb, in: 1, length: page},
		"too few pages":      {cdb: cdb, in: 1, length: 2 * page, data: vmbustest.Direct(0, page, p[0])},
		"missing numbers":    {cdb: cdb, in: 1, length: 2 * page, data: vmbustest.Direct(0, 2*page, p[0])},
		"direction":          {cdb: cdb, in: 2, length: page, data: vmbustest.Direct(0, page, p[0])},
		"offset of a page":   {cdb: cdb, in: 1, length: page, data: vmbustest.Direct(page, page, p[0], p[1])},
		"not guest memory":   {cdb: cdb, in: 1, length: page, data: vmbustest.Direct(0, page, 0xF0000000)},
		"no physical memory": {cdb: cdb, in: 1, length: page, data: vmbustest.Direct(0, page, 1<<63)},
		"longer than agreed": {cdb: cdb, in: 1, length: storvsp.DefaultTransfer + 1, data: vmbustest.Direct(0, page, p[0])},
		"absurd length":      {cdb: cdb, in: 1, length: 0xFFFFFFFF, data: vmbustest.Direct(0, 0xFFFFFFFF, p[0])},
	} {
		if a := m.run(m.main, r); a.srb != 6 || a.moved != 0 || a.nt != 0xC0000010 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if s := m.vsp.Stats(); s.BadRequest != 11 {
		t.Errorf("%+v", s)
	}
	m.ready()
}

// TestSense follows what Linux does with errors (storvsc_handle_error).
func TestSense(t *testing.T) {
	m := boot(t, storvsp.Config{})
	a := m.run(m.main, srb{cdb: make([]byte, 6), in: 2})
	if a.srb != 0x84 || a.status != 2 || len(a.sense) < 18 || a.sense[2] != 6 || a.sense[12] != 0x29 {
		t.Errorf("power on: %+v", a)
	}
	m.ready()
	p := m.Pages(1)
	a = m.run(m.main, srb{cdb: read10(5000, 8), in: 1, length: page, data: vmbustest.Direct(0, page, p[0])})
	if a.srb != 0x84 || a.status != 2 || a.sense[2] != 5 || a.sense[12] != 0x21 || a.moved != 0 {
		t.Errorf("beyond the end: %+v", a)
	}
	// A short answer is a success with a length.
	a = m.run(m.main, srb{cdb: inquiry(255), in: 1, length: 255, data: vmbustest.Direct(0, 255, p[0])})
	if a.srb != 1 || a.moved < 36 || a.moved >= 255 {
		t.Errorf("INQUIRY: %+v", a)
	}
	got := make([]byte, 1)
	if err := m.Mem.ReadAt(p[0], got); err != nil || got[0] != 0 {
		t.Errorf("device type %#x, %v", got[0], err)
	}
}

func TestAbsentDisks(t *testing.T) {
	m := boot(t, storvsp.Config{})
	m.ready()
	p := m.Pages(1)
	for _, at := range []srb{{lun: 1}, {lun: 63}, {lun: 64}, {lun: 255}, {path: 1}, {target: 1}, {path: 255, target: 255, lun: 255}} {
		r := at
		r.cdb, r.in = make([]byte, 6), 2
		if a := m.run(m.main, r); a.srb != 0x20 || a.nt != 0xC00000C0 {
			t.Errorf("TEST UNIT READY of %+v: %+v", at, a)
		}
		r.cdb, r.in, r.length, r.data = inquiry(36), 1, 36, vmbustest.Direct(0, 36, p[0])
		a := m.run(m.main, r)
		got := make([]byte, 1)
		if err := m.Mem.ReadAt(p[0], got); err != nil || a.srb != 1 || got[0] != 0x7F {
			t.Errorf("INQUIRY of %+v: %+v, type %#x", at, a, got[0])
		}
	}
	// Nobody looks for more on other paths.
	report := make([]byte, 12)
	report[0], report[9] = 0xA0, 255
	for _, c := range []struct {
		path byte
		want uint32
	}{{0, 8}, {1, 0}} {
		if err := m.Mem.WriteAt(p[0], bytes.Repeat([]byte{0xFF}, 8)); err != nil {
			t.Fatal(err)
		}
		a := m.run(m.main, srb{path: c.path, cdb: report, in: 1, length: 255, data: vmbustest.Direct(0, 255, p[0])})
		got := make([]byte, 4)
		if err := m.Mem.ReadAt(p[0], got); err != nil || a.srb != 1 || uint32(got[3]) != c.want || a.moved != 8+c.want {
			t.Errorf("REPORT LUNS of path %d: %+v, % x", c.path, a, got)
		}
	}
}

func TestSubChannels(t *testing.T) {
	m := boot(t, storvsp.Config{})
	m.ready()
	create := func(n uint16) uint32 {
		s, _ := m.op(m.main, 13, 64, func(p []byte) { le.PutUint16(p[12:], n) })
		return s
	}
	if s := create(vmbustest.VPs); s != 0xC000000D {
		t.Errorf("too many sub-channels: %#x", s)
	}
	if s := create(vmbustest.VPs - 1); s != 0 {
		t.Fatalf("sub-channels: %#x", s)
	}
	if s := create(1); s != 0xC0000184 {
		t.Errorf("sub-channels again: %#x", s)
	}
	p := m.Pages(1)
	var subs []*vmbustest.Port
	offers := [][]byte{m.Want(1, 196), m.Want(1, 196), m.Want(1, 196)}
	for i, offer := range offers {
		if le.Uint16(offer[180:]) != uint16(i+1) || !bytes.Equal(offer[24:40], mustGUID(t)) {
			t.Errorf("sub-channel %d: % x", i, offer[176:])
		}
		sub, status := m.OpenWith(offer, uint32(i+1), 7)
		if status != 0 {
			t.Fatalf("opening sub-channel %d: %#x", i, status)
		}
		if s, _ := m.op(sub, 7, 64, nil); s != 0xC0000184 {
			t.Errorf("initialization over a sub-channel: %#x", s)
		}
		a := m.run(sub, srb{cdb: read10(0, 8), in: 1, length: page, data: vmbustest.Direct(0, page, p[0])})
		if a.srb != 1 || m.SynIC.LastVP() != i+1 {
			t.Errorf("sub-channel %d: %+v, interrupt on VP %d", i, a, m.SynIC.LastVP())
		}
		subs = append(subs, sub)
	}
	// They end with the channel.
	m.Post(7, m.main.RelID)
	for range subs {
		m.Want(2, 12)
	}
	m.Post(11, m.main.RelID, m.main.Handle)
	m.Want(12, 12)
}

func mustGUID(t *testing.T) []byte {
	t.Helper()
	return []byte{0x3d, 0x2c, 0x1b, 0x9a, 1, 0, 0, 0x40, 0x80, 0, 0, 0, 0, 0, 0, 1}
}

func TestReset(t *testing.T) {
	for _, op := range []uint32{4, 5, 6} {
		m := boot(t, storvsp.Config{})
		m.ready()
		m.disk.setHold(true)
		p := m.Pages(1)
		for i := range 5 {
			submit(m.main, srb{cdb: read10(0, 8), in: 1, length: page, data: vmbustest.Direct(0, page, p[0]), id: uint64(i + 1)})
		}
		reset := make([]byte, 64)
		le.PutUint32(reset, op)
		m.main.Send(6, 1, 99, nil, reset)
		seen := map[uint64]bool{}
		for range 5 {
			_, id, a := m.main.Recv()
			if r := parse(t, id, a); r.srb != 0x0E || r.status != 0x40 {
				t.Errorf("operation %d: %+v", op, r)
			}
			seen[id] = true
		}
		_, id, a := m.main.Recv()
		if len(seen) != 5 || id != 99 || le.Uint32(a) != 1 || le.Uint32(a[8:]) != 0 {
			t.Errorf("operation %d: transaction %d, % x", op, id, a[:12])
		}
		m.disk.setHold(false)
		m.ready()
	}
}

func TestHotPlug(t *testing.T) {
	m := boot(t, storvsp.Config{})
	m.ready()
	rescan := func() {
		t.Helper()
		kind, id, a := m.main.Recv()
		if kind != 6 || id != 0 || len(a) != 64 || le.Uint32(a) != 11 {
			t.Fatalf("type %d, transaction %d, % x", kind, id, a)
		}
	}
	if err := m.target.Add(5, scsi.Disk, newRAM(100)); err != nil {
		t.Fatal(err)
	}
	rescan()
	for range 3 { // power on, LUNs changed
		m.run(m.main, srb{lun: 5, cdb: make([]byte, 6), in: 2})
	}
	m.disk.blocks.Store(4000)
	m.disk.watch(blk.EventResized)
	rescan()
	for {
		a := m.run(m.main, srb{cdb: make([]byte, 6), in: 2})
		if a.srb == 1 {
			t.Error("the size changed and no attention told")
			break
		}
		if a.sense[12] == 0x2A && a.sense[13] == 9 {
			break // what storvsc_handle_error looks for
		}
	}
	if err := m.target.Remove(5); err != nil {
		t.Fatal(err)
	}
	rescan()
	if a := m.run(m.main, srb{lun: 5, cdb: make([]byte, 6), in: 2}); a.srb != 0x20 {
		t.Errorf("a disk that is gone: %+v", a)
	}
	m.vsp.Remove()
	m.vsp.Remove()
	m.Want(2, 12)
}

// TestCloseWithCommands closes while the disk works.
func TestCloseWithCommands(t *testing.T) {
	m := boot(t, storvsp.Config{})
	m.ready()
	m.disk.setHold(true)
	p := m.Pages(1)
	for i := range 7 {
		submit(m.main, srb{cdb: read10(0, 8), in: 1, length: page, data: vmbustest.Direct(0, page, p[0]), id: uint64(i + 1)})
	}
	if m.disk.waiting() != 7 {
		t.Fatalf("%d requests", m.disk.waiting())
	}
	m.Post(16)
	m.Want(17, 8)
	if m.disk.waiting() != 0 {
		t.Error("UNLOAD was answered with requests under way")
	}
}

// TestDepth has more commands in the ring than may be under way.
func TestDepth(t *testing.T) {
	m := boot(t, storvsp.Config{Depth: 4})
	m.ready()
	m.disk.setHold(true)
	p := m.Pages(1)
	for i := range 20 {
		if !submit(m.main, srb{cdb: read10(0, 8), in: 1, length: page, data: vmbustest.Direct(0, page, p[0]), id: uint64(i + 1)}) {
			t.Fatal("the ring is full")
		}
	}
	if n := m.disk.waiting(); n != 4 {
		t.Errorf("%d requests under way", n)
	}
	m.disk.setHold(false)
	for range 20 {
		m.main.Recv()
	}
}

// TestFullRing has more answers than fit into the guest's ring.
func TestFullRing(t *testing.T) {
	m := boot(t, storvsp.Config{})
	m.main.Close()
	// Again, with a small ring for answers.
	if s := m.main.Open(0, m.Pages(34), 32); s != 0 {
		t.Fatalf("open: %#x", s)
	}
	m.negotiate()
	m.ready()
	p := m.Pages(1)
	for i := range 150 {
		if !submit(m.main, srb{cdb: read10(0, 8), in: 1, length: page, data: vmbustest.Direct(0, page, p[0]), id: uint64(i + 1)}) {
			t.Fatal("the ring is full")
		}
	}
	m.vsp.Event(scsi.Event{})
	if s := m.vsp.Stats(); s.FullRings == 0 {
		t.Errorf("%+v", s)
	}
	last := uint64(0)
	for range 150 {
		_, id, _ := m.main.Recv()
		if id != last+1 {
			t.Fatalf("transaction %d after %d", id, last)
		}
		last = id
	}
	if kind, _, a := m.main.Recv(); kind != 6 || le.Uint32(a) != 11 {
		t.Errorf("type %d, % x", kind, a)
	}
}

func TestNoAllocations(t *testing.T) {
	m := boot(t, storvsp.Config{})
	m.ready()
	p := m.Pages(40)
	raw := make([]byte, 64)
	le.PutUint32(raw, 3)
	raw[20], raw[22] = 10, 1
	for _, n := range []int{1, 40} {
		list := vmbustest.Direct(0, uint32(n*page), p[:n]...)
		le.PutUint32(raw[24:], uint32(n*page))
		copy(raw[28:], read10(0, uint16(n*8)))
		packet := make([]byte, 16, 1024)
		packet = append(append(packet, list...), raw...)
		le.PutUint16(packet, 9)
		le.PutUint16(packet[2:], uint16((16+len(list))/8))
		le.PutUint16(packet[4:], uint16(len(packet)/8))
		le.PutUint16(packet[6:], 1)
		allocations := testing.AllocsPerRun(200, func() {
			if !m.main.Write(packet) {
				t.Fatal("the ring is full")
			}
			for m.main.In.Ctl[0] == m.main.In.Ctl[1] {
				time.Sleep(0)
			}
			m.main.In.Ctl[1] = m.main.In.Ctl[0]
		})
		if allocations > 0 {
			t.Errorf("%d pages: %v allocations a command", n, allocations)
		}
	}
	if s := m.vsp.Stats(); s.BadRequest+s.Absent != 0 {
		t.Errorf("%+v", s)
	}
}

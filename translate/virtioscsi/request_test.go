package virtioscsi

import (
	"bytes"
	"errors"
	"testing"

	"keel/hcl/abi/x86"
	"keel/translate/scsi"
	"keel/translate/virtio/virtiotest"
)

func TestConfiguration(t *testing.T) {
	b := newFake(t, &target{})
	for _, c := range []struct {
		name   string
		offset x86.GPA
		size   int
		want   uint64
	}{
		{"num_queues", 0, 4, 2},
		{"seg_max", 4, 4, 62},
		{"max_sectors", 8, 4, 0xffff},
		{"cmd_per_lun", 12, 4, 64},
		{"event_info_size", 16, 4, 16},
		{"sense_size", 20, 4, 96},
		{"cdb_size", 24, 4, 32},
		{"max_channel", 28, 2, 0},
		{"max_target", 30, 2, 0},
		{"max_lun", 32, 4, 63},
	} {
		if got := b.Config(c.offset, c.size); got != c.want {
			t.Errorf("%s = %d, want %d", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		offset x86.GPA
		size   int
		write  uint64
		want   uint64
	}{
		{20, 4, 252, 252},
		{20, 4, 253, 252},
		{20, 4, 0, 0},
		{20, 4, 0xffffffff, 0},
		{20, 2, 4, 0},
		{24, 4, 255, 255},
		{24, 4, 256, 255},
		{24, 4, 0, 255},
		{24, 4, 6, 6},
		{24, 1, 7, 6},
		{0, 4, 9, 2},
		{32, 4, 9, 63},
	} {
		b.SetConfig(c.offset, c.size, c.write)
		if got := b.Config(c.offset, 4); got != c.want {
			t.Errorf("configuration %d holds %d after %d, want %d", c.offset, got, c.write, c.want)
		}
	}
	if got := b.controller.Stats().Config; got != 8 {
		t.Errorf("%d writes refused, want 8", got)
	}
	b.SetStatus(0)
	if b.Config(20, 4) != 96 || b.Config(24, 4) != 32 {
		t.Error("sizes survive a reset")
	}
	if got := b.Offered() & 0xffffff; got != 7 {
		t.Errorf("features %#x", got)
	}
	if f := b.controller.PCI(); f.ReadConfig(0, 4) != 0x10481af4 || f.ReadConfig(8, 4) != 0x01000001 {
		t.Errorf("identity %#x, class %#x", f.ReadConfig(0, 4), f.ReadConfig(8, 4))
	}
}

func TestRefusedConfigurations(t *testing.T) {
	b := newFake(t, &target{})
	for name, change := range map[string]func(*Config){
		"no target":   func(c *Config) { c.Target = nil },
		"queues":      func(c *Config) { c.RequestQueues = 65 },
		"queue size":  func(c *Config) { c.QueueSize = 48 },
		"small queue": func(c *Config) { c.QueueSize = 2 },
		"initiator":   func(c *Config) { c.Initiator = scsi.MaxInitiators },
		"no memory":   func(c *Config) { c.Memory = nil },
	} {
		c := Config{Target: &target{}, Memory: b.memory, MSI: b.vectors}
		change(&c)
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

func TestLUNs(t *testing.T) {
	for _, c := range []struct {
		address [8]byte
		lun     uint16
		ok      bool
	}{
		{[8]byte{1, 0, 0, 0}, 0, true},
		{[8]byte{1, 0, 0, 63}, 63, true},
		{[8]byte{1, 0, 0x40, 5}, 5, true},
		{[8]byte{1, 0, 0x41, 2}, 258, true},
		{[8]byte{1, 0, 0x7f, 0xff}, 16383, true},
		{[8]byte{0xc1, 1, 0, 0}, scsi.ReportLUNs, true},
		{[8]byte{1, 0, 0xc1, 1}, scsi.ReportLUNs, true},
		{[8]byte{1, 1, 0x40, 0}, 0, false},
		{[8]byte{1, 255, 0, 0}, 0, false},
		{[8]byte{0, 0, 0, 0}, 0, false},
		{[8]byte{2, 0, 0, 0}, 0, false},
		{[8]byte{1, 0, 1, 0}, 0, false}, // another bus
		{[8]byte{1, 0, 0x80, 0}, 0, false},
		{[8]byte{1, 0, 0xc1, 2}, 0, false},
		{[8]byte{1, 0, 0, 0, 0, 1}, 0, false}, // second level
		{[8]byte{1, 0, 0, 0, 0, 0, 0, 1}, 0, false},
		{[8]byte{0xc1, 1, 0, 1}, 0, false},
		{[8]byte{0xc1, 2, 0, 0}, 0, false},
	} {
		g := &target{}
		var got *scsi.Command
		g.submit = func(s *scsi.Command) { got = s; s.Done(s) }
		b := newFake(t, g).start(allFeatures)
		r := b.do(c.address, []byte{0}, nil, 0)
		if !r.used || (got != nil) != c.ok || c.ok && got.LUN != c.lun {
			t.Errorf("%x: target saw it %v", c.address, got != nil)
		}
		want := respOK
		if !c.ok {
			want = respBadTarget
		}
		if r.response != want || (b.controller.Stats().BadTarget == 0) != c.ok {
			t.Errorf("%x: response %d, want %d", c.address, r.response, want)
		}
	}
}

func TestResponses(t *testing.T) {
	for _, c := range []struct {
		name   string
		result func(*scsi.Command)
		want   reply
	}{
		{"good", func(*scsi.Command) {}, reply{written: 108 + 512}},
		{"half", func(s *scsi.Command) { s.Residual = 256 }, reply{written: 108 + 256, residual: 256}},
		{"nothing", func(s *scsi.Command) { s.Residual = 512 }, reply{written: 108, residual: 512}},
		{"more than there is", func(s *scsi.Command) { s.Residual = 1 << 40 }, reply{written: 108, residual: 0xffffffff}},
		{
			"check condition", func(s *scsi.Command) {
				s.Status, s.SenseLen, s.Residual = 2, 18, 512
				s.Sense[0], s.Sense[2], s.Sense[17] = 0x70, 5, 9
			}, reply{written: 108, residual: 512, status: 2, senseLen: 18, sense: []byte{0x70, 0, 5, 17: 9, 18: 0}},
		},
		{"task set full", func(s *scsi.Command) { s.Status, s.Residual = 0x28, 512 }, reply{written: 108, residual: 512, status: 0x28}},
		{"overrun", func(s *scsi.Command) { s.Overrun, s.Status = true, 2 }, reply{written: 620, status: 2, response: respOverrun}},
		{"aborted", func(s *scsi.Command) { s.Ending, s.Status, s.Residual = scsi.Aborted, 0x40, 512 }, reply{written: 108, residual: 512, status: 0x40, response: respAborted}},
		{"reset", func(s *scsi.Command) { s.Ending, s.Residual = scsi.WasReset, 512 }, reply{written: 108, residual: 512, response: respReset}},
		{"removed", func(s *scsi.Command) { s.Ending, s.Residual = scsi.Removed, 512 }, reply{written: 108, residual: 512, response: respBadTarget}},
		{"a sense length out of bounds", func(s *scsi.Command) { s.SenseLen = 1000 }, reply{written: 620, senseLen: scsi.SenseSize}},
	} {
		g := &target{}
		g.submit = func(s *scsi.Command) {
			s.Status, s.Ending, s.SenseLen, s.Residual, s.Overrun = 0, scsi.Completed, 0, 0, false
			c.result(s)
			s.Done(s)
		}
		b := newFake(t, g).start(allFeatures)
		r := b.do(lun1(0), []byte{0x28}, nil, 512)
		w := c.want
		if !r.used || r.written != w.written || r.senseLen != w.senseLen || r.residual != w.residual ||
			r.status != w.status || r.response != w.response {
			t.Errorf("%s: %+v", c.name, r)
		}
		if w.sense != nil && !bytes.Equal(r.sense[:len(w.sense)], w.sense) {
			t.Errorf("%s: sense %x", c.name, r.sense)
		}
		if r.sense[95] != 0 {
			t.Errorf("%s: the rest of the sense data is %#x", c.name, r.sense[95])
		}
	}
}

func TestCommandReachesTheTarget(t *testing.T) {
	g := &target{}
	cdb := []byte{0x8a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}
	var seen scsi.Command
	g.submit = func(s *scsi.Command) {
		seen.CDB, seen.LUN, seen.Tag, seen.Queue, seen.Out, seen.In = s.CDB, s.LUN, s.Tag, s.Queue, s.Out, s.In
		s.Done(s)
	}
	b := newFake(t, g).start(allFeatures)
	b.send(1, lun1(7), 0x1122334455667788, cdb, []byte("out data"), 0)
	if !bytes.Equal(seen.CDB[:], cdb[:16]) || seen.LUN != 7 || seen.Tag != 0x1122334455667788 || seen.Queue != 1 {
		t.Errorf("target saw %x, LUN %d, tag %#x, queue %d", seen.CDB, seen.LUN, seen.Tag, seen.Queue)
	}
	if len(seen.Out) != 1 || string(seen.Out[0].Data) != "out data" || len(seen.In) != 0 {
		t.Errorf("data %v, %v", seen.Out, seen.In)
	}
	if at := b.View(x86.GPA(seen.Out[0].DMA), 8); string(at) != "out data" {
		t.Errorf("DMA address %#x", seen.Out[0].DMA)
	}
	// What a short CDB lacks is zero, whatever was there before.
	b.do(lun1(0), cdb, nil, 0)
	b.SetConfig(24, 4, 6)
	b.cdbSize = 6
	b.do(lun1(0), []byte{1, 2, 3, 4, 5, 6}, nil, 0)
	if want := [16]byte{1, 2, 3, 4, 5, 6}; seen.CDB != want {
		t.Errorf("6-byte CDB %x", seen.CDB)
	}
	b.SetConfig(20, 4, 18)
	b.senseSize = 18
	g.submit = func(s *scsi.Command) { s.SenseLen = 32; fill(s) }
	if r := b.do(lun1(0), []byte{0}, nil, 4); r.senseLen != 18 || r.written != 12+18+4 || !bytes.Equal(r.data, []byte{0, 1, 2, 3}) {
		t.Errorf("with 18 bytes of sense %+v", r)
	}
}

// TestFraming cuts a request in unusual places: the boundaries of descriptors
// mean nothing (§2.7.4).
func TestFraming(t *testing.T) {
	g := &target{}
	var out []byte
	g.submit = func(s *scsi.Command) {
		out = nil
		for _, o := range s.Out {
			out = append(out, o.Data...)
		}
		fill(s)
	}
	b := newFake(t, g).start(allFeatures)
	const readable, writable = 51 + 10, 108 + 20
	for _, step := range []int{1, 2, 7, 50, 51, 52, 107, 108, 109, 500} {
		if readable/step+writable/step > 60 {
			continue // more than the driver's table holds
		}
		req, v := b.buffer(readable)
		copy(v, []byte{1, 0, 0x40, 0})
		copy(v[51:], "0123456789")
		resp, w := b.buffer(writable)
		cut := func(buf virtiotest.Buffer) (list []virtiotest.Buffer) {
			for buf.Size > 0 {
				n := min(uint32(step), buf.Size)
				list = append(list, virtiotest.Buffer{GPA: buf.GPA, Size: n})
				buf.GPA, buf.Size = buf.GPA+x86.GPA(n), buf.Size-n
			}
			return list
		}
		if _, ok := b.requests[0].Add(cut(req), cut(resp)); !ok {
			t.Fatalf("step %d does not fit", step)
		}
		b.requests[0].Kick()
		_, n, ok := b.requests[0].Poll()
		if !ok || n != writable || string(out) != "0123456789" || w[11] != 0 || w[108] != 0 || w[127] != 19 {
			t.Errorf("step %d: used %v, %d bytes, out %q, response %d, data %x", step, ok, n, out, w[11], w[108:])
		}
	}
}

func TestMalformedRequests(t *testing.T) {
	for _, c := range []struct {
		name     string
		features uint64
		readable int
		writable int
		written  uint32
	}{
		{"no response", allFeatures, 51, 0, 0},
		{"short response", allFeatures, 51, 107, 0},
		{"no header", allFeatures, 0, 108, 108},
		{"short header", allFeatures, 50, 108, 108},
		{"both ways without the feature", allFeatures &^ 1, 60, 120, 108},
	} {
		b := newFake(t, &target{submit: func(*scsi.Command) { t.Errorf("%s: reached the target", c.name) }}).start(c.features)
		var readable, writable []virtiotest.Buffer
		if c.readable > 0 {
			buf, v := b.buffer(c.readable)
			v[0] = 1
			readable = append(readable, buf)
		}
		var w []byte
		if c.writable > 0 {
			var buf virtiotest.Buffer
			buf, w = b.buffer(c.writable)
			writable = append(writable, buf)
		}
		b.requests[0].Add(readable, writable)
		b.requests[0].Kick()
		_, n, ok := b.requests[0].Poll()
		if !ok || n != c.written || n > 0 && response(w[11]) != respFailure || b.controller.Stats().Malformed != 1 {
			t.Errorf("%s: used %v, %d bytes, %+v", c.name, ok, n, b.controller.Stats())
		}
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	b := newFake(t, &target{}).start(allFeatures)
	hdr, h := b.buffer(51)
	h[0] = 1
	resp, _ := b.buffer(108)
	data, _ := b.buffer(4096)
	r := b.requests[0]
	for _, i := range []struct {
		n     int
		buf   virtiotest.Buffer
		flags uint16
	}{{0, hdr, 1}, {1, resp, 3}, {2, data, 2}} {
		virtiotest.SetDescriptor(r.Desc, i.n, i.buf.GPA, i.buf.Size, i.flags, uint16(i.n+1))
	}
	if n := testing.AllocsPerRun(100, func() {
		for range 8 {
			r.Offer(0)
		}
		b.controller.device.Queue(queueRequest).Kick()
	}); n != 0 {
		t.Errorf("%v allocations for 8 commands", n)
	}
	if got := b.controller.Stats().Virtio.Queues[2].Chains; got < 800 {
		t.Errorf("%d commands", got)
	}
}

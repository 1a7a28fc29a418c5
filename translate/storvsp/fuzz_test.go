package storvsp_test

import (
	"testing"

	"keel/translate/storvsp"
	"keel/translate/vmbus/vmbustest"
)

// FuzzPacket sends any packet over an initialized channel. Each that wants an answer
// and is as long as one must get exactly one of its length, and the controller must
// go on.
func FuzzPacket(f *testing.F) {
	request := func(op uint32, length uint32, cdb ...byte) []byte {
		m := make([]byte, 64)
		le.PutUint32(m, op)
		m[20], m[22] = byte(len(cdb)), 1
		le.PutUint32(m[24:], length)
		copy(m[28:], cdb)
		return m
	}
	f.Add(uint16(6), uint16(1), []byte{}, request(3, 0, 0, 0, 0, 0, 0, 0))
	f.Add(uint16(9), uint16(1), vmbustest.Direct(0, 512, 0x5000), request(3, 512, read10(0, 1)...))
	f.Add(uint16(9), uint16(1), vmbustest.Direct(4095, 5000, 0x5000, 0x6000, 0x9000), request(3, 4096, read10(0, 8)...))
	f.Add(uint16(9), uint16(1), vmbustest.Direct(0, 36, 0x5000), request(3, 36, inquiry(36)...))
	f.Add(uint16(6), uint16(1), []byte{}, request(13, 0, 3))
	f.Add(uint16(6), uint16(1), []byte{}, request(6, 0))
	f.Add(uint16(6), uint16(0), []byte{1, 2, 3}, request(4, 0))
	f.Fuzz(func(t *testing.T, kind, flags uint16, list, payload []byte) {
		list = list[:min(len(list)/8*8, 1024)]
		payload = payload[:min(len(payload), 512)]
		m := boot(t, storvsp.Config{PollDepth: 1, VPs: 2})
		if !m.main.Send(kind, flags, 42, list, payload) {
			t.Fatal("the ring is full")
		}
		size := (len(payload) + 7) / 8 * 8
		direct := kind == 9 && len(list) >= 8 && le.Uint32(list[4:]) != 0 && int(le.Uint32(list[4:])) <= (len(list)-8)/8
		if flags&1 != 0 && size >= 48 && (kind == 6 || direct) {
			k, id, a := m.main.Recv()
			if k != 11 || id != 42 || len(a) != min(size, 64) || le.Uint32(a) != 1 {
				t.Fatalf("type %d, transaction %d, % x", k, id, a)
			}
			if le.Uint32(payload) == 3 && size >= 64 && (le.Uint16(a[12:]) != 52 || a[14] == 0 || le.Uint32(a[24:]) > le.Uint32(payload[24:])) {
				t.Errorf("answer % x", a)
			}
		}
		if s, _ := m.op(m.main, 7, 64, nil); s != 0xC0000184 {
			t.Errorf("the controller answers %#x", s)
		}
	})
}

package capture

import (
	"encoding/binary"

	"keel/translate/tap"
)

// Sizes of headers without options, in bytes (RFC 791, RFC 9293).
const (
	ipSize  = 20
	tcpSize = 20
	headers = ipSize + tcpSize
)

// Ports by which the two protocols are known.
const (
	portISCSI = 3260
	portNVMe  = 4420
	// portInitiator is that of queue 0; the others follow.
	portInitiator = 49152
)

// direction is where a packet goes.
type direction int

const (
	toTarget direction = iota
	toInitiator
)

// flowKey tells connections apart: a logical unit has one, a controller one for each pair
// of queues.
type flowKey struct{ source, queue uint16 }

// flow is an invented TCP connection.
type flow struct {
	addresses [2][4]byte // by direction, of the end that it goes to
	ports     [2]uint16
	sent      [2]uint32 // bytes, by direction
	commands  uint32    // iSCSI's CmdSN
	statuses  uint32    // and StatSN
}

// flow returns the connection of a record.
func (w *Writer) flow(r *tap.Record) *flow {
	key := flowKey{source: r.Source}
	nvme := w.sources[r.Source].NVMe
	if nvme {
		key.queue = r.Queue
	}
	f := w.flows[key]
	if f == nil {
		high, low := byte(r.Source>>8), byte(r.Source)
		f = &flow{
			addresses: [2][4]byte{{198, 18, high, low}, {198, 19, high, low}},
			ports:     [2]uint16{portISCSI, portInitiator + key.queue%(1<<14)},
		}
		if nvme {
			f.ports[toTarget] = portNVMe
		}
		w.flows[key] = f
	}
	return f
}

// address writes the headers of a packet whose payload follows them.
func (f *flow) address(to direction, packet []byte) {
	from, be := 1-to, binary.BigEndian
	ip, tcp := packet[:ipSize], packet[ipSize:]
	ip[0] = 4<<4 | ipSize/4
	be.PutUint16(ip[2:], uint16(len(packet)))
	ip[6] = 0x40 // do not fragment
	ip[8], ip[9] = 64, 6
	copy(ip[12:], f.addresses[from][:])
	copy(ip[16:], f.addresses[to][:])
	be.PutUint16(ip[10:], ^fold(sum(0, ip)))

	be.PutUint16(tcp[0:], f.ports[from])
	be.PutUint16(tcp[2:], f.ports[to])
	be.PutUint32(tcp[4:], 1+f.sent[to])
	be.PutUint32(tcp[8:], 1+f.sent[from])
	tcp[12] = tcpSize / 4 << 4
	tcp[13] = 0x18 // PSH, ACK
	be.PutUint16(tcp[14:], 0xffff)
	pseudo := sum(uint32(len(tcp))+6, ip[12:20])
	be.PutUint16(tcp[16:], ^fold(sum(pseudo, tcp)))
	f.sent[to] += uint32(len(tcp) - tcpSize)
}

// sum adds the words of a checksum (RFC 1071). The last byte of an odd number is the high
// one.
func sum(s uint32, b []byte) uint32 {
	for i, v := range b {
		s += uint32(v) << (8 * (1 - i%2))
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

package vsock

// header is that of a packet (virtio 1.2 §5.10.6, struct virtio_vsock_hdr).
type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	length           uint32 // of the payload, in bytes
	kind, op         uint16
	flags            uint32 // of a SHUTDOWN
	bufAlloc         uint32 // the sender's buffer for this stream, in bytes
	fwdCnt           uint32 // bytes that left that buffer so far, modulo 2^32
}

// parse takes a header out of its bytes.
func (h *header) parse(b *[packetHeader]byte) {
	h.srcCID, h.dstCID = le.Uint64(b[0:]), le.Uint64(b[8:])
	h.srcPort, h.dstPort = le.Uint32(b[16:]), le.Uint32(b[20:])
	h.length = le.Uint32(b[24:])
	h.kind, h.op = le.Uint16(b[28:]), le.Uint16(b[30:])
	h.flags, h.bufAlloc, h.fwdCnt = le.Uint32(b[32:]), le.Uint32(b[36:]), le.Uint32(b[40:])
}

// put writes a header.
func (h *header) put(b *[packetHeader]byte) {
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.length)
	le.PutUint16(b[28:], h.kind)
	le.PutUint16(b[30:], h.op)
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.bufAlloc)
	le.PutUint32(b[40:], h.fwdCnt)
}

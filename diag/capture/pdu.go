package capture

import (
	"encoding/binary"

	"keel/translate/tap"
)

// Fields of iSCSI PDUs (RFC 7143, section 11). A basic header segment has 48 bytes.
const (
	bhsSize = 48

	opCommand  = 0x01
	opResponse = 0x21
	opDataIn   = 0x25

	flagFinal     = 0x80
	flagRead      = 0x40
	flagWrite     = 0x20
	flagSimple    = 0x01
	flagUnderflow = 0x02

	responseFailure = 0x01 // the target did not run the command to its end
	noTag           = 0xffffffff
	// maxExpected is the longest transfer that Wireshark takes for iSCSI.
	maxExpected = 1<<24 - 1
	// window is how many commands the target says that it would still take.
	window = 128
)

// appendBHS appends a basic header segment with the fields that all PDUs have, and returns
// the header, too.
func appendBHS(b []byte, op, flags byte, length int, tag uint32) (packet, bhs []byte) {
	at := len(b)
	b = append(b, make([]byte, bhsSize)...)
	bhs = b[at:]
	bhs[0], bhs[1] = op, flags
	binary.BigEndian.PutUint32(bhs[4:], uint32(length)) // no additional header segments
	binary.BigEndian.PutUint32(bhs[16:], tag)
	return b, bhs
}

// appendPadded appends a data segment.
func appendPadded(b, data []byte) []byte {
	return append(append(b, data...), make([]byte, -len(data)&3)...)
}

// putLUN writes a logical unit number as flat addressing has it (SAM-5, 4.7.3); those below
// 256 as peripheral device addressing.
func putLUN(b []byte, lun uint16) {
	if lun >= 256 {
		lun = lun&0x3fff | 0x4000
	}
	binary.BigEndian.PutUint16(b, lun)
}

// appendCommand appends a SCSI Command PDU, with what there is of its data as immediate
// data.
func appendCommand(b []byte, f *flow, r *tap.Record, data []byte) []byte {
	flags, expected := byte(flagFinal|flagSimple), r.In
	if r.In > 0 {
		flags |= flagRead
	}
	if r.Out > 0 {
		flags |= flagWrite
		expected = r.Out
	}
	b, bhs := appendBHS(b, opCommand, flags, len(data), r.Tag)
	f.commands++
	putLUN(bhs[8:], r.LUN)
	binary.BigEndian.PutUint32(bhs[20:], uint32(min(expected, maxExpected)))
	binary.BigEndian.PutUint32(bhs[24:], f.commands)
	binary.BigEndian.PutUint32(bhs[28:], f.statuses+1)
	copy(bhs[32:], r.Bytes[:r.Length])
	return appendPadded(b, data)
}

// appendResponse appends a SCSI Response PDU, with sense data.
func appendResponse(b []byte, f *flow, r *tap.Record) []byte {
	sense := r.Bytes[:r.Length]
	length := 0
	if len(sense) > 0 {
		length = 2 + len(sense)
	}
	flags := byte(flagFinal)
	if r.Residual > 0 {
		flags |= flagUnderflow
	}
	b, bhs := appendBHS(b, opResponse, flags, length, r.Tag)
	if !r.Ended {
		bhs[2] = responseFailure
	}
	bhs[3] = r.Status
	f.statuses++
	putNumbers(bhs, f)
	binary.BigEndian.PutUint32(bhs[44:], uint32(min(r.Residual, maxExpected)))
	if length == 0 {
		return b
	}
	return appendPadded(b, append([]byte{0, byte(len(sense))}, sense...))
}

// appendDataIn appends a SCSI Data-In PDU with the first of the data that went to the
// guest. The status follows in a PDU of its own.
func appendDataIn(b []byte, f *flow, r *tap.Record, data []byte) []byte {
	b, bhs := appendBHS(b, opDataIn, flagFinal, len(data), r.Tag)
	putLUN(bhs[8:], r.LUN)
	binary.BigEndian.PutUint32(bhs[20:], noTag)
	putNumbers(bhs, f)
	return appendPadded(b, data)
}

// putNumbers writes the sequence numbers of the target.
func putNumbers(bhs []byte, f *flow) {
	binary.BigEndian.PutUint32(bhs[24:], f.statuses)
	binary.BigEndian.PutUint32(bhs[28:], f.commands+1)
	binary.BigEndian.PutUint32(bhs[32:], f.commands+window)
}

// Types of NVMe/TCP PDUs (NVMe TCP Transport 1.0, 3.6.2), whose common header has 8 bytes.
const (
	commonSize    = 8
	pduCommand    = 0x04
	pduCompletion = 0x05
)

// appendCapsule appends a command or response capsule: what the queue holds behind a common
// header. Its data pointer stays what it is beneath PCI Express.
func appendCapsule(b []byte, kind byte, r *tap.Record) []byte {
	length := commonSize + r.Length
	b = append(b, kind, 0, length, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(length))
	return append(b, r.Bytes[:r.Length]...)
}

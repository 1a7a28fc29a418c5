package measure

import (
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"keel/boot/igvm"
	"keel/hcl/abi/x86"
)

// Records of the MRTD: TDH.MEM.PAGE.ADD hashes 128 bytes, TDH.MR.EXTEND 128
// bytes and the 256 bytes of memory that it measures (TDX module ABI, the two
// functions' pages).
const (
	tdxRecord      = 128
	tdxRecordGPA   = 16 // u64, behind the name in ASCII and zeros
	tdxExtendBytes = 256
	tdxPageAdd     = "MEM.PAGE.ADD"
	tdxExtend      = "MR.EXTEND"
)

// zeroPage is what a page without file data is extended with.
var zeroPage [igvm.PageSize]byte

// tdxMRTD is the running hash of a TD's build. Order counts: a page is added,
// then extended, before the next is added, as the igvm crate and KVM do.
type tdxMRTD struct {
	hash        hash.Hash
	add, extend [tdxRecord]byte
}

func newTDXRecord() *tdxMRTD {
	m := &tdxMRTD{hash: sha512.New384()}
	copy(m.add[:], tdxPageAdd)
	copy(m.extend[:], tdxExtend)
	return m
}

// put hashes a record for an address into the MRTD and the part.
func (m *tdxMRTD) put(record *[tdxRecord]byte, gpa x86.GPA, p *partHash) {
	binary.LittleEndian.PutUint64(record[tdxRecordGPA:], uint64(gpa))
	m.hash.Write(record[:])
	p.add(record[:])
}

func (m *tdxMRTD) normal(gpa x86.GPA, data []byte, p *partHash) {
	if data == nil {
		data = zeroPage[:]
	}
	m.put(&m.add, gpa, p)
	for off := 0; off < len(data); off += tdxExtendBytes {
		m.put(&m.extend, gpa+x86.GPA(off), p)
		m.hash.Write(data[off : off+tdxExtendBytes])
	}
	// The part hashes the page at once: what it contributed must be told apart,
	// not computed as the module does.
	p.add(data)
}

// special adds a page without extending it: its address counts, not its contents.
func (m *tdxMRTD) special(_ Kind, gpa x86.GPA, p *partHash) { m.put(&m.add, gpa, p) }

// vmsa is never called: the walker refuses VP contexts of a TD, whose registers
// the module sets.
func (m *tdxMRTD) vmsa(x86.GPA, []byte, *partHash) {}

func (m *tdxMRTD) sum() Digest { return Digest(m.hash.Sum(nil)) }

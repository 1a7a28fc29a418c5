package scsi

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"keel/translate/blk"
)

// Pages of vital product data (SPC-4, 7.8; SBC-3, 6.6).
const (
	vpdSupported  = 0x00
	vpdSerial     = 0x80
	vpdIdentity   = 0x83
	vpdExtended   = 0x86
	vpdLimits     = 0xb0
	vpdCharacter  = 0xb1
	vpdProvision  = 0xb2
	protocolSAS   = 0x6
	designatorPIV = 0x80
)

// Bytes that one command may zero or fill. A command that takes minutes would meet
// the guest's time-outs.
const (
	maxZeroBytes = 1 << 30
	maxFillBytes = 16 << 20
	// maxPieces bounds the requests into which one UNMAP is split.
	maxPieces = 1024
)

// vpdPages lists the pages of a kind, ascending.
func vpdPages(k Kind) []uint8 {
	switch k {
	case kindDisk:
		return []uint8{vpdSupported, vpdSerial, vpdIdentity, vpdExtended, vpdLimits, vpdCharacter, vpdProvision}
	case kindDVD:
		return []uint8{vpdSupported, vpdSerial, vpdIdentity, vpdExtended}
	case kindWellKnown:
		return []uint8{vpdSupported}
	default:
		return nil
	}
}

// vitalProduct makes a page, and says whether there is one.
func (u *unit) vitalProduct(page uint8) ([]byte, bool) {
	pages := vpdPages(u.kind)
	if !slices.Contains(pages, page) {
		return nil, false
	}
	b := make([]byte, 4, 256)
	b[0], b[1] = u.peripheral(), page
	var i blk.Info
	if u.disk != nil {
		i = u.info()
	}
	switch page {
	case vpdSupported:
		b = append(b, pages...)
	case vpdSerial:
		b = append(b, serial(&i)...)
	case vpdIdentity:
		b = u.appendIdentity(b, &i)
	case vpdExtended:
		b = b[:64]
		b[5] = 0x01 // SIMPSUP
		if i.Volatile {
			b[6] = 0x01 // V_SUP
		}
		b[7] = 0x01 // LUICLR
		b[13] = SenseSize
	case vpdLimits:
		b = b[:64]
		u.putLimits(b, &i)
	case vpdCharacter:
		b = b[:64]
		be.PutUint16(b[4:], 1) // MEDIUM ROTATION RATE: it does not rotate
		b[8] = 0x02            // FUAB
	case vpdProvision:
		b = b[:8]
		u.putProvisioning(b, &i)
	}
	be.PutUint16(b[2:], uint16(len(b)-4))
	return b, true
}

// naa returns a locally assigned NAA identifier (SPC-4, 7.8.6.6.4): type 3 and 60
// bits of a digest, since the project has no IEEE company identifier, which types
// 5 and 6 begin with.
func naa(b []byte) uint64 {
	d := sha256.Sum256(b)
	return 3<<60 | be.Uint64(d[:])>>4
}

// appendIdentity writes the designators (SPC-4, 7.8.6): NAA and T10 of the logical
// unit, NAA and relative identifier of the target port.
func (u *unit) appendIdentity(b []byte, i *blk.Info) []byte {
	b = append(b, 0x01, 0x03, 0, 8)
	b = be.AppendUint64(b, naa(i.ID[:]))
	name := vendorID + hex.EncodeToString(i.ID[:])
	b = append(b, 0x02, 0x01, 0, uint8(len(name)))
	b = append(b, name...)
	b = append(b, protocolSAS<<4|0x01, designatorPIV|0x13, 0, 8)
	b = be.AppendUint64(b, naa([]byte("target port")))
	return append(b, protocolSAS<<4|0x01, designatorPIV|0x14, 0, 4, 0, 0, 0, 1)
}

// limits are what the block limits page says and commands are held to.
type limits struct {
	transfer, compare, unmap, ranges uint32
	same                             uint64
}

func (u *unit) limits(i *blk.Info) limits {
	l := limits{
		transfer: u.maxTransfer(i),
		compare:  min(bufferBytes/u.block, 255),
		same:     maxFillBytes / uint64(u.block),
	}
	if i.MaxBlocks != 0 {
		l.compare = min(l.compare, i.MaxBlocks)
	}
	if i.WriteZeroes {
		l.same = maxZeroBytes / uint64(u.block)
		if i.MaxZeroes != 0 {
			l.same = min(l.same, max(uint64(i.MaxZeroes)*maxPieces, maxFillBytes/uint64(u.block)))
		}
	}
	if i.Discard {
		l.ranges = maxRanges
		l.unmap = ^uint32(0)
		if i.MaxDiscard != 0 && i.MaxDiscard < uint64(l.unmap)/maxPieces {
			l.unmap = uint32(i.MaxDiscard * maxPieces)
		}
	}
	return l
}

// putLimits writes the block limits page (SBC-3, 6.6.4).
func (u *unit) putLimits(b []byte, i *blk.Info) {
	l := u.limits(i)
	b[4] = 0x01 // WSNZ
	b[5] = uint8(l.compare)
	be.PutUint16(b[6:], uint16(min(max(i.PhysicalSize/u.block, 1), 1<<16-1)))
	be.PutUint32(b[8:], l.transfer)
	optimal := i.Optimal
	if l.transfer != 0 {
		optimal = min(optimal, l.transfer)
	}
	be.PutUint32(b[12:], optimal)
	be.PutUint32(b[20:], l.unmap)
	be.PutUint32(b[24:], l.ranges)
	if i.Discard {
		be.PutUint32(b[28:], max(i.DiscardUnit, 1))
		be.PutUint32(b[32:], 1<<31) // UGAVALID: aligned to block 0
	}
	be.PutUint64(b[36:], l.same)
}

// putProvisioning writes the logical block provisioning page (SBC-3, 6.6.5).
func (u *unit) putProvisioning(b []byte, i *blk.Info) {
	if !i.Discard {
		return
	}
	b[5] = 0x80 // LBPU
	if i.WriteZeroes {
		b[5] |= 0x60 // LBPWS, LBPWS10
	}
	if i.DiscardZeroes {
		b[5] |= 0x04 // LBPRZ
	}
	b[6] = 2 // thin
}

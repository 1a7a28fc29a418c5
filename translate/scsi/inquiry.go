package scsi

import (
	"encoding/hex"

	"keel/translate/blk"
)

// What INQUIRY says of the vendor.
const (
	vendorID   = "KEEL    "
	productID  = "Virtual Disk    "
	dvdProduct = "Virtual DVD     "
	productRev = "0001"
)

// inquirySize is the standard INQUIRY data with version descriptors.
const inquirySize = 96

// Version descriptors (SPC-4, table E.21), no version claimed.
const (
	versionSAM5 = 0x00a0
	versionSPC4 = 0x0460
	versionSBC3 = 0x04c0
	versionMMC6 = 0x04e0
)

// peripheral returns byte 0 of INQUIRY data.
func (u *unit) peripheral() uint8 {
	switch u.kind {
	case kindDVD:
		return typeDVD
	case kindAbsent:
		return typeAbsent
	case kindWellKnown:
		return typeWellKnown
	default:
		return typeDisk
	}
}

// runInquiry answers INQUIRY (SPC-4, 6.6).
func runInquiry(c *Command) {
	allocation := uint32(be.Uint16(c.CDB[3:]))
	switch {
	case c.CDB[1]&1 != 0:
		b, ok := c.u.vitalProduct(c.CDB[2])
		if !ok {
			c.fail(badCDB(2, 7))
			return
		}
		c.reply(b, allocation)
	case c.CDB[2] != 0:
		c.fail(badCDB(2, 7))
	default:
		b := c.u.inquiry()
		c.reply(b[:], allocation)
	}
}

// inquiry makes the standard data (SPC-4, table 172).
func (u *unit) inquiry() (b [inquirySize]byte) {
	b[0] = u.peripheral()
	b[2] = 0x06 // SPC-4
	b[3] = 0x12 // HISUP, response data format 2
	b[4] = inquirySize - 5
	b[7] = 0x02 // CMDQUE
	copy(b[8:], vendorID)
	copy(b[16:], productID)
	copy(b[32:], productRev)
	be.PutUint16(b[58:], versionSAM5)
	be.PutUint16(b[60:], versionSPC4)
	switch u.kind {
	case kindDVD:
		b[1] = 0x80 // RMB
		copy(b[16:], dvdProduct)
		be.PutUint16(b[62:], versionMMC6)
	case kindDisk:
		be.PutUint16(b[62:], versionSBC3)
	default:
	}
	return b
}

// runTestUnitReady answers TEST UNIT READY (SPC-4, 6.47).
func runTestUnitReady(c *Command) {
	if s, ok := c.u.ready(); !ok {
		c.fail(s)
		return
	}
	c.good()
}

// runRequestSense answers REQUEST SENSE with a unit attention that is pending, or
// with what keeps the logical unit from being ready (SPC-4, 6.39).
func runRequestSense(c *Command) {
	u := c.u
	s, pending := u.takeAttention(c.Initiator)
	if !pending {
		s = sense{key: keyNoSense}
		switch u.kind {
		case kindAbsent:
			s = illegal(ascBadLUN)
		case kindWellKnown:
		default:
			if not, ok := u.ready(); !ok {
				s = not
			}
		}
	}
	var b [SenseSize]byte
	n := s.encode(b[:], c.CDB[1]&1 != 0)
	c.reply(b[:n], uint32(c.CDB[4]))
}

// serial returns the serial number: the disk's where it has one, else its
// identifier. What the disk says comes from the host: it is cut and cleaned.
func serial(i *blk.Info) string {
	if i.Serial == "" {
		return hex.EncodeToString(i.ID[:])
	}
	b := []byte(i.Serial)
	b = b[:min(len(b), 64)]
	for j, c := range b {
		if c < 0x20 || c > 0x7e {
			b[j] = ' '
		}
	}
	return string(b)
}

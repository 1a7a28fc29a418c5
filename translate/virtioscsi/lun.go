package virtioscsi

import "keel/translate/scsi"

// parseLUN reads the address of a logical unit (virtio 1.2 §5.6.6.1): 1, the
// target, a single-level LUN structure (SAM-5 §4.7.4) and four zero bytes, or the
// REPORT LUNS well-known logical unit. There is one target, number 0. Linux writes
// the well-known logical unit in the place of the LUN structure.
func parseLUN(b []byte) (lun uint16, ok bool) {
	if b[4]|b[5]|b[6]|b[7] != 0 {
		return 0, false
	}
	if b[0] == wellKnown && b[1] == wellKnownID && b[2]|b[3] == 0 {
		return scsi.ReportLUNs, true
	}
	if b[0] != lunTarget || b[1] != 0 {
		return 0, false
	}
	lun = uint16(b[2])<<8 | uint16(b[3])
	switch {
	case lun == reportLUNs:
		return scsi.ReportLUNs, true
	case b[2]&lunMethod == lunFlat:
		return lun &^ (lunMethod << 8), true
	case b[2] == 0: // peripheral device addressing on bus 0
		return lun, true
	}
	return 0, false
}

// putLUN writes the address of a logical unit below 256, as Linux wants it in
// events: in the format in which REPORT LUNS lists it.
func putLUN(b []byte, lun uint16) {
	clear(b[:lunSize])
	b[0], b[3] = lunTarget, byte(lun)
}

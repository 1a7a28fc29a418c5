package scsi

// Formats of READ TOC/PMA/ATIP (MMC-6, 6.25).
const (
	tocTracks   = 0
	tocSessions = 1
	tocFull     = 2

	trackData    = 0x14 // ADR 1, data track
	trackLeadOut = 0xaa
)

// runReadTOC answers READ TOC: one session with one data track.
func runReadTOC(c *Command) {
	u := c.u
	if s, ok := u.ready(); !ok {
		c.fail(s)
		return
	}
	format := c.CDB[2] & 0x0f
	if format == 0 {
		format = c.CDB[9] >> 6 // where SFF-8020 had it
	}
	msf := c.CDB[1]&2 != 0
	first := c.CDB[6]
	i := u.info()
	end := u.blocks(&i)
	b := []byte{0, 0, 1, 1} // first and last track or session
	switch format {
	case tocTracks:
		if first > 1 && first != trackLeadOut {
			c.fail(badCDB(6, 7))
			return
		}
		if first <= 1 {
			b = appendTrack(b, 1, 0, msf)
		}
		b = appendTrack(b, trackLeadOut, end, msf)
	case tocSessions:
		b = appendTrack(b, 1, 0, msf)
	case tocFull:
		b = append(b, 1, trackData, 0, 0xa0, 0, 0, 0, 0, 1, 0, 0)
		b = append(b, 1, trackData, 0, 0xa1, 0, 0, 0, 0, 1, 0, 0)
		b = append(b, 1, trackData, 0, 0xa2, 0, 0, 0, 0)
		b = appendMSF(b, end)
		b = append(b, 1, trackData, 0, 1, 0, 0, 0, 0)
		b = appendMSF(b, 0)
	default:
		c.fail(badCDB(2, 3))
		return
	}
	be.PutUint16(b, uint16(len(b)-2))
	c.reply(b, uint32(be.Uint16(c.CDB[7:])))
}

// appendTrack writes a track descriptor (MMC-6, table 486).
func appendTrack(b []byte, track uint8, lba uint64, msf bool) []byte {
	b = append(b, 0, trackData, track, 0)
	if msf {
		return appendMSF(append(b, 0), lba)
	}
	return be.AppendUint32(b, uint32(min(lba, 1<<32-1)))
}

// appendMSF writes minutes, seconds and frames, 150 frames after the lead-in
// (MMC-6, table 659).
func appendMSF(b []byte, lba uint64) []byte {
	at := lba + 150
	return append(b, uint8(min(at/(60*75), 255)), uint8(at/75%60), uint8(at%75))
}

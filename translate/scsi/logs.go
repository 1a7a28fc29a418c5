package scsi

// Log pages (SPC-4, 7.3).
const (
	logSupported  = 0x00
	logExceptions = 0x2f
	logSPF        = 0x40
)

// runLogSense answers LOG SENSE (SPC-4, 6.8): the pages that there are, and
// informational exceptions, of which there are none.
func runLogSense(c *Command) {
	code, subpage := c.CDB[2]&0x3f, c.CDB[3]
	var b []byte
	switch {
	case c.CDB[1]&0x01 != 0: // SP
		c.fail(badCDB(1, 0))
		return
	case code == logSupported && subpage == 0:
		b = []byte{logSupported, 0, 0, 2, logSupported, logExceptions}
	case code == logSupported && subpage == subpageAll:
		b = []byte{logSupported | logSPF, subpageAll, 0, 6, logSupported, 0, logSupported, subpageAll, logExceptions, 0}
	case code == logExceptions && subpage == 0:
		// Parameter 0, binary list format: no additional sense code, temperature
		// unknown.
		b = []byte{logExceptions, 0, 0, 8, 0, 0, 0x03, 4, 0, 0, 0xff, 0}
		if be.Uint16(c.CDB[5:]) > 0 { // PARAMETER POINTER
			c.fail(badCDB(5, 7))
			return
		}
	case code == logSupported || code == logExceptions:
		c.fail(badCDB(3, 7))
		return
	default:
		c.fail(badCDB(2, 5))
		return
	}
	c.reply(b, uint32(be.Uint16(c.CDB[7:])))
}

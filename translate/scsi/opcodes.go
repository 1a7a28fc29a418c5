package scsi

// Bits of REPORT SUPPORTED OPERATION CODES (SPC-4, 6.35).
const (
	rsocTimeouts      = 0x80 // RCTD of the CDB, CTDP of one command's data
	rsocOptions       = 0x07
	rsocListTimeouts  = 0x02 // CTDP of a descriptor
	rsocListService   = 0x01 // SERVACTV
	rsocSupported     = 0x03 // as the standard says
	rsocNotSupported  = 0x01
	rsocAll           = 0
	rsocOpcode        = 1
	rsocService       = 2
	rsocEither        = 3
	rsocTimeoutsBytes = 12
)

// appendTimeouts writes a command timeouts descriptor (SPC-4, table 256). The
// nominal time is not known.
func (o *operation) appendTimeouts(b []byte) []byte {
	b = append(b, 0, rsocTimeoutsBytes-2, 0, 0, 0, 0, 0, 0)
	return be.AppendUint32(b, uint32(o.seconds))
}

// runReportOpcodes answers REPORT SUPPORTED OPERATION CODES.
func runReportOpcodes(c *Command) {
	timeouts := c.CDB[2]&rsocTimeouts != 0
	option := c.CDB[2] & rsocOptions
	allocation := be.Uint32(c.CDB[6:])
	if option == rsocAll {
		c.reply(c.u.listOpcodes(timeouts), allocation)
		return
	}
	if option > rsocEither {
		c.fail(badCDB(2, 2))
		return
	}
	var cdb [CDBSize]byte
	cdb[0] = c.CDB[3]
	action := be.Uint16(c.CDB[4:])
	cdb[1] = uint8(action & saMask)
	o, known := c.u.lookup(&cdb)
	service := o != nil && o.service || o == nil && known
	switch {
	case option == rsocOpcode && service:
		c.fail(badCDB(2, 2)) // a service action is needed to name the command
		return
	case option == rsocService && known && !service:
		c.fail(badCDB(2, 2))
		return
	case option == rsocEither && !service && action != 0, action > saMask && option != rsocOpcode:
		o = nil
	}
	c.reply(oneOpcode(o, timeouts), allocation)
}

// listOpcodes makes the all_commands parameter data (SPC-4, 6.35.2).
func (u *unit) listOpcodes(timeouts bool) []byte {
	b := make([]byte, 4, 4+len(operations)*20)
	for i := range operations {
		o := &operations[i]
		if !u.supports(o) {
			continue
		}
		var flags uint8
		if o.service {
			flags |= rsocListService
		}
		if timeouts {
			flags |= rsocListTimeouts
		}
		b = append(b, o.opcode, 0, 0, o.action, 0, flags, 0, o.length)
		if timeouts {
			b = o.appendTimeouts(b)
		}
	}
	be.PutUint32(b, uint32(len(b)-4))
	return b
}

// oneOpcode makes the one_command parameter data (SPC-4, 6.35.3).
func oneOpcode(o *operation, timeouts bool) []byte {
	if o == nil {
		return []byte{0, rsocNotSupported, 0, 0}
	}
	b := make([]byte, 0, 4+CDBSize+rsocTimeoutsBytes)
	b = append(b, 0, rsocSupported, 0, o.length)
	b = append(b, o.usage[:o.length]...)
	if timeouts {
		b[1] |= rsocTimeouts
		b = o.appendTimeouts(b)
	}
	return b
}

// Task management functions that are supported (SPC-4, table 262): ABORT TASK,
// ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, QUERY TASK; then QUERY TASK
// SET, I_T NEXUS RESET.
const (
	functionsFirst  = 0xdc
	functionsSecond = 0x03
	functionsREPD   = 0x80 // extended data is wanted
)

func runReportFunctions(c *Command) {
	var b [16]byte
	b[0], b[1] = functionsFirst, functionsSecond
	n := 4
	if c.CDB[2]&functionsREPD != 0 {
		b[3] = 12 // time-outs follow, none of them given
		n = 16
	}
	c.reply(b[:n], be.Uint32(c.CDB[6:]))
}

package smbios

import "strconv"

const (
	kib        = 1 << 10
	mib        = 1 << 20
	maxAddress = 1 << 42 // what type 19 counts in KiB
)

// Handles of the structures; those that repeat count on.
const (
	handleFirmware  = 0x0000
	handleSystem    = 0x0100
	handleChassis   = 0x0300
	handleProcessor = 0x0400
	handleArray     = 0x1000
	handleDevice    = 0x1100
	handleMapped    = 0x1300
	handleBoot      = 0x2000
	handleEnd       = 0x7f00

	noHandle = 0xffff // of a cache
	noError  = 0xfffe // no structure about memory errors
)

// structure is one structure in the making: the formatted area and the strings
// that it refers to by number.
type structure struct {
	data    []byte
	strings []string
}

func newStructure(kind, size byte, handle uint16) *structure {
	s := &structure{data: make([]byte, size)}
	s.data[0], s.data[1] = kind, size
	le.PutUint16(s.data[2:], handle)
	return s
}

func (s *structure) u8(at int, v byte)    { s.data[at] = v }
func (s *structure) u16(at int, v uint16) { le.PutUint16(s.data[at:], v) }
func (s *structure) u32(at int, v uint32) { le.PutUint32(s.data[at:], v) }
func (s *structure) u64(at int, v uint64) { le.PutUint64(s.data[at:], v) }

// text sets a string; none is number 0.
func (s *structure) text(at int, v string) {
	if v == "" {
		return
	}
	s.strings = append(s.strings, v)
	s.data[at] = byte(len(s.strings))
}

// appendTo ends the structure with its strings and an empty one (DSP0134
// §6.1.3). Without strings there are two NULs all the same.
func (s *structure) appendTo(table []byte) []byte {
	table = append(table, s.data...)
	for _, v := range s.strings {
		table = append(append(table, v...), 0)
	}
	if len(s.strings) == 0 {
		table = append(table, 0)
	}
	return append(table, 0)
}

func structures(info Info) []byte {
	list := []*structure{firmware(info), system(info), chassis(info)}
	for i := range info.Sockets {
		list = append(list, processor(info, i))
	}
	list = append(list, memoryArray(info), memoryDevice(info))
	for i, r := range info.RAM {
		list = append(list, mapped(r, i))
	}
	list = append(list,
		newStructure(32, 11, handleBoot), // boot status 0: no errors
		newStructure(127, 4, handleEnd),
	)
	var table []byte
	for _, s := range list {
		table = s.appendTo(table)
	}
	return table
}

// firmware is type 0 (DSP0134 §7.1).
func firmware(info Info) *structure {
	const (
		unsupported = 1 << 3 // the list of characteristics
		acpi        = 1 << 0 // first extension byte
		virtual     = 1 << 4 // second extension byte
		noEC        = 0xff
	)
	s := newStructure(0, 0x18, handleFirmware)
	s.text(0x04, manufacturer)
	s.text(0x05, info.Version)
	s.text(0x08, info.Date)
	s.u64(0x0a, unsupported)
	s.u8(0x12, acpi)
	s.u8(0x13, virtual)
	s.u8(0x14, noEC) // no release number of the firmware either
	s.u8(0x15, noEC)
	s.u8(0x16, noEC)
	s.u8(0x17, noEC)
	return s
}

// system is type 1 (DSP0134 §7.2). The first three fields of a UUID are
// little-endian numbers here (§7.2.1).
func system(info Info) *structure {
	const powerSwitch = 6
	s := newStructure(1, 0x1b, handleSystem)
	s.text(0x04, manufacturer)
	s.text(0x05, "Keel VTL0")
	s.text(0x06, info.Version)
	s.text(0x07, info.Serial)
	for i, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		s.u8(0x08+i, info.UUID[from])
	}
	s.u8(0x18, powerSwitch)
	return s
}

// chassis is type 3 (DSP0134 §7.4).
func chassis(info Info) *structure {
	const other, safe, none = 1, 3, 3
	s := newStructure(3, 0x16, handleChassis)
	s.text(0x04, manufacturer)
	s.u8(0x05, other)
	s.text(0x06, info.Version)
	s.text(0x07, info.Serial)
	s.u8(0x09, safe) // state at boot
	s.u8(0x0a, safe) // power supply
	s.u8(0x0b, safe) // temperature
	s.u8(0x0c, none) // security
	return s
}

// processor is type 4 (DSP0134 §7.5), one a socket.
func processor(info Info, socket int) *structure {
	const (
		central     = 3
		unknown     = 2
		populated   = 1<<6 | 1 // and enabled
		otherSocket = 1
		wide        = 1 << 2
		multiCore   = 1 << 3
		multiThread = 1 << 4
		many        = 0xff // the count is in the wider field
	)
	s := newStructure(4, 0x30, handleProcessor+uint16(socket))
	s.text(0x04, "CPU "+strconv.Itoa(socket))
	s.u8(0x05, central)
	s.u8(0x06, unknown)
	s.text(0x07, manufacturer)
	s.u64(0x08, info.ProcessorID)
	s.text(0x10, info.Processor)
	s.u8(0x18, populated)
	s.u8(0x19, otherSocket)
	for _, cache := range []int{0x1a, 0x1c, 0x1e} {
		s.u16(cache, noHandle)
	}
	cores, threads := info.Cores, info.Cores*info.Threads
	s.u8(0x23, byte(min(cores, many)))
	s.u8(0x24, byte(min(cores, many)))
	s.u8(0x25, byte(min(threads, many)))
	flags := uint16(wide)
	if cores > 1 {
		flags |= multiCore
	}
	if info.Threads > 1 {
		flags |= multiThread
	}
	s.u16(0x26, flags)
	s.u16(0x28, unknown)
	s.u16(0x2a, uint16(cores))
	s.u16(0x2c, uint16(cores))
	s.u16(0x2e, uint16(threads))
	return s
}

package acpi

import "keel/hcl/abi/x86"

// Offsets in the FADT (ACPI §5.2.9, table 5.9).
const (
	fadtFirmwareCtrl = 36  // u32
	fadtDSDT         = 40  // u32
	fadtSCI          = 46  // u16
	fadtPM1Event     = 56  // u32
	fadtPM1Control   = 64  // u32
	fadtPMTimer      = 76  // u32
	fadtGPE0         = 80  // u32
	fadtPM1EventLen  = 88  // u8
	fadtPM1CtrlLen   = 89  // u8
	fadtPMTimerLen   = 91  // u8
	fadtGPE0Len      = 92  // u8
	fadtC2Latency    = 96  // u16
	fadtC3Latency    = 98  // u16
	fadtCentury      = 108 // u8
	fadtBootArch     = 109 // u16
	fadtFlags        = 112 // u32
	fadtResetReg     = 116 // generic address
	fadtResetValue   = 128 // u8
	fadtMinor        = 131 // u8
	fadtXDSDT        = 140 // u64
	fadtXPM1Event    = 148 // generic address
	fadtXPM1Control  = 172 // generic address
	fadtXPMTimer     = 208 // generic address
	fadtXGPE0        = 220 // generic address
	fadtSize         = 276
	fadtRevision     = 6
	fadtMinorVersion = 5
)

// Boot architecture flags (ACPI table 5.11). MSI is supported, and so is CMOS,
// whose flags say the opposite.
const (
	bootLegacyDevices = 1 << 0
	boot8042          = 1 << 1
	bootNoVGA         = 1 << 2
	bootNoASPM        = 1 << 4
)

// Fixed feature flags (ACPI table 5.10). The power button is a fixed one,
// whose flag is clear.
const (
	flagWBINVD        = 1 << 0
	flagC1            = 1 << 2
	flagNoSleepButton = 1 << 5
	flagNoRTCWake     = 1 << 6
	flagTimer32       = 1 << 8
	flagReset         = 1 << 10
)

// Lengths of the fixed register blocks in bytes.
const (
	pm1EventLen   = 4
	pm1ControlLen = 2
	pmTimerLen    = 4
)

// noCState is a latency in microseconds that rules out both C2 and C3.
const noCState = 0xfff

// fadt returns the fixed ACPI description. SMI_CMD is 0: the machine is always
// in ACPI mode.
func fadt(m Machine, dsdt x86.GPA) []byte {
	t := make([]byte, fadtSize)
	le.PutUint32(t[fadtFirmwareCtrl:], uint32(m.FACSAddr))
	le.PutUint32(t[fadtDSDT:], uint32(dsdt))
	le.PutUint64(t[fadtXDSDT:], uint64(dsdt))
	le.PutUint16(t[fadtSCI:], uint16(m.SCI))

	// Each block is given twice: as a port for old systems and as a generic
	// address.
	for _, b := range []struct {
		port             uint16
		size             uint8
		at, atLen, atGAS int
	}{
		{m.PM1Event, pm1EventLen, fadtPM1Event, fadtPM1EventLen, fadtXPM1Event},
		{m.PM1Control, pm1ControlLen, fadtPM1Control, fadtPM1CtrlLen, fadtXPM1Control},
		{m.PMTimer, pmTimerLen, fadtPMTimer, fadtPMTimerLen, fadtXPMTimer},
		{m.GPE0, m.GPE0Size, fadtGPE0, fadtGPE0Len, fadtXGPE0},
	} {
		if b.size == 0 {
			continue
		}
		le.PutUint32(t[b.at:], uint32(b.port))
		t[b.atLen] = b.size
		putPort(t[b.atGAS:], b.port, b.size)
	}

	le.PutUint16(t[fadtC2Latency:], noCState)
	le.PutUint16(t[fadtC3Latency:], noCState)
	t[fadtCentury] = m.Century
	arch := uint16(bootLegacyDevices | bootNoVGA | bootNoASPM)
	if m.Keyboard {
		arch |= boot8042
	}
	le.PutUint16(t[fadtBootArch:], arch)
	le.PutUint32(t[fadtFlags:], flagWBINVD|flagC1|flagNoSleepButton|flagNoRTCWake|flagTimer32|flagReset)
	putPort(t[fadtResetReg:], m.ResetPort, 1)
	t[fadtResetValue] = m.ResetValue
	t[fadtMinor] = fadtMinorVersion
	return newTable("FACP", fadtRevision, t[headerSize:])
}

// putPort writes a generic address of size bytes of I/O ports (ACPI §5.2.3.2).
// The access size stays open except for single bytes.
func putPort(gas []byte, port uint16, size uint8) {
	const systemIO, byteAccess = 1, 1
	gas[0] = systemIO
	gas[1] = size * 8
	if size == 1 {
		gas[3] = byteAccess
	}
	le.PutUint64(gas[4:], uint64(port))
}

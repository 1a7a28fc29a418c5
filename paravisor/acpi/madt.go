package acpi

// Structures of the MADT (ACPI §5.2.12).
const (
	madtLocalAPIC  = 0
	madtIOAPIC     = 1
	madtOverride   = 2
	madtAPICNMI    = 4
	madtX2APIC     = 9
	madtX2APICNMI  = 10
	madtRevision   = 5
	madtPCATCompat = 1 << 0 // there is a pair of 8259s
	madtEnabled    = 1 << 0

	inti       = 0xd // active high, level-triggered
	nmiLINT    = 1   // the pin at which NMI arrives on every PC
	allUIDs    = 0xff
	allX2UIDs  = 0xffff_ffff
	maxAPICID8 = 254 // 255 is the broadcast address
	maxVPs     = 256 // what _UID names and the DSDT can hold
)

// madt returns the interrupt controllers.
func madt(m Machine) []byte {
	var b []byte
	b = le.AppendUint32(b, uint32(m.LocalAPIC))
	b = le.AppendUint32(b, madtPCATCompat)
	anyX2 := false
	for uid, id := range m.APICIDs {
		if id <= maxAPICID8 && uid < allUIDs {
			b = append(b, madtLocalAPIC, 8, byte(uid), byte(id))
			b = le.AppendUint32(b, madtEnabled)
			continue
		}
		anyX2 = true
		b = append(b, madtX2APIC, 16, 0, 0)
		b = le.AppendUint32(b, uint32(id))
		b = le.AppendUint32(b, madtEnabled)
		b = le.AppendUint32(b, uint32(uid))
	}

	const firstGSI = 0
	b = append(b, madtIOAPIC, 12, m.IOAPICID, 0)
	b = le.AppendUint32(b, uint32(m.IOAPIC))
	b = le.AppendUint32(b, firstGSI)
	for _, o := range m.Overrides {
		var flags uint16 // as the ISA bus does: active high, edge-triggered
		if o.Level {
			flags = inti
		}
		const isa = 0
		b = append(b, madtOverride, 10, isa, o.IRQ)
		b = le.AppendUint32(b, o.GSI)
		b = le.AppendUint16(b, flags)
	}

	b = append(b, madtAPICNMI, 6, allUIDs, 0, 0, nmiLINT)
	if anyX2 {
		b = append(b, madtX2APICNMI, 12, 0, 0)
		b = le.AppendUint32(b, allX2UIDs)
		b = append(b, nmiLINT, 0, 0, 0)
	}
	return newTable("APIC", madtRevision, b)
}

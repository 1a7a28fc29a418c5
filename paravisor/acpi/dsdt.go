package acpi

import "fmt"

const (
	dsdtRevision = 2 // integers have 64 bits
	maxUARTs     = 4
)

// dsdt returns the devices that no bus finds by itself.
func dsdt(m Machine) []byte {
	board := []term{pciHost(m), ecamReservation(m), pic(), pit(), rtc()}
	for i, u := range m.UARTs {
		board = append(board, uart(i, u))
	}
	if m.VMBus.Size != 0 {
		board = append(board, vmbus(m.VMBus))
	}
	if m.TPM != nil {
		board = append(board, tpmDevice(m.TPM))
	}
	for i := range m.APICIDs {
		board = append(board, processor(i))
	}
	return newTable("DSDT", dsdtRevision, concat(
		scope(`\_SB`, board...),
		// SLP_TYP for PM1a and PM1b (ACPI §7.4.2); two reserved elements.
		name(`\_S5`, pkg(integer(uint64(m.SleepTypeS5)), integer(uint64(m.SleepTypeS5)), integer(0), integer(0))),
	))
}

// pciHost returns the host bridge. The ports CF8h to CFFh are its own; its bus
// is empty, so nothing is routed.
func pciHost(m Machine) term {
	windows := [][]byte{
		wordWindow(spaceBus, 0, 0, uint16(m.ECAM.Size/busSize-1)),
		ports(0xcf8, 8),
		wordWindow(spaceIO, ioEntireRange, 0, 0xcf7),
		wordWindow(spaceIO, ioEntireRange, uint16(m.PCIPorts.Base), uint16(uint64(m.PCIPorts.Base)+m.PCIPorts.Size-1)),
		dwordWindow(m.PCILow),
	}
	if m.PCIHigh.Size != 0 {
		windows = append(windows, qwordWindow(m.PCIHigh))
	}
	return device("PCI0",
		name("_HID", eisaID("PNP0A08")), // PCI Express
		name("_CID", eisaID("PNP0A03")), // or PCI, to who does not know it
		name("_UID", integer(0)),
		name("_SEG", integer(0)),
		name("_BBN", integer(0)),
		name("_CRS", resources(windows...)),
		name("_PRT", pkg()),
		osc(),
	)
}

// ecamReservation keeps the MCFG's window free: operating systems use it only
// if a motherboard device owns it (PCI Firmware 3.3 §4.1.2).
func ecamReservation(m Machine) term {
	return device("MBRD",
		name("_HID", eisaID("PNP0C02")),
		name("_UID", integer(0)),
		name("_CRS", resources(memory32(m.ECAM))),
	)
}

func pic() term {
	return device("PIC",
		name("_HID", eisaID("PNP0000")),
		name("_CRS", resources(ports(0x20, 2), ports(0xa0, 2), ports(0x4d0, 2), irq(2))),
	)
}

func pit() term {
	return device("TIMR",
		name("_HID", eisaID("PNP0100")),
		name("_CRS", resources(ports(0x40, 4), irq(0))),
	)
}

func rtc() term {
	return device("RTC",
		name("_HID", eisaID("PNP0B00")),
		name("_CRS", resources(ports(0x70, 2), irq(8))),
	)
}

func uart(i int, u UART) term {
	return device(fmt.Sprintf("COM%d", i+1),
		name("_HID", eisaID("PNP0501")),
		name("_UID", integer(uint64(i+1))),
		name("_CRS", resources(ports(u.Port, 8), irq(u.IRQ))),
	)
}

// vmbus returns the device that Linux's hv_vmbus binds to, in a module device that
// has memory for devices on the bus. Linux 5.10 looks for that memory among all that
// the device lies in, up to the root of the namespace, which it must not reach.
func vmbus(memory Window) term {
	return device("VMOD",
		name("_HID", text("ACPI0004")),
		name("_UID", integer(0)),
		name("_CRS", resources(dwordWindow(memory))),
		device("VMBS",
			name("_HID", text("VMBUS")),
			name("_UID", integer(0)),
			name("_CRS", resources()),
		),
	)
}

// processor returns a VP; its _UID is the one in the MADT.
func processor(i int) term {
	return device(fmt.Sprintf("C%03X", i),
		name("_HID", text("ACPI0007")),
		name("_UID", integer(uint64(i))),
	)
}

// Package paravisor is the machine that Keel gives a guest, and its life: it
// composes chips, interrupt controllers and tables, loads the guest, runs it,
// starts it over when it resets, and reports how it ended.
package paravisor

import (
	"keel/hcl/abi/x86"
	"keel/paravisor/acpi"
	"keel/paravisor/guestload"
	"keel/vtl/guestmem"
	"keel/vtpm/crb"
)

// The machine as one set of literals: what stands here is what the guest's
// tables say and what the chips answer at.
const (
	lowRAMTop   = x86.GPA(3 << 30) // RAM ends here at the latest; the rest lies above 4 GiB
	highRAMBase = x86.GPA(4 << 30)

	pciPortBase, pciPortSize = 0xc000, 0x1000 // ports
	pciLowBase, pciLowSize   = x86.GPA(0xc0000000), 512 << 20
	// One bus: guests look at every bus that this window promises, and each
	// look is an exit.
	ecamBase, ecamSize       = x86.GPA(0xe0000000), 1 << 20
	vmbusBase, vmbusSize     = x86.GPA(0xf8000000), 64 << 20 // promised to Hyper-V's bus; nothing answers there
	ioapicBase               = x86.GPA(0xfec00000)
	tpmBase, tpmSize         = crb.Base, crb.Size // TIS has the same; the memory of ppi follows
	localAPICBase            = x86.GPA(0xfee00000)
	pciHighBase, pciHighSize = x86.GPA(512 << 30), 256 << 30
	// With isolation every page of a window is denied to the guest, which takes memory.
	pciHighIsolated = 64 << 20

	// Firmware's own memory below 1 MiB: tables that the guest may reclaim
	// (RSDP first, found by search too), the FACS, SMBIOS.
	acpiBase, acpiSize     = x86.GPA(0xe0000), 0xf000
	facsBase, facsSize     = x86.GPA(0xef000), 0x1000
	smbiosBase, smbiosSize = x86.GPA(0xf0000), 0x10000

	portCOM1 = 0x3f8
	portCOM2 = 0x2f8
	portPM   = 0x600

	irqTimer = 0
	gsiTimer = 2 // where the timer reaches the IOAPIC, as on every PC
	irqCOM2  = 3
	irqCOM1  = 4
	irqRTC   = 8
	irqSCI   = 9

	ioapicID = 0

	pciDisks = 1 // PCI device number of the virtio-scsi controller
)

// reserved is what the guest's memory map says beside its RAM.
var reserved = []guestload.Region{
	{Start: acpiBase, Size: acpiSize, Kind: guestload.KindACPI},
	{Start: facsBase, Size: facsSize, Kind: guestload.KindNVS},
	{Start: smbiosBase, Size: smbiosSize, Kind: guestload.KindReserved},
	{Start: ecamBase, Size: ecamSize, Kind: guestload.KindReserved},
}

// memoryLayout says where guest RAM lies.
var memoryLayout = guestmem.Layout{LowTop: lowRAMTop, HighBase: highRAMBase}

// overrides are the ISA interrupts that reach the IOAPIC elsewhere or in
// another way than ISA's.
var overrides = []acpi.Override{
	{IRQ: irqTimer, GSI: gsiTimer},
	{IRQ: irqSCI, GSI: irqSCI, Level: true},
}

// uarts are the serial ports; the first is the guest's console.
var uarts = []acpi.UART{
	{Port: portCOM1, IRQ: irqCOM1},
	{Port: portCOM2, IRQ: irqCOM2},
}

// Version of Keel, and the date of its release as SMBIOS wants it.
const (
	Version     = "0.1.0"
	releaseDate = "11/20/2026"
)

// Package acpi builds the ACPI tables that describe Keel's machine to the
// guest: RSDP, XSDT, FADT, FACS, MADT, MCFG, TPM2 and a DSDT in AML.
//
// The machine is a legacy-capable PC that is always in ACPI mode. Nothing here
// chooses an address or a line: the paravisor's description of the machine
// does, and the same numbers build the chips.
//
// Specification: ACPI 6.5; PCI Firmware Specification 3.3 §4.1.2 (MCFG); TCG ACPI
// Specification 1.2 (TPM2).
package acpi

import (
	"errors"
	"fmt"

	"keel/hcl/abi/x86"
)

// ErrBuild reports a Machine that the tables cannot describe, a defect of the
// machine's description.
var ErrBuild = errors.New("ACPI tables")

// Window is a range of guest physical addresses.
type Window struct {
	Base x86.GPA
	Size uint64 // in bytes; 0 means that there is none
}

// UART is a 16550A at a legacy address.
type UART struct {
	Port uint16
	IRQ  uint8 // ISA interrupt
}

// Override says that an ISA interrupt arrives elsewhere than at the IOAPIC pin
// of its number, or is level-triggered and active high instead of edge.
type Override struct {
	IRQ   uint8
	GSI   uint32
	Level bool
}

// Machine is what the tables describe.
type Machine struct {
	APICIDs   []x86.APICID // one a VP, the bootstrap VP first
	LocalAPIC x86.GPA
	IOAPIC    x86.GPA // its pins begin at GSI 0
	IOAPICID  uint8
	Overrides []Override

	SCI         uint8  // GSI of the ACPI interrupt
	PM1Event    uint16 // port of the PM1a event block, 4 bytes
	PM1Control  uint16 // port of the PM1a control block, 2 bytes
	PMTimer     uint16 // port of the 32-bit PM timer
	GPE0        uint16 // port of the GPE0 block
	GPE0Size    uint8  // in bytes; 0 means that there are no GPEs
	SleepTypeS5 uint8  // SLP_TYP that powers off
	ResetPort   uint16
	ResetValue  uint8 // byte that resets when written to ResetPort
	Century     uint8 // CMOS index of the century, 0 when there is none
	Keyboard    bool  // whether the 8042 offers a keyboard, not just reset and A20

	ECAM     Window // 1 MiB a bus from bus 0 of segment 0; below 4 GiB
	PCIPorts Window // ports for BARs, from D00h on
	PCILow   Window // for BARs, below 4 GiB
	PCIHigh  Window // for BARs, above 4 GiB
	UARTs    []UART
	VMBus    Window  // memory of Hyper-V's bus below 4 GiB; empty when there is no such bus
	TPM      *TPM    // nil when there is none
	Reclaim  Window  // memory for all tables but the FACS, below 4 GiB; the RSDP at its start
	FACSAddr x86.GPA // memory for the FACS: 64 bytes, so aligned, not reclaimed
}

// Blob is a piece of guest memory.
type Blob struct {
	Name string // for the event log
	GPA  x86.GPA
	Data []byte
}

// Tables is what Build returns: the blobs to write before the guest starts
// (and after a reset), and the root pointer among them. Written to the first
// 16-byte boundaries of 0xe0000–0xfffff it is also found by search.
type Tables struct {
	RSDP  x86.GPA
	Blobs []Blob
}

const (
	tableAlign = 64
	fourGiB    = 1 << 32
	firstPort  = 0xd00 // behind those of PCI configuration
	allPorts   = 1 << 16
)

// Build returns the tables of m. Its errors are ErrBuild.
func Build(m Machine) (Tables, error) {
	if err := m.check(); err != nil {
		return Tables{}, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	l := layout{next: m.Reclaim.Base + tableAlign, end: m.Reclaim.Base + x86.GPA(m.Reclaim.Size)}
	dsdtAddr := l.place(dsdt(m))
	roots := []x86.GPA{
		l.place(fadt(m, dsdtAddr)),
		l.place(madt(m)),
		l.place(mcfg(m)),
	}
	if m.TPM != nil {
		roots = append(roots, l.place(tpm2(m.TPM)))
	}
	xsdtAddr := l.place(xsdt(roots))
	if l.next > l.end {
		return Tables{}, fmt.Errorf("%w: %d bytes do not fit in %d", ErrBuild, l.next-m.Reclaim.Base, m.Reclaim.Size)
	}
	blobs := append(l.blobs,
		Blob{"FACS", m.FACSAddr, facs()},
		Blob{"RSDP", m.Reclaim.Base, rsdp(xsdtAddr)},
	)
	return Tables{RSDP: m.Reclaim.Base, Blobs: blobs}, nil
}

// layout places tables one after the other.
type layout struct {
	next, end x86.GPA
	blobs     []Blob
}

func (l *layout) place(table []byte) x86.GPA {
	gpa := l.next
	l.blobs = append(l.blobs, Blob{string(table[:4]), gpa, table}) // its signature (ACPI §5.2.6)
	l.next += x86.GPA((len(table) + tableAlign - 1) &^ (tableAlign - 1))
	return gpa
}

func below4G(w Window) bool { return uint64(w.Base) < fourGiB && w.Size <= fourGiB-uint64(w.Base) }

// check finds what the tables have no room for.
func (m Machine) check() error {
	switch {
	case len(m.APICIDs) == 0 || len(m.APICIDs) > maxVPs:
		return fmt.Errorf("%d VPs", len(m.APICIDs))
	case m.ECAM.Size == 0 || m.ECAM.Size%busSize != 0 || m.ECAM.Size > maxBuses*busSize || !below4G(m.ECAM):
		return fmt.Errorf("ECAM of %#x bytes at %#x", m.ECAM.Size, m.ECAM.Base)
	case m.PCIPorts.Size == 0 || m.PCIPorts.Size > allPorts || m.PCIPorts.Base < firstPort || uint64(m.PCIPorts.Base)+m.PCIPorts.Size > allPorts:
		return fmt.Errorf("PCI ports %#x+%#x", m.PCIPorts.Base, m.PCIPorts.Size)
	case m.PCILow.Size == 0 || !below4G(m.PCILow):
		return fmt.Errorf("PCI window of %#x bytes at %#x", m.PCILow.Size, m.PCILow.Base)
	case !below4G(m.VMBus):
		return fmt.Errorf("memory of VMBus of %#x bytes at %#x", m.VMBus.Size, m.VMBus.Base)
	case m.Reclaim.Base%tableAlign != 0 || !below4G(m.Reclaim):
		return fmt.Errorf("tables at %#x", m.Reclaim.Base)
	case m.FACSAddr%tableAlign != 0 || uint64(m.FACSAddr) >= fourGiB:
		return fmt.Errorf("FACS at %#x", m.FACSAddr)
	case uint64(m.LocalAPIC) >= fourGiB || uint64(m.IOAPIC) >= fourGiB:
		return fmt.Errorf("APICs at %#x and %#x", m.LocalAPIC, m.IOAPIC)
	case len(m.UARTs) > maxUARTs:
		return fmt.Errorf("%d UARTs", len(m.UARTs))
	}
	if m.TPM != nil {
		if err := m.TPM.check(); err != nil {
			return err
		}
	}
	for _, u := range m.UARTs {
		if u.IRQ > 15 {
			return fmt.Errorf("UART with interrupt %d", u.IRQ)
		}
	}
	return nil
}

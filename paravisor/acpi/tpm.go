package acpi

import (
	"fmt"
	"math"

	"keel/hcl/abi/x86"
	"keel/vtpm/ppi"
)

// TPM is a TPM 2.0 at a fixed address that has no interrupt.
type TPM struct {
	CRB       bool    // the registers are those of the CRB interface, else of FIFO
	Registers Window  // all localities; below 4 GiB
	Log       Window  // the event log that the firmware hands over; empty when there is none
	PPI       x86.GPA // memory of package vtpm/ppi, below 4 GiB; 0 when there is none
}

func (t *TPM) check() error {
	switch {
	case t.Registers.Size == 0 || !below4G(t.Registers):
		return fmt.Errorf("TPM of %#x bytes at %#x", t.Registers.Size, t.Registers.Base)
	case t.Log.Size > math.MaxUint32:
		return fmt.Errorf("event log of %#x bytes", t.Log.Size)
	case !below4G(Window{t.PPI, ppi.Size}):
		return fmt.Errorf("physical presence interface at %#x", t.PPI)
	}
	return nil
}

// The TPM2 table (TCG ACPI 1.2 §7.3).
const (
	tpm2Revision    = 4
	tpm2Client      = 0    // platform class
	tpm2StartFIFO   = 6    // by the registers of FIFO; there is no control area
	tpm2StartCRB    = 7    // by the control area
	tpm2ControlArea = 0x40 // its offset in the registers of the CRB interface
	tpm2Parameters  = 12   // bytes for start methods; none of ours has any
)

// tpm2 returns the table by which a guest finds the TPM and its event log.
func tpm2(t *TPM) []byte {
	control, start := uint64(0), uint32(tpm2StartFIFO)
	if t.CRB {
		control, start = uint64(t.Registers.Base)+tpm2ControlArea, tpm2StartCRB
	}
	var b []byte
	b = le.AppendUint16(b, tpm2Client)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, control)
	b = le.AppendUint32(b, start)
	b = append(b, make([]byte, tpm2Parameters)...)
	b = le.AppendUint32(b, uint32(t.Log.Size))
	b = le.AppendUint64(b, uint64(t.Log.Base))
	return newTable("TPM2", tpm2Revision, b)
}

// deviceThere is what _STA returns: present, enabled, shown, working (ACPI §6.3.7).
const deviceThere = 0x0f

// tpmDevice returns the device that drivers bind to.
func tpmDevice(t *TPM) term {
	body := concat(
		name("_HID", text("MSFT0101")),
		name("_UID", integer(0)),
		name("_STA", integer(deviceThere)),
		name("_CRS", resources(memory32(t.Registers))),
	)
	if t.PPI != 0 {
		body = concat(body, presence(t.PPI))
	}
	return device("TPM", body)
}

package identity

import (
	"fmt"
	"slices"
	"strings"

	"keel/vtpm/eventlog"
)

// Maker is what the TPM says of itself; certificates repeat it (EK Credential Profile
// 2.5, §3.2.9 and §3.2.10).
type Maker struct {
	Manufacturer uint32 // TPM_PT_MANUFACTURER, four letters
	Model        string // vendor strings
	Version      uint32 // TPM_PT_FIRMWARE_VERSION_1
	Level        uint32 // of the specification
	Revision     uint32 // of the specification, in hundredths
}

// properties are the TPM_PT values.
type properties map[uint32]uint32

func (p properties) maker() Maker {
	var b []byte
	for i := range uint32(4) {
		b = be.AppendUint32(b, p[ptVendorString1+i])
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, string(b))
	return Maker{
		Manufacturer: p[ptManufacturer],
		Model:        strings.Join(strings.Fields(text), " "),
		Version:      p[ptFirmwareVersion],
		Level:        p[ptLevel],
		Revision:     p[ptRevision],
	}
}

// maxCapability bounds the entries of one answer and the number of answers.
const maxCapability = 256

// getCapability asks for entries of a capability, from the first on, and calls entry
// to read each from the answers.
func getCapability(tpm TPM, capability, first uint32, entry func(*reply) (next uint32)) error {
	for range maxCapability {
		params := be.AppendUint32(be.AppendUint32(be.AppendUint32(nil, capability), first), maxCapability)
		_, r, err := run(tpm, call{code: ccGetCapability, params: params})
		if err != nil {
			return err
		}
		more := r.u8() != 0
		got, count := r.u32(), r.u32()
		if got != capability || count > maxCapability {
			return fmt.Errorf("%w: capability %d answered with %d of %d", ErrTPM, capability, count, got)
		}
		for range count {
			first = entry(r)
		}
		if err := r.check("capabilities"); err != nil || !more || count == 0 {
			return err
		}
	}
	return fmt.Errorf("%w: capability %d has no end", ErrTPM, capability)
}

// readProperties returns the properties from the first to the last that Keel reads.
func readProperties(tpm TPM) (properties, error) {
	p := properties{}
	for _, group := range [][2]uint32{{ptLevel - 1, lastFixed}, {ptPermanent, lastVariable}} {
		done := false
		for first := group[0]; !done && first <= group[1]; {
			start := first
			err := getCapability(tpm, capProperties, first, func(r *reply) uint32 {
				tag, value := r.u32(), r.u32()
				p[tag] = value
				first = max(first, tag+1)
				return tag + 1
			})
			if err != nil {
				return nil, err
			}
			done = first == start
		}
	}
	return p, nil
}

// hasHandle tells whether a persistent object or an NV index exists.
func hasHandle(tpm TPM, handle uint32) (bool, error) {
	params := be.AppendUint32(be.AppendUint32(be.AppendUint32(nil, capHandles), handle), 1)
	_, r, err := run(tpm, call{code: ccGetCapability, params: params})
	if err != nil {
		return false, err
	}
	r.u8()
	capability, count := r.u32(), r.u32()
	found := count > 0 && r.u32() == handle
	if capability != capHandles || count > 1 {
		return false, fmt.Errorf("%w: handles answered with %d of %d", ErrTPM, count, capability)
	}
	return found, r.check("handles")
}

// bank is a bank of PCRs and which of them are active.
type bank struct {
	algorithm eventlog.Algorithm
	selected  [3]byte
}

func (b bank) active() bool { return b.selected != [3]byte{} }

// readBanks returns all banks that the TPM implements.
func readBanks(tpm TPM) ([]bank, error) {
	var banks []bank
	err := getCapability(tpm, capPCRs, 0, func(r *reply) uint32 {
		b := bank{algorithm: eventlog.Algorithm(r.u16())}
		copy(b.selected[:], r.bytes(uint32(r.u8())))
		banks = append(banks, b)
		return 0
	})
	return banks, err
}

// Banks returns the active banks, sorted. An active bank of an algorithm that Keel has no
// hash for is ErrTPM: what cannot be measured into must not look measured.
func Banks(tpm TPM) ([]eventlog.Algorithm, error) {
	all, err := readBanks(tpm)
	if err != nil {
		return nil, err
	}
	var active []eventlog.Algorithm
	for _, b := range all {
		if !b.active() {
			continue
		}
		if b.algorithm.Size() == 0 {
			return nil, fmt.Errorf("%w: the active PCR bank %v cannot be measured into; deactivate it", ErrTPM, b.algorithm)
		}
		active = append(active, b.algorithm)
	}
	slices.Sort(active)
	return active, nil
}

// Extend extends a PCR in all banks that digests name (TPM2_PCR_Extend). The digests
// of the active banks must all be there: the TPM leaves a bank without one as it is.
func Extend(tpm TPM, pcr uint32, digests []eventlog.Digest) error {
	params := be.AppendUint32(nil, uint32(len(digests)))
	for _, d := range digests {
		params = append(be.AppendUint16(params, uint16(d.Algorithm)), d.Value...)
	}
	_, _, err := run(tpm, call{code: ccPCRExtend, handles: []uint32{pcr}, auth: empty, params: params})
	return err
}

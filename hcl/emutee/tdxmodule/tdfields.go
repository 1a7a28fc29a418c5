package tdxmodule

import (
	"encoding/binary"

	"keel/hcl/abi/tdx"
)

// tdFields are the fields of a TD, in the order of classes and codes.
var tdFields = [...]field{
	row(tdx.TD_NUM_VCPUS, 1, 0),
	row(tdx.TD_NUM_L2_VMS, 1, 0),
	row(tdx.TD_ATTRIBUTES, 1, 0),
	row(tdx.TD_XFAM, 1, 0),
	row(tdx.TD_MAX_VCPUS, 1, 0),
	row(tdx.TD_GPAW, 1, 0),
	row(tdx.TD_TSC_FREQUENCY, 1, 0),
	row(tdx.TD_NOTIFY_ENABLES, 1, tdx.TD_NOTIFY_ENABLES_ZERO_STEP),
	row(tdx.TD_CONFIG_FLAGS, 1, 0),
	row(tdx.TD_CTLS, 1, tdx.TD_CTLS_PENDING_VE_DISABLE),
	row(tdx.TD_MRTD, digestWords, 0),
	row(tdx.TD_MRCONFIGID, digestWords, 0),
	row(tdx.TD_MROWNER, digestWords, 0),
	row(tdx.TD_MROWNERCONFIG, digestWords, 0),
	row(tdx.TD_RTMR, tdx.RTMRS*digestWords, 0),
	row(tdx.TD_SERVTD_HASH, digestWords, 0),
	row(tdx.TD_SERVTD_NUM, 1, 0),
}

// digestWords is how many elements of eight bytes a digest has.
const digestWords = tdx.MEASUREMENT_SIZE / 8

// Read is TDG.VM.RD of version 1, which also returns the next field (ABI, that leaf).
func (t *TD) Read(rcx, id uint64) FieldResult {
	r := t.read(rcx, id)
	t.stats.status(r.Status)
	return r
}

func (t *TD) read(rcx, id uint64) FieldResult {
	if rcx != 0 {
		return FieldResult{Status: tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX, Next: tdx.FIELD_NONE}
	}
	if noField(id) {
		return FieldResult{Status: tdx.STATUS_FIRST_FIELD_ID_IN_CONTEXT, Next: tdFields[0].base}
	}
	class, code, ok := splitID(id)
	if !ok {
		return FieldResult{Status: tdx.STATUS_FIELD_ID_INCORRECT, Next: tdx.FIELD_NONE}
	}
	at, index, ok := find(tdFields[:], class, code)
	if !ok {
		return FieldResult{Status: tdx.STATUS_FIELD_ID_INCORRECT, Next: tdx.FIELD_NONE}
	}
	f := &tdFields[at]
	next := uint64(tdx.FIELD_NONE)
	switch {
	case index+1 < f.number:
		next = f.id(index + 1)
	case at+1 < len(tdFields):
		next = tdFields[at+1].base
	}
	return FieldResult{Value: t.value(f, index) & f.read, Next: next}
}

// Write is TDG.VM.WR (ABI, that leaf).
func (t *TD) Write(rcx, id, value, mask uint64) FieldResult {
	r := t.write(rcx, id, value, mask)
	t.stats.status(r.Status)
	return r
}

func (t *TD) write(rcx, id, value, mask uint64) FieldResult {
	if rcx != 0 {
		return FieldResult{Status: tdx.STATUS_OPERAND_INVALID | tdx.OPERAND_RCX}
	}
	class, code, ok := splitID(id)
	if !ok {
		return FieldResult{Status: tdx.STATUS_FIELD_ID_INCORRECT}
	}
	at, index, ok := find(tdFields[:], class, code)
	if !ok {
		return FieldResult{Status: tdx.STATUS_FIELD_ID_INCORRECT}
	}
	f := &tdFields[at]
	word := &t.notify
	if f.base == tdx.TD_CTLS {
		word = &t.ctls
	}
	for { // another VP may write the same field
		old := t.value(f, index)
		merged, status := merge(old, value, mask, f.write)
		switch {
		case status != tdx.STATUS_SUCCESS:
			return FieldResult{Status: status}
		case f.base == tdx.TD_CTLS && merged != old && !t.config.FlexibleVE:
			return FieldResult{Status: tdx.STATUS_FIELD_VALUE_NOT_VALID}
		case word.CompareAndSwap(old, merged):
			return FieldResult{Value: old & f.read}
		}
	}
}

// value returns what a field holds.
func (t *TD) value(f *field, index uint32) uint64 {
	m := t.Measurements()
	switch f.base {
	case tdx.TD_NUM_VCPUS:
		return uint64(t.vps.Load())
	case tdx.TD_NUM_L2_VMS:
		return uint64(t.config.VMs)
	case tdx.TD_ATTRIBUTES:
		return t.config.Attributes
	case tdx.TD_XFAM:
		return t.config.XFAM
	case tdx.TD_MAX_VCPUS:
		return uint64(t.config.VPs)
	case tdx.TD_GPAW:
		return t.configFlags() & tdx.TD_CONFIG_FLAGS_GPAW
	case tdx.TD_TSC_FREQUENCY:
		return uint64(t.config.TSCUnits)
	case tdx.TD_NOTIFY_ENABLES:
		return t.notify.Load()
	case tdx.TD_CONFIG_FLAGS:
		return t.configFlags()
	case tdx.TD_CTLS:
		return t.ctls.Load()
	case tdx.TD_MRTD:
		return m.MRTD.word(index)
	case tdx.TD_MRCONFIGID:
		return m.MRConfigID.word(index)
	case tdx.TD_MROWNER:
		return m.MROwner.word(index)
	case tdx.TD_MROWNERCONFIG:
		return m.MROwnerConfig.word(index)
	case tdx.TD_RTMR:
		return m.RTMR[index/digestWords].word(index % digestWords)
	case tdx.TD_SERVTD_HASH:
		return m.ServTDHash.word(index)
	}
	return 0 // SERVTD_NUM: nothing is bound
}

func (t *TD) configFlags() uint64 {
	flags := uint64(0)
	if t.config.Wide {
		flags |= tdx.TD_CONFIG_FLAGS_GPAW
	}
	if t.config.FlexibleVE {
		flags |= tdx.TD_CONFIG_FLAGS_FLEXIBLE_VE
	}
	return flags
}

func (d *Digest) word(i uint32) uint64 { return binary.LittleEndian.Uint64(d[8*i:]) }

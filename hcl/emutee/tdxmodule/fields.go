package tdxmodule

import "keel/hcl/abi/tdx"

// field is one row of a table of metadata fields: number fields, or elements of one, with
// successive codes, and which bits of them L1 reads and writes (ABI, "TD-Scope Metadata",
// "VCPU-Scope Metadata", "L2 VMCS").
type field struct {
	base        uint64 // identifier of the first
	number      uint32
	read, write uint64
}

// row makes a row of which L1 reads everything.
func row(base uint64, number uint32, write uint64) field {
	f := field{base: base, number: number, write: write}
	f.read = f.mask()
	return f
}

func (f *field) class() uint8 { return uint8(f.base >> tdx.FIELD_CLASS_SHIFT & tdx.FIELD_CLASS_MASK) }

func (f *field) code() uint32 { return uint32(f.base & tdx.FIELD_CODE_MASK) }

// id is the identifier of the row's element at an index.
func (f *field) id(index uint32) uint64 { return f.base + uint64(index) }

// mask has the bits that a field of the row has.
func (f *field) mask() uint64 { return 1<<(8<<(f.base>>tdx.FIELD_SIZE_SHIFT&3)) - 1 }

// index returns where in the row a code stands.
func (f *field) index(code uint32) (uint32, bool) {
	i := code - f.code()
	return i, i < f.number
}

// find looks for a field in a table, and returns the row and the index in it.
func find(table []field, class uint8, code uint32) (at int, index uint32, ok bool) {
	for i := range table {
		if table[i].class() != class {
			continue
		}
		if index, ok := table[i].index(code); ok {
			return i, index, true
		}
	}
	return 0, 0, false
}

// splitID takes an identifier apart that names a single element. The context, the size
// and WRITE_MASK_VALID are ignored (ABI, "MD_FIELD_ID").
func splitID(id uint64) (class uint8, code uint32, ok bool) {
	const single = 0xF<<tdx.FIELD_LAST_ELEMENT_SHIFT | 0x1FF<<tdx.FIELD_LAST_FIELD_SHIFT
	if id&(tdx.FIELD_RESERVED_MASK|single) != 0 {
		return 0, 0, false
	}
	return uint8(id >> tdx.FIELD_CLASS_SHIFT & tdx.FIELD_CLASS_MASK), uint32(id & tdx.FIELD_CODE_MASK), true
}

// noField tells whether an identifier asks for the first field of its context.
func noField(id uint64) bool { return id|tdx.FIELD_CONTEXT_MASK == tdx.FIELD_NONE }

// FieldResult is what TDG.VP.RD and .WR, TDG.VM.RD and .WR return.
type FieldResult struct {
	Status uint64 // RAX
	Next   uint64 // RDX of a read: the next field that L1 can read, or tdx.FIELD_NONE
	Value  uint64 // R8: what the field holds, or held before the write
}

// merge is what a write does with its mask: bits that L1 may not write must stay as they
// are, or the write is refused (ABI, "TDG.VP.WR Leaf").
func merge(old, value, mask, writable uint64) (merged, status uint64) {
	switch {
	case mask&writable == 0:
		return 0, tdx.STATUS_FIELD_NOT_WRITABLE
	case (old^value)&mask&^writable != 0:
		return 0, tdx.STATUS_FIELD_VALUE_NOT_VALID
	}
	mask &= writable
	return old&^mask | value&mask, tdx.STATUS_SUCCESS
}

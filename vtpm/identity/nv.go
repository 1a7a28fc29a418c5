package identity

import (
	"bytes"
	"fmt"
)

// nvPublic is what the TPM tells of an NV index (TPMS_NV_PUBLIC).
type nvPublic struct {
	attributes uint32
	size       int
}

// isOurs tells whether the index is one that the platform made with the attributes.
// An owner can make an index with any number that is free, but not PLATFORMCREATE.
func (p *nvPublic) isOurs(attributes uint32) bool {
	return p != nil && p.attributes&^nvState == attributes
}

// complete tells whether the index was written to its end and locked, the last step.
func (p *nvPublic) complete() bool {
	return p.attributes&nvState == nvState
}

// nvReadPublic returns nil when the index does not exist.
func nvReadPublic(tpm TPM, index uint32) (*nvPublic, error) {
	found, err := hasHandle(tpm, index)
	if err != nil || !found {
		return nil, err
	}
	_, r, err := run(tpm, call{code: ccNVReadPublic, handles: []uint32{index}})
	if err != nil {
		return nil, err
	}
	r = &reply{rest: r.sized(), short: r.short}
	got, _ := r.u32(), r.u16() // index, name algorithm
	p := &nvPublic{attributes: r.u32()}
	r.sized() // policy
	p.size = int(r.u16())
	if err := r.check("an NV index"); err != nil {
		return nil, err
	}
	if got != index {
		return nil, fmt.Errorf("%w: NV index %#x answered with %#x", ErrTPM, index, got)
	}
	return p, nil
}

func nvUndefine(tpm TPM, platform []byte, index uint32) error {
	_, _, err := run(tpm, call{code: ccNVUndefineSpace, handles: []uint32{rhPlatform, index}, auth: &platform})
	return err
}

func nvDefine(tpm TPM, platform []byte, index, attributes uint32, size int) error {
	public := be.AppendUint16(be.AppendUint32(nil, index), algSHA256)
	public = be.AppendUint32(public, attributes)
	public = be.AppendUint16(public, 0) // no policy
	public = be.AppendUint16(public, uint16(size))
	params := appendSized(be.AppendUint16(nil, 0), public) // the empty authorization value
	_, _, err := run(tpm, call{code: ccNVDefineSpace, handles: []uint32{rhPlatform}, auth: &platform, params: params})
	return err
}

// nvWrite writes data to the start of an index, in parts of at most chunk bytes.
func nvWrite(tpm TPM, platform []byte, index uint32, data []byte, chunk int) error {
	for at := 0; at < len(data); at += chunk {
		part := data[at:min(at+chunk, len(data))]
		params := be.AppendUint16(appendSized(nil, part), uint16(at))
		if _, _, err := run(tpm, call{code: ccNVWrite, handles: []uint32{rhPlatform, index}, auth: &platform, params: params}); err != nil {
			return err
		}
	}
	return nil
}

func nvWriteLock(tpm TPM, platform []byte, index uint32) error {
	_, _, err := run(tpm, call{code: ccNVWriteLock, handles: []uint32{rhPlatform, index}, auth: &platform})
	return err
}

// nvRead reads a whole index with its own, empty authorization value.
func nvRead(tpm TPM, index uint32, size, chunk int) ([]byte, error) {
	var data []byte
	for len(data) < size {
		n := min(chunk, size-len(data))
		params := be.AppendUint16(be.AppendUint16(nil, uint16(n)), uint16(len(data)))
		_, r, err := run(tpm, call{code: ccNVRead, handles: []uint32{index, index}, auth: empty, params: params})
		if err != nil {
			return nil, err
		}
		part := r.sized()
		if len(part) != n {
			return nil, fmt.Errorf("%w: %d bytes of %d from NV index %#x", ErrTPM, len(part), n, index)
		}
		data = append(data, part...)
	}
	return data, nil
}

// store brings data into a write-once index. It can be repeated after any interruption:
// only the lock, its last step, makes the index count as complete.
func store(tpm TPM, platform []byte, index uint32, data []byte, chunk int) error {
	p, err := nvReadPublic(tpm, index)
	if err != nil {
		return err
	}
	if p != nil && (!p.isOurs(attributesCertificate) || p.size != len(data) || p.attributes&nvWriteLocked != 0) {
		if err := nvUndefine(tpm, platform, index); err != nil {
			return err
		}
		p = nil
	}
	if p == nil {
		if err := nvDefine(tpm, platform, index, attributesCertificate, len(data)); err != nil {
			return err
		}
	}
	if err := nvWrite(tpm, platform, index, data, chunk); err != nil {
		return err
	}
	return nvWriteLock(tpm, platform, index)
}

// refresh makes data the contents of an index that the platform may write again; the
// rest of the index is zero. It writes nothing that is there already.
func refresh(tpm TPM, platform []byte, index uint32, data []byte, size, chunk int) error {
	padded := make([]byte, size)
	copy(padded, data)
	p, err := nvReadPublic(tpm, index)
	if err != nil {
		return err
	}
	if p != nil && (!p.isOurs(attributesReport) || p.size != size) {
		if err := nvUndefine(tpm, platform, index); err != nil {
			return err
		}
		p = nil
	}
	if p == nil {
		if err := nvDefine(tpm, platform, index, attributesReport, size); err != nil {
			return err
		}
	} else if p.attributes&nvWritten != 0 {
		old, err := nvRead(tpm, index, size, chunk)
		if err != nil || bytes.Equal(old, padded) {
			return err
		}
	}
	return nvWrite(tpm, platform, index, padded, chunk)
}

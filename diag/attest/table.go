package attest

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/uuid"
)

// maxCertificates bounds the entries of a certificate table.
const maxCertificates = 16

// snpCertificates are the entries of a certificate table that a verifier looks at, DER.
type snpCertificates struct {
	vcek, vlek, intermediate, ark []byte
}

var (
	guidVCEK = uuid.MustParse(abi.VcekGUID)
	guidVLEK = uuid.MustParse(abi.VlekGUID)
	guidASK  = uuid.MustParse(abi.AskGUID)
	guidARK  = uuid.MustParse(abi.ArkGUID)
)

// parseTable decodes a certificate table (GHCB specification, AMD 56421, section 4.1.8.1).
// The library's decoder adds offset and length without looking for an overflow.
func parseTable(b []byte) (c snpCertificates, err error) {
	for i := 0; ; i++ {
		at := i * abi.CertTableEntrySize
		if len(b)-at < abi.CertTableEntrySize {
			return c, fmt.Errorf("%w: the certificate table ends after %d entries; fetch the evidence again", ErrTruncated, i)
		}
		id := uuid.UUID(b[at : at+abi.GUIDSize])
		offset := uint64(binary.LittleEndian.Uint32(b[at+abi.GUIDSize:]))
		length := uint64(binary.LittleEndian.Uint32(b[at+abi.GUIDSize+4:]))
		if id == uuid.Nil && offset == 0 && length == 0 {
			return c, nil
		}
		if i == maxCertificates {
			return c, fmt.Errorf("%w: more than %d certificates; fetch the evidence again", ErrFormat, maxCertificates)
		}
		if offset+length > uint64(len(b)) {
			return c, fmt.Errorf("%w: certificate %d ends after the table; fetch the evidence again", ErrTruncated, i)
		}
		to := map[uuid.UUID]*[]byte{guidVCEK: &c.vcek, guidVLEK: &c.vlek, guidASK: &c.intermediate, guidARK: &c.ark}[id]
		switch {
		case to == nil: // a host's own
		case *to != nil:
			return c, fmt.Errorf("%w: two certificates %s; fetch the evidence again", ErrFormat, id)
		default:
			*to = b[offset : offset+length]
		}
	}
}

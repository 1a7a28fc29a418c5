package evidence

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"keel/hcl/abi/tdx"
)

// TD is what the TDX module keeps of a trust domain's measurements (TDINFO_STRUCT).
type TD struct {
	Attributes    uint64 // bit AttributeDebug and others
	XFAM          uint64 // bits 0 and 1 are always set
	MRTD          [48]byte
	MRConfigID    [48]byte // the host's words about the TD: what HOST_DATA is for SNP
	MROwner       [48]byte
	MROwnerConfig [48]byte
	RTMR          [4][48]byte
	ServTDHash    [48]byte
}

// Platform is the emulated TDX module and quoting enclave of one machine; its keys follow
// from a secret of the machine. Its methods may be called from any goroutine.
type Platform struct {
	mac      []byte // of REPORTMACSTRUCTs
	ppid     []byte
	qeID     []byte
	authData []byte
	attest   *ecdsa.PrivateKey // signs quotes
	pck      *ecdsa.PrivateKey // signs the quoting enclave's report
	chain    func() ([]byte, error)
}

// NewPlatform returns the TDX machine with that secret.
func NewPlatform(secret []byte) (*Platform, error) {
	p := &Platform{}
	var err error
	for _, part := range []struct {
		to      *[]byte
		purpose string
		n       int
	}{
		{&p.mac, "report MAC", sha256.Size}, {&p.ppid, "PPID", 16}, {&p.qeID, "QE id", 16}, {&p.authData, "QE authentication data", authDataSize},
	} {
		if *part.to, err = derive(secret, part.purpose, part.n); err != nil {
			return nil, err
		}
	}
	if p.attest, err = deriveKey(elliptic.P256(), secret, "attestation key"); err != nil {
		return nil, err
	}
	if p.pck, err = deriveKey(elliptic.P256(), secret, "PCK"); err != nil {
		return nil, err
	}
	p.chain = sync.OnceValues(p.certificates)
	return p, nil
}

// seamDigest is the measurement of the emulated TDX module.
func seamDigest() [48]byte { return sha512.Sum384([]byte("Keel EMULATED TDX module, not Intel")) }

// Report answers TDG.MR.REPORT: a TDREPORT_STRUCT of tdx.REPORT_SIZE bytes.
func (p *Platform) Report(td *TD, data [64]byte) []byte {
	b := make([]byte, tdx.REPORT_SIZE)
	le := binary.LittleEndian
	b[tdx.REPORT_TYPE] = tdx.REPORT_TYPE_TDX
	copy(b[tdx.REPORT_CPUSVN:], svnCPU)
	copy(b[tdx.REPORT_DATA:], data[:])

	le.PutUint64(b[tcbInfo+tdx.TCB_INFO_VALID:], tcbValidFields)
	copy(b[tcbInfo+tdx.TCB_INFO_SVN:], svnTEE)
	seam := seamDigest()
	copy(b[tcbInfo+tdx.TCB_INFO_MRSEAM:], seam[:])
	copy(b[tcbInfo+tdx.TCB_INFO_SVN2:], svnTEE)

	le.PutUint64(b[tdInfo+tdx.TDINFO_ATTRIBUTES:], td.Attributes)
	le.PutUint64(b[tdInfo+tdx.TDINFO_XFAM:], td.XFAM)
	copy(b[tdInfo+tdx.TDINFO_MRTD:], td.MRTD[:])
	copy(b[tdInfo+tdx.TDINFO_MRCONFIGID:], td.MRConfigID[:])
	copy(b[tdInfo+tdx.TDINFO_MROWNER:], td.MROwner[:])
	copy(b[tdInfo+tdx.TDINFO_MROWNERCONFIG:], td.MROwnerConfig[:])
	for i := range td.RTMR {
		copy(b[tdInfo+tdx.TDINFO_RTMR+i*len(td.RTMR[i]):], td.RTMR[i][:])
	}
	copy(b[tdInfo+tdx.TDINFO_SERVTD_HASH:], td.ServTDHash[:])

	sum := sha512.Sum384(b[tcbInfo:][:tdx.TCB_INFO_SIZE])
	copy(b[tdx.REPORT_TCB_INFO_HASH:], sum[:])
	sum = sha512.Sum384(b[tdInfo:][:tdx.TDINFO_SIZE])
	copy(b[tdx.REPORT_INFO_HASH:], sum[:])
	copy(b[tdx.REPORT_MAC:], p.reportMAC(b))
	return b
}

func (p *Platform) reportMAC(b []byte) []byte {
	h := hmac.New(sha256.New, p.mac)
	h.Write(b[:tdx.REPORT_MAC])
	return h.Sum(nil)
}

// VerifyReport answers TDG.MR.VERIFYREPORT, and adds what the quoting enclave does: it
// tells whether a TDREPORT is of this machine and whole. Its errors are ErrRequest.
func (p *Platform) VerifyReport(b []byte) error {
	switch {
	case len(b) != tdx.REPORT_SIZE:
		return fmt.Errorf("%w: a TDREPORT of %d bytes; it has %d", ErrRequest, len(b), tdx.REPORT_SIZE)
	case b[tdx.REPORT_TYPE] != tdx.REPORT_TYPE_TDX:
		return fmt.Errorf("%w: a report of type %#x is no TDREPORT", ErrRequest, b[tdx.REPORT_TYPE])
	case !hmac.Equal(b[tdx.REPORT_MAC:tdx.REPORT_TCB_INFO], p.reportMAC(b)):
		return fmt.Errorf("%w: the TDREPORT's MAC is not this machine's", ErrRequest)
	}
	sum := sha512.Sum384(b[tcbInfo:][:tdx.TCB_INFO_SIZE])
	info := sha512.Sum384(b[tdInfo:][:tdx.TDINFO_SIZE])
	if !slices.Equal(sum[:], b[tdx.REPORT_TCB_INFO_HASH:][:len(sum)]) || !slices.Equal(info[:], b[tdx.REPORT_INFO_HASH:][:len(info)]) {
		return fmt.Errorf("%w: the TDREPORT's parts differ from what its MAC covers", ErrRequest)
	}
	return nil
}

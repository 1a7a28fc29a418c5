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

// Report answers TDG.MR.REPORT: a TDREPORT_STRUCT of TDReportSize bytes.
func (p *Platform) Report(td *TD, data [64]byte) []byte {
	b := make([]byte, TDReportSize)
	le := binary.LittleEndian
	b[macType] = reportTypeTDX
	copy(b[macCPUSVN:], svnCPU)
	copy(b[macReportData:], data[:])

	le.PutUint64(b[tcbValid:], tcbValidFields)
	copy(b[tcbSVN:], svnTEE)
	seam := seamDigest()
	copy(b[tcbMRSEAM:], seam[:])
	copy(b[tcbSVN2:], svnTEE)

	le.PutUint64(b[tdAttributes:], td.Attributes)
	le.PutUint64(b[tdXFAM:], td.XFAM)
	copy(b[tdMRTD:], td.MRTD[:])
	copy(b[tdConfigID:], td.MRConfigID[:])
	copy(b[tdOwner:], td.MROwner[:])
	copy(b[tdOwnerCfg:], td.MROwnerConfig[:])
	for i := range td.RTMR {
		copy(b[tdRTMR+i*len(td.RTMR[i]):], td.RTMR[i][:])
	}
	copy(b[tdServTD:], td.ServTDHash[:])

	sum := sha512.Sum384(b[tcbInfo:][:tcbInfoSize])
	copy(b[macTCBInfoHash:], sum[:])
	sum = sha512.Sum384(b[tdInfo:][:tdInfoSize])
	copy(b[macInfoHash:], sum[:])
	copy(b[macMAC:], p.reportMAC(b))
	return b
}

func (p *Platform) reportMAC(b []byte) []byte {
	h := hmac.New(sha256.New, p.mac)
	h.Write(b[:macMAC])
	return h.Sum(nil)
}

// VerifyReport answers TDG.MR.VERIFYREPORT, and adds what the quoting enclave does: it
// tells whether a TDREPORT is of this machine and whole. Its errors are ErrRequest.
func (p *Platform) VerifyReport(b []byte) error {
	switch {
	case len(b) != TDReportSize:
		return fmt.Errorf("%w: a TDREPORT of %d bytes; it has %d", ErrRequest, len(b), TDReportSize)
	case b[macType] != reportTypeTDX:
		return fmt.Errorf("%w: a report of type %#x is no TDREPORT", ErrRequest, b[macType])
	case !hmac.Equal(b[macMAC:macEnd], p.reportMAC(b)):
		return fmt.Errorf("%w: the TDREPORT's MAC is not this machine's", ErrRequest)
	}
	sum := sha512.Sum384(b[tcbInfo:][:tcbInfoSize])
	info := sha512.Sum384(b[tdInfo:][:tdInfoSize])
	if !slices.Equal(sum[:], b[macTCBInfoHash:][:len(sum)]) || !slices.Equal(info[:], b[macInfoHash:][:len(info)]) {
		return fmt.Errorf("%w: the TDREPORT's parts differ from what its MAC covers", ErrRequest)
	}
	return nil
}

package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"

	"keel/hcl/abi/tdx"
)

// Quote returns the quote of version 4 for a TDREPORT of this machine, with its PCK chain.
// Its errors are ErrRequest where the report is not this machine's.
func (p *Platform) Quote(report []byte) ([]byte, error) {
	if err := p.VerifyReport(report); err != nil {
		return nil, err
	}
	chain, err := p.chain()
	if err != nil {
		return nil, err
	}
	b := append(p.quoteHeader(), quoteBody(report)...)
	signature, err := rawSignature(p.attest, b)
	if err != nil {
		return nil, err
	}
	point, err := rawPoint(&p.attest.PublicKey)
	if err != nil {
		return nil, err
	}
	enclave := p.enclaveReport(point)
	enclaveSignature, err := rawSignature(p.pck, enclave)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	certification := append(enclave, enclaveSignature...)
	certification = le.AppendUint16(certification, uint16(len(p.authData)))
	certification = append(certification, p.authData...)
	certification = le.AppendUint16(certification, certifyPCKChain)
	certification = le.AppendUint32(certification, uint32(len(chain)))
	certification = append(certification, chain...)

	authentication := append(signature, point...)
	authentication = le.AppendUint16(authentication, certifyQEReport)
	authentication = le.AppendUint32(authentication, uint32(len(certification)))
	authentication = append(authentication, certification...)

	b = le.AppendUint32(b, uint32(len(authentication)))
	return append(b, authentication...), nil
}

// quoteHeader names version, key, TEE and quoting enclave. The SVNs in it are zero in
// version 4.
func (p *Platform) quoteHeader() []byte {
	b := make([]byte, quoteHeaderSize)
	binary.LittleEndian.PutUint16(b[0:], quoteVersion)
	binary.LittleEndian.PutUint16(b[2:], quoteKeyECDSA)
	binary.LittleEndian.PutUint32(b[4:], tdx.REPORT_TYPE_TDX)
	copy(b[12:], vendor)
	copy(b[quoteUserData:], p.qeID)
	return b
}

// quoteBody takes a TDREPORT's fields over, in the quote's order.
func quoteBody(report []byte) []byte {
	b := make([]byte, 0, quoteBodySize)
	for _, f := range []struct{ at, n int }{
		{tcbInfo + tdx.TCB_INFO_SVN, 16},
		{tcbInfo + tdx.TCB_INFO_MRSEAM, 48},
		{tcbInfo + tdx.TCB_INFO_MRSIGNER, 48},
		{tcbInfo + tdx.TCB_INFO_ATTRIBUTES, 8},
		{tdInfo + tdx.TDINFO_ATTRIBUTES, 8},
		{tdInfo + tdx.TDINFO_XFAM, 8},
		{tdInfo + tdx.TDINFO_MRTD, 4 * 48}, // and MRCONFIGID, MROWNER, MROWNERCONFIG
		{tdInfo + tdx.TDINFO_RTMR, 4 * 48},
		{tdx.REPORT_DATA, 64},
	} {
		b = append(b, report[f.at:][:f.n]...)
	}
	return b
}

// enclaveReport is the quoting enclave's word for the attestation key.
func (p *Platform) enclaveReport(point []byte) []byte {
	b := make([]byte, enclaveSize)
	copy(b[enclaveCPUSVN:], svnCPU)
	b[enclaveAttributes] = enclaveInit64
	b[enclaveAttributes+8] = enclaveXFRM
	enclave := sha256.Sum256([]byte("Keel EMULATED quoting enclave"))
	copy(b[enclaveMRENCLAVE:], enclave[:])
	signer := enclaveSigner()
	copy(b[enclaveMRSIGNER:], signer[:])
	binary.LittleEndian.PutUint16(b[enclaveProductID:], productTDQE)
	binary.LittleEndian.PutUint16(b[enclaveSVN:], svnTDQE)
	h := sha256.New()
	h.Write(point)
	h.Write(p.authData)
	h.Sum(b[enclaveReportData:enclaveReportData])
	return b
}

// enclaveSigner is the MRSIGNER of the quoting enclave, a digest of no RSA key.
func enclaveSigner() [32]byte { return sha256.Sum256([]byte("Keel EMULATED, not Intel")) }

// rawSignature signs with ECDSA over P-256 and SHA-256: r and s, big endian.
func rawSignature(key *ecdsa.PrivateKey, message []byte) ([]byte, error) {
	r, s, err := sign(key, crypto.SHA256, message)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 64)
	for i, v := range []*big.Int{r, s} {
		v.FillBytes(b[32*i:][:32])
	}
	return b, nil
}

// rawPoint is x and y, big endian, without SEC 1's leading byte.
func rawPoint(key *ecdsa.PublicKey) ([]byte, error) {
	b, err := key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return b[1:], nil
}

package attest

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"

	"github.com/google/go-tdx-guest/abi"
)

// Sizes and offsets of a quote of version 4 (Intel TDX DCAP Quoting Library API, appendix
// A.3), in bytes.
const (
	quoteHeader     = 48
	quoteBody       = 584
	quoteSigned     = quoteHeader + quoteBody // then u32 size of what follows
	quoteAuth       = quoteSigned + 4
	authSignature   = 64
	authKey         = 64
	authCertified   = authSignature + authKey // u16 type, u32 size, QE report
	enclaveReport   = 384
	enclaveFlags    = 48 // in the enclave's report: ATTRIBUTES
	enclaveSigner   = 128
	enclaveProduct  = 256
	dataHeader      = 6 // u16 type, u32 size
	certifiesPCK    = 5
	certifiesQE     = 6
	maxChain        = 16 << 10
	enclaveDebug    = 1 << 1
	chainLength     = 3
	certificateType = "CERTIFICATE"
)

// quote is a quote whose sizes all fit, and what the library does not hand out.
type quote struct {
	raw     []byte // without what follows the quote
	enclave []byte
	chain   [chainLength]*x509.Certificate // leaf, CA, root
}

// parseQuote checks the structure to the last byte. The library slices by sizes that the
// quote gives, and would panic.
func parseQuote(b []byte) (*quote, error) {
	short := func(what string, want int) error {
		return fmt.Errorf("%w: %s of a quote needs %d bytes; fetch the evidence again", ErrTruncated, what, want)
	}
	wrong := func(what string) error {
		return fmt.Errorf("%w: %s of the quote; fetch the evidence again", ErrFormat, what)
	}
	le := binary.LittleEndian
	if len(b) < quoteAuth {
		return nil, short("the signed part", quoteAuth)
	}
	if v := le.Uint16(b); v != abi.QuoteVersion {
		return nil, fmt.Errorf("%w: a TDX quote of version %d; use a verifier that knows it", ErrVersion, v)
	}
	if le.Uint16(b[2:]) != abi.AttestationKeyType || le.Uint32(b[4:]) != abi.TeeTDX {
		return nil, fmt.Errorf("%w: a quote of key type %d and TEE %#x; use a verifier that knows them", ErrVersion, le.Uint16(b[2:]), le.Uint32(b[4:]))
	}
	size := uint64(le.Uint32(b[quoteSigned:]))
	if size > uint64(len(b)-quoteAuth) {
		return nil, short("the signature", int(min(size, 1<<30)))
	}
	// Linux hands out quotes in a buffer of zeros.
	end := quoteAuth + int(size)
	if rest := b[end:]; !bytes.Equal(rest, make([]byte, len(rest))) {
		return nil, wrong("bytes after the end")
	}
	q := &quote{raw: b[:end]}
	auth := b[quoteAuth:end]
	if len(auth) < authCertified+dataHeader {
		return nil, short("the signature", authCertified+dataHeader)
	}
	data, rest, err := certified(auth[authCertified:], certifiesQE)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, wrong("bytes after the certification data")
	}
	if len(data) < enclaveReport+authSignature+2 {
		return nil, short("the enclave's report", enclaveReport+authSignature+2)
	}
	q.enclave = data[:enclaveReport]
	data = data[enclaveReport+authSignature:]
	n := int(le.Uint16(data))
	if len(data) < 2+n+dataHeader {
		return nil, short("the certificate chain", 2+n+dataHeader)
	}
	chain, rest, err := certified(data[2+n:], certifiesPCK)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, wrong("bytes after the certificate chain")
	}
	return q, q.parseChain(chain)
}

// certified splits certification data of a type off.
func certified(b []byte, kind uint16) (data, rest []byte, err error) {
	if k := binary.LittleEndian.Uint16(b); k != kind {
		return nil, nil, fmt.Errorf("%w: certification data of type %d; have the host send type %d", ErrVersion, k, kind)
	}
	n := uint64(binary.LittleEndian.Uint32(b[2:]))
	if n > uint64(len(b)-dataHeader) {
		return nil, nil, fmt.Errorf("%w: certification data of %d bytes end after %d; fetch the evidence again", ErrTruncated, n, len(b)-dataHeader)
	}
	return b[dataHeader:][:n], b[dataHeader+n:], nil
}

// parseChain takes three certificates as PEM writes them, and nothing else: text that a PEM
// decoder skips could be changed without notice. A zero may end it, as in C.
func (q *quote) parseChain(text []byte) error {
	if len(text) > maxChain {
		return fmt.Errorf("%w: a certificate chain of %d bytes; at most %d are read", ErrSize, len(text), maxChain)
	}
	var canonical []byte
	rest := text
	for i := range q.chain {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != certificateType || len(block.Headers) != 0 {
			return fmt.Errorf("%w: %d certificates in the quote, wanted are PCK, CA and root; fetch the evidence again", ErrChain, i)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("%w: certificate %d of the quote: %w; fetch the evidence again", ErrChain, i, err)
		}
		q.chain[i] = c
		canonical = append(canonical, pem.EncodeToMemory(block)...)
	}
	text = bytes.TrimSuffix(text, []byte{0})
	if !bytes.Equal(text, canonical) && !bytes.Equal(text, bytes.TrimSuffix(canonical, []byte{'\n'})) {
		return fmt.Errorf("%w: stray bytes around the quote's certificates; fetch the evidence again", ErrChain)
	}
	return nil
}

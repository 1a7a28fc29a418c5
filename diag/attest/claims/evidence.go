package claims

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Kinds of evidence.
const (
	KindSNP = "snp"
	KindTDX = "tdx"
)

const (
	evidenceVersion = 1
	// MaxEvidence bounds evidence on its way, in bytes.
	MaxEvidence = 128 << 10
	maxReport   = 32 << 10
	maxTable    = 64 << 10
)

// Evidence is what a VM hands to a verifier.
type Evidence struct {
	Version      int    `json:"version"` // Marshal fills it in
	Kind         string `json:"kind"`    // KindSNP or KindTDX
	Report       []byte `json:"report"`  // SNP attestation report, or TDX quote
	Certificates []byte `json:"certificates,omitempty"`
	Claim        []byte `json:"claim"` // see Claim; the report data is its hash
}

// Marshal returns the evidence as JSON. Its errors are those of ParseEvidence.
func (e *Evidence) Marshal() ([]byte, error) {
	c := *e
	c.Version = evidenceVersion
	if err := c.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return b, nil
}

// ParseEvidence decodes evidence. Its errors are ErrVersion, ErrFormat and ErrSize.
func ParseEvidence(b []byte) (*Evidence, error) {
	if len(b) > MaxEvidence {
		return nil, fmt.Errorf("%w: evidence of %d bytes; at most %d are read", ErrSize, len(b), MaxEvidence)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%w: evidence: %w; fetch it again", ErrFormat, err)
	}
	if head.Version != evidenceVersion {
		return nil, fmt.Errorf("%w: evidence of version %d; use a verifier that knows it", ErrVersion, head.Version)
	}
	var e Evidence
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("%w: evidence: %w; fetch it again", ErrFormat, err)
	}
	return &e, e.check()
}

// check bounds the parts.
func (e *Evidence) check() error {
	switch {
	case e.Kind != KindSNP && e.Kind != KindTDX:
		return fmt.Errorf("%w: evidence of kind %.16q; %q and %q are known", ErrVersion, e.Kind, KindSNP, KindTDX)
	case len(e.Report) > maxReport || len(e.Certificates) > maxTable || len(e.Claim) > ClaimSize:
		return fmt.Errorf("%w: a report of %d bytes, certificates of %d, a claim of %d; at most %d, %d and %d are read",
			ErrSize, len(e.Report), len(e.Certificates), len(e.Claim), maxReport, maxTable, ClaimSize)
	}
	return nil
}

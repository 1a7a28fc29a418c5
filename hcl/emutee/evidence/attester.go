package evidence

import (
	"fmt"

	"keel/hcl"
	"keel/hcl/abi/snp"
)

// Secret is that of the one emulated machine that guests are run on. Like all that is
// signed and derived from it, it is public.
const Secret = "Keel's emulated machine"

// SNPAttester is an emulated AMD-SP as one guest's Keel, at VMPL0, sees it.
type SNPAttester struct {
	chip  *Chip
	guest SNPGuest
}

var _ hcl.Attester = (*SNPAttester)(nil)

// NewSNPAttester returns the attester of a guest on a machine.
func NewSNPAttester(chip *Chip, guest SNPGuest) *SNPAttester { return &SNPAttester{chip, guest} }

// Kind names the TEE.
func (*SNPAttester) Kind() string { return "snp" }

// Emulated says that it is none.
func (*SNPAttester) Emulated() bool { return true }

// Report returns an attestation report of VMPL0.
func (a *SNPAttester) Report(data [64]byte) ([]byte, error) {
	return a.chip.Report(&a.guest, &SNPRequest{Data: data, VMPL: snp.VMPL0, Requester: snp.VMPL0})
}

// Evidence returns such a report, with the chip's certificates.
func (a *SNPAttester) Evidence(data [64]byte) (report, certificates []byte, err error) {
	if report, err = a.Report(data); err != nil {
		return nil, nil, err
	}
	certificates, err = a.chip.Certificates()
	return report, certificates, err
}

// SealingKey derives a key from the machine, the guest's policy and its measurement.
func (a *SNPAttester) SealingKey() ([32]byte, error) {
	return a.chip.DeriveKey(&a.guest, &KeyRequest{
		Fields: SelectPolicy | SelectMeasurement, VMPL: snp.VMPL0, Requester: snp.VMPL0,
	})
}

// TDXAttester is an emulated TDX platform as one TD's Keel, at L1, sees it.
type TDXAttester struct {
	platform *Platform
	td       TD
}

var _ hcl.Attester = (*TDXAttester)(nil)

// NewTDXAttester returns the attester of a TD on a machine.
func NewTDXAttester(platform *Platform, td TD) *TDXAttester { return &TDXAttester{platform, td} }

// Kind names the TEE.
func (*TDXAttester) Kind() string { return "tdx" }

// Emulated says that it is none.
func (*TDXAttester) Emulated() bool { return true }

// Report returns a TDREPORT.
func (a *TDXAttester) Report(data [64]byte) ([]byte, error) {
	return a.platform.Report(&a.td, data), nil
}

// Evidence returns a quote, which has its certificates in it.
func (a *TDXAttester) Evidence(data [64]byte) (report, certificates []byte, err error) {
	report, err = a.platform.Quote(a.platform.Report(&a.td, data))
	return report, nil, err
}

// SealingKey is ErrRequest: a TDX module derives no keys.
func (*TDXAttester) SealingKey() ([32]byte, error) {
	return [32]byte{}, fmt.Errorf("%w: TDX derives no sealing keys", ErrRequest)
}

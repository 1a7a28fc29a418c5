package hcl

// Attester is the TEE's signature beneath what Keel says of itself. Its methods may be
// called from any goroutine.
type Attester interface {
	// Kind is "snp" or "tdx".
	Kind() string
	// Emulated says that no processor stands behind what is signed.
	Emulated() bool
	// Report returns a report over data for the guest's own tools: SNP's attestation
	// report, TDX's TDREPORT.
	Report(data [64]byte) ([]byte, error)
	// Evidence returns what convinces somebody outside of the VM: SNP's attestation
	// report or TDX's quote, and the certificates that go with it.
	Evidence(data [64]byte) (report, certificates []byte, err error)
	// SealingKey returns a key that this image, and no other, gets on this machine.
	SealingKey() ([32]byte, error)
}

// Package identity makes a TPM one of its own kind and brings it up at each boot, as a
// manufacturer and a platform's firmware do: PCR banks, protection against dictionary
// attacks, endorsement, attestation and storage keys at the usual handles, certificates
// at the usual NV indices, and in the end a platform hierarchy that the guest cannot
// use.
//
// Every step looks at what is there before it acts, so that a boot continues what a
// power failure interrupted, and the next one finds nothing to do. No key is chosen
// here: all come from seeds that the TPM made with its first state, so that no
// interruption can give a TPM two identities.
//
// Specifications: TCG TPM 2.0 Library 1.59; TCG EK Credential Profile 2.5; TCG TPM 2.0
// Provisioning Guidance 1.0; layout of Azure's virtual TPM.
package identity

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"keel/vtpm/eventlog"
)

// ErrProvision is the stage of bringing up a TPM.
var ErrProvision = errors.New("bringing up the TPM")

// Options are what Open needs besides the TPM.
type Options struct {
	// Issuer certifies new keys.
	Issuer Issuer
	// Reset gives the TPM a hardware reset (_TPM_Init): NV stays, no TPM2_Startup was
	// sent. It is called at most once.
	Reset func() error
	// Requests, if not nil, carries out what the guest asked of the firmware before it
	// rebooted (PPI), while the platform hierarchy is open. It returns whether the
	// TPM must be reset for it.
	Requests func(TPM) (reset bool, err error)
	// Report returns the first content of NV index IndexReport, made from the claims of
	// Platform.Claims; nil for one that claims no isolation.
	Report func(p *Platform) ([]byte, error)
	// Rand is the source of the platform's secret; nil for crypto/rand.
	Rand io.Reader
}

// Platform is the firmware's side of a TPM that was brought up. It is not safe for
// concurrent use.
type Platform struct {
	tpm    TPM
	rand   io.Reader
	auth   []byte // platformAuth
	locked bool

	maker    Maker
	banks    []eventlog.Algorithm
	indexMax int
	chunk    int // bytes of one NV read or write
	keys     map[uint32]crypto.PublicKey
	skipped  []string
}

// Open starts the TPM with TPM2_Startup(CLEAR) and brings it to the state in which a
// guest may have it, save for measurements and Lock. Its errors are ErrProvision with
// a Code, ErrTPM or ErrIssuer as the cause; the guest must not be started then.
//
// Preconditions: the TPM was reset, and nobody else sends commands.
func Open(tpm TPM, o Options) (*Platform, error) {
	p := &Platform{tpm: Resend(tpm), rand: o.Rand, keys: map[uint32]crypto.PublicKey{}}
	if p.rand == nil {
		p.rand = rand.Reader
	}
	steps := []struct {
		name string
		do   func(*Options) error
	}{
		{"TPM2_Startup", func(*Options) error { return startup(p.tpm) }},
		{"requests of the guest and PCR banks", p.prepare},
		{"properties", p.readProperties},
		{"dictionary attack parameters", p.protect},
		{"endorsement key RSA", p.provide(ekRSA)},
		{"endorsement key ECC", p.provide(ekECC)},
		{"attestation key", p.provide(ak)},
		{"storage root key", p.storageRoot},
		{"report", p.firstReport},
	}
	for _, s := range steps {
		if err := s.do(&o); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrProvision, s.name, err)
		}
	}
	return p, nil
}

// Banks returns the active PCR banks, sorted by number.
func (p *Platform) Banks() []eventlog.Algorithm { return slices.Clone(p.banks) }

// Maker returns what the TPM says of itself.
func (p *Platform) Maker() Maker { return p.maker }

// Key returns the public key that was made for a persistent handle and certified,
// nil where Open had no need to look at it or could not (see Skipped).
func (p *Platform) Key(handle uint32) crypto.PublicKey { return p.keys[handle] }

// Skipped returns what Open left undone because it is in the hands of the guest: keys
// of hierarchies whose authorization value the guest has set, handles that it uses
// for something else.
func (p *Platform) Skipped() []string { return slices.Clone(p.skipped) }

func (p *Platform) skip(format string, args ...any) {
	p.skipped = append(p.skipped, fmt.Sprintf(format, args...))
}

// platformAuthSize is the size of the platform's secret in bytes. At most the largest
// digest of the TPM is allowed.
const platformAuthSize = 32

// Lock takes the platform hierarchy from everybody but p, before the guest runs: it
// sets platformAuth to a secret, as EDK II and SeaBIOS do. The hierarchy stays enabled,
// so that p can refresh the report; disabling it would not hide more. A TPM reset
// empties platformAuth again, which is when requests of the guest are carried out;
// TPM2_Clear in the guest's hands leaves it alone. The lockout, owner and endorsement
// hierarchies are the guest's.
func (p *Platform) Lock() error {
	if p.locked {
		return nil
	}
	secret := make([]byte, platformAuthSize)
	if _, err := io.ReadFull(p.rand, secret); err != nil {
		return fmt.Errorf("%w: locking the platform hierarchy: %w", ErrProvision, err)
	}
	_, _, err := run(p.tpm, call{
		code: ccHierarchyChangeAuth, handles: []uint32{rhPlatform}, auth: &p.auth,
		params: appendSized(nil, secret),
	})
	if err != nil {
		return fmt.Errorf("%w: locking the platform hierarchy: %w", ErrProvision, err)
	}
	p.auth, p.locked = secret, true
	return nil
}

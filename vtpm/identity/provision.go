package identity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"keel/vtpm/eventlog"
)

// startupClear is the parameter of TPM2_Startup (TPM 2.0 Part 2, §6.10).
const startupClear = 0

// startup sends TPM2_Startup(CLEAR). It takes a TPM that is started already as started.
func startup(tpm TPM) error {
	_, _, err := run(tpm, call{code: ccStartup, params: be.AppendUint16(nil, startupClear)})
	if errors.Is(err, rcInitialize) {
		return nil
	}
	return err
}

// manufacturedBanks are the banks that a new TPM gets.
var manufacturedBanks = []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384}

// prepare does what needs the TPM to be reset: requests of the guest, and the PCR banks
// of a new TPM. Those of an old one are the guest's to choose.
func (p *Platform) prepare(o *Options) error {
	var reset bool
	var err error
	if o.Requests != nil {
		if reset, err = o.Requests(p.tpm); err != nil {
			return err
		}
	}
	made, err := nvReadPublic(p.tpm, IndexEKRSA)
	if err != nil {
		return err
	}
	fresh := !made.isOurs(attributesCertificate) || !made.complete()
	if fresh {
		allocated, err := p.allocateBanks()
		if err != nil {
			return err
		}
		reset = reset || allocated
	}
	if reset {
		if err := p.reset(o); err != nil {
			return err
		}
	}
	if p.banks, err = Banks(p.tpm); err != nil {
		return err
	}
	if len(p.banks) == 0 || fresh && !slices.Equal(p.banks, manufacturedBanks) {
		return fmt.Errorf("%w: the active PCR banks are %v", ErrTPM, p.banks)
	}
	return nil
}

// allocateBanks activates the banks of a new TPM and no others, from the next reset on.
// It returns whether there was anything to do.
func (p *Platform) allocateBanks() (bool, error) {
	banks, err := readBanks(p.tpm)
	if err != nil {
		return false, err
	}
	params := be.AppendUint32(nil, uint32(len(banks)))
	change := false
	for _, b := range banks {
		want := [3]byte{}
		if slices.Contains(manufacturedBanks, b.algorithm) {
			want = [3]byte{0xff, 0xff, 0xff}
		}
		change = change || b.selected != want
		params = be.AppendUint16(params, uint16(b.algorithm))
		params = append(append(params, uint8(len(want))), want[:]...)
	}
	if !change {
		return false, nil
	}
	_, r, err := run(p.tpm, call{code: ccPCRAllocate, handles: []uint32{rhPlatform}, auth: &p.auth, params: params})
	if err != nil {
		return false, err
	}
	if r.u8() == 0 {
		return false, fmt.Errorf("%w: it has no room for the PCR banks %v", ErrTPM, manufacturedBanks)
	}
	return true, nil
}

// reset resets the TPM in an orderly way, so that it does not count as a power failure.
func (p *Platform) reset(o *Options) error {
	if o.Reset == nil {
		return errors.New("the TPM must be reset, and Options.Reset is nil")
	}
	if _, _, err := run(p.tpm, call{code: ccShutdown, params: be.AppendUint16(nil, startupClear)}); err != nil {
		return err
	}
	if err := o.Reset(); err != nil {
		return err
	}
	p.auth = nil
	return startup(p.tpm)
}

func (p *Platform) readProperties(*Options) error {
	props, err := readProperties(p.tpm)
	if err != nil {
		return err
	}
	p.maker = props.maker()
	p.indexMax, p.chunk = int(props[ptNVIndexMax]), int(props[ptNVBufferMax])
	if p.indexMax < minIndex || p.indexMax > 0xffff || p.chunk < minIndex/2 {
		return fmt.Errorf("%w: NV indices of %d bytes, written by %d, do not suffice", ErrTPM, p.indexMax, p.chunk)
	}
	p.chunk = min(p.chunk, p.indexMax)
	if p.banks == nil {
		p.banks, err = Banks(p.tpm)
	}
	return err
}

// minIndex is the size in bytes that every PC Client TPM gives an NV index (PTP §4.7).
const minIndex = 1600

// protect sets the dictionary attack parameters where nobody has chosen others. With
// lockoutAuth set they are the guest's.
func (p *Platform) protect(*Options) error {
	props, err := readProperties(p.tpm)
	if err != nil {
		return err
	}
	chosen := props[ptMaxAuthFail] != engineMaxTries || props[ptLockoutInterval] != engineRecovery ||
		props[ptLockoutRecovery] != engineRecovery
	if chosen || props[ptPermanent]&permanentLockout != 0 {
		return nil
	}
	params := be.AppendUint32(nil, maxTries)
	params = be.AppendUint32(params, recoveryTime)
	params = be.AppendUint32(params, lockoutRecovery)
	_, _, err = run(p.tpm, call{code: ccDictionaryParameters, handles: []uint32{rhLockout}, auth: empty, params: params})
	return err
}

// certified is a key of the endorsement hierarchy that has a certificate.
type certified struct {
	name     string
	template template
	purpose  Purpose
	handle   uint32
	index    uint32
}

var (
	ekRSA = certified{"the endorsement key RSA", templateEKRSA, PurposeEK, HandleEKRSA, IndexEKRSA}
	ekECC = certified{"the endorsement key ECC", templateEKECC, PurposeEK, HandleEKECC, IndexEKECC}
	ak    = certified{"the attestation key", templateAK, PurposeAK, HandleAK, IndexAK}
)

// provide returns the step that makes a key persistent and stores its certificate.
//
// TPM2_Clear removes persistent objects, and the same key comes back at the next boot.
// TPM2_ChangeEPS makes a new identity; then the certificates are replaced.
func (p *Platform) provide(c certified) func(*Options) error {
	return func(o *Options) error {
		known, err := p.certificateKey(c)
		if err != nil {
			return err
		}
		present, err := readPublic(p.tpm, c.handle)
		if err != nil {
			return err
		}
		if known != nil && present != nil {
			if key, err := c.template.key(present); err == nil && sameKey(key, known) {
				p.keys[c.handle] = key
				return nil
			}
		}
		props, err := readProperties(p.tpm)
		if err != nil {
			return err
		}
		if props[ptPermanent]&permanentEndorse != 0 {
			p.skip("%s: the guest has set endorsementAuth", c.name)
			return nil
		}
		object, public, err := createPrimary(p.tpm, rhEndorsement, c.template)
		if err != nil {
			return err
		}
		err = p.settle(o, c, object, public, known, present, props)
		return errors.Join(err, flush(p.tpm, object))
	}
}

// settle stores the certificate of a key that was just made and persists it.
func (p *Platform) settle(o *Options, c certified, object uint32, public []byte, known crypto.PublicKey, present []byte, props properties) error {
	key, err := c.template.key(public)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTPM, err)
	}
	if known == nil || !sameKey(key, known) {
		req := Request{Purpose: c.purpose, Key: key, Public: public, Maker: p.maker}
		if c.purpose == PurposeAK {
			if req.EK, err = readPublic(p.tpm, HandleEKRSA); err != nil {
				return err
			}
		}
		der, err := issue(o.Issuer, req, p.indexMax)
		if err != nil {
			return err
		}
		if err := store(p.tpm, p.auth, c.index, der, p.chunk); err != nil {
			return err
		}
	}
	p.keys[c.handle] = key
	switch {
	case present == nil && props[ptPermanent]&permanentOwner != 0:
		p.skip("%s: the guest has set ownerAuth, handle %#x stays empty", c.name, c.handle)
		return nil
	case present == nil:
		return persist(p.tpm, object, c.handle)
	case !bytes.Equal(present, public):
		p.skip("%s: the guest uses handle %#x for another key", c.name, c.handle)
	}
	return nil
}

// certificateKey returns the key of a certificate that was stored completely, or nil.
func (p *Platform) certificateKey(c certified) (crypto.PublicKey, error) {
	public, err := nvReadPublic(p.tpm, c.index)
	if err != nil || !public.isOurs(attributesCertificate) || !public.complete() || public.size > maxCertificate {
		return nil, err
	}
	der, err := nvRead(p.tpm, c.index, public.size, p.chunk)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil // what cannot be read is issued again
	}
	return cert.PublicKey, nil
}

// storageRoot makes the SRK persistent where the owner has not taken over. It is RSA:
// Windows looks for an RSA-2048 key at this handle, go-tpm-tools replaces any other, and
// systemd and tpm2-tss use what is there.
func (p *Platform) storageRoot(*Options) error {
	found, err := hasHandle(p.tpm, HandleSRK)
	if err != nil || found {
		return err
	}
	props, err := readProperties(p.tpm)
	if err != nil {
		return err
	}
	if props[ptPermanent]&permanentOwner != 0 {
		p.skip("the storage root key: the guest has set ownerAuth")
		return nil
	}
	object, _, err := createPrimary(p.tpm, rhOwner, templateSRK)
	if err != nil {
		return err
	}
	return errors.Join(persist(p.tpm, object, HandleSRK), flush(p.tpm, object))
}

package command

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"keel/vtpm"
)

// Err says that a TPM refused a command, which none here should.
var Err = errors.New("a command failed")

// SelfTest is TPM2_SelfTest of everything (Library part 3 §10.2): tag, size, code, fullTest.
var SelfTest = []byte{0x80, 0x01, 0, 0, 0, 11, 0, 0, 0x01, 0x43, 1}

// recorder keeps the command that go-tpm sends.
type recorder struct{ command []byte }

var errRecorded = errors.New("only recorded")

func (r *recorder) Send(b []byte) ([]byte, error) {
	r.command = bytes.Clone(b)
	return nil, errRecorded
}

// record returns the bytes of a command.
func record[R any](c interface {
	Execute(t transport.TPM, s ...tpm2.Session) (R, error)
},
) ([]byte, error) {
	r := &recorder{}
	if _, err := c.Execute(r); !errors.Is(err, errRecorded) {
		return nil, fmt.Errorf("%w: %w", Err, err)
	}
	return r.command, nil
}

// Kit prepares a TPM for an operation, and knows how to undo it.
type Kit struct {
	TPM  transport.TPM
	undo []func() error
}

// Forget undoes everything, the last first.
func (k *Kit) Forget() error {
	var errs []error
	for i := range k.undo {
		errs = append(errs, k.undo[len(k.undo)-1-i]())
	}
	k.undo = nil
	return errors.Join(errs...)
}

// Send runs a command.
func (k *Kit) Send(command []byte) error {
	response, err := k.TPM.Send(command)
	if err == nil {
		err = vtpm.ResponseCode(response)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", Err, err)
	}
	return nil
}

// empty is a handle with an empty password.
func empty(h tpm2.TPMHandle) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)}
}

// DefineIndex makes an NV index for the owner.
func (k *Kit) DefineIndex(size uint16) (tpm2.NamedHandle, error) {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: empty(tpm2.TPMRHOwner),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: nvIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: size,
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTOrdinary, NoDA: true},
		}),
	}.Execute(k.TPM)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("%w: NV_DefineSpace: %w", Err, err)
	}
	k.undo = append(k.undo, func() error {
		index, err := indexOf(k.TPM)
		if err == nil {
			_, err = tpm2.NVUndefineSpace{AuthHandle: empty(tpm2.TPMRHOwner), NVIndex: index}.Execute(k.TPM)
		}
		return err
	})
	return indexOf(k.TPM)
}

// indexOf returns the NV index with its name, which the first write changes.
func indexOf(t transport.TPM) (tpm2.NamedHandle, error) {
	public, err := tpm2.NVReadPublic{NVIndex: nvIndex}.Execute(t)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("%w: NV_ReadPublic: %w", Err, err)
	}
	return tpm2.NamedHandle{Handle: nvIndex, Name: public.NVName}, nil
}

// parent loads a storage key.
func (k *Kit) parent() (tpm2.AuthHandle, error) {
	p, err := tpm2.CreatePrimary{PrimaryHandle: empty(tpm2.TPMRHOwner), InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(k.TPM)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("%w: CreatePrimary: %w", Err, err)
	}
	k.flushLater(p.ObjectHandle)
	return tpm2.AuthHandle{Handle: p.ObjectHandle, Name: p.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

func (k *Kit) flushLater(h tpm2.TPMHandle) {
	k.undo = append(k.undo, func() error {
		_, err := tpm2.FlushContext{FlushHandle: h}.Execute(k.TPM)
		return err
	})
}

// create returns the command that creates a key below a storage key.
func (k *Kit) create(template tpm2.TPMTPublic) ([]byte, error) {
	parent, err := k.parent()
	if err != nil {
		return nil, err
	}
	return record(tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template)})
}

// load creates a key and loads it.
func (k *Kit) load(template tpm2.TPMTPublic) (tpm2.AuthHandle, error) {
	parent, err := k.parent()
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	made, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template)}.Execute(k.TPM)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("%w: Create: %w", Err, err)
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(k.TPM)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("%w: Load: %w", Err, err)
	}
	k.flushLater(loaded.ObjectHandle)
	return tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

// sign returns the command that signs a digest with a new key.
func (k *Kit) sign(template tpm2.TPMTPublic, scheme tpm2.TPMTSigScheme) ([]byte, error) {
	key, err := k.load(template)
	if err != nil {
		return nil, err
	}
	return record(tpm2.Sign{
		KeyHandle: key, Digest: tpm2.TPM2BDigest{Buffer: bytes.Repeat([]byte{0x3C}, digestSize)}, InScheme: scheme,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	})
}

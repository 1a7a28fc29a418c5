package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"keel/vtpm"
)

// The sides of the comparison, and how many there are.
const (
	worker = iota
	swtpm
	sides
)

// sideNames say them to people.
var sideNames = [sides]string{"worker", "swtpm"}

// tpm is one side.
type tpm interface {
	transport.TPM
	// Reset takes the power away and gives it back.
	Reset(ctx context.Context) error
	// Pid returns the process ID of whoever runs commands.
	Pid() int
	Close()
}

// errCommand says that a TPM refused a command, which none here should.
var errCommand = errors.New("a command failed")

// powerOn does what firmware does with a TPM that has power. What the self-test leaves
// out, the first command of its kind would have to do.
func powerOn(t transport.TPM) error {
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(t); err != nil {
		return fmt.Errorf("%w: Startup: %w", errCommand, err)
	}
	k := kit{tpm: t}
	if err := k.send(selfTest); err != nil {
		return fmt.Errorf("SelfTest: %w", err)
	}
	return nil
}

// selfTest is TPM2_SelfTest of everything (Library part 3 §10.2): tag, size, code, fullTest.
var selfTest = []byte{0x80, 0x01, 0, 0, 0, 11, 0, 0, 0x01, 0x43, 1}

// powerOff shuts a TPM down and gives it power anew.
func powerOff(ctx context.Context, t tpm) error {
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(t); err != nil {
		return fmt.Errorf("%w: Shutdown: %w", errCommand, err)
	}
	return t.Reset(ctx)
}

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
		return nil, fmt.Errorf("%w: %w", errCommand, err)
	}
	return r.command, nil
}

// kit prepares a TPM for an operation, and knows how to undo it.
type kit struct {
	tpm  transport.TPM
	undo []func() error
}

// forget undoes everything, the last first.
func (k *kit) forget() error {
	var errs []error
	for i := range k.undo {
		errs = append(errs, k.undo[len(k.undo)-1-i]())
	}
	k.undo = nil
	return errors.Join(errs...)
}

// send runs a command.
func (k *kit) send(command []byte) error {
	response, err := k.tpm.Send(command)
	if err == nil {
		err = vtpm.ResponseCode(response)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errCommand, err)
	}
	return nil
}

// empty is a handle with an empty password.
func empty(h tpm2.TPMHandle) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)}
}

// defineIndex makes an NV index for the owner.
func (k *kit) defineIndex(size uint16) (tpm2.NamedHandle, error) {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: empty(tpm2.TPMRHOwner),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: nvIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: size,
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTOrdinary, NoDA: true},
		}),
	}.Execute(k.tpm)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("%w: NV_DefineSpace: %w", errCommand, err)
	}
	k.undo = append(k.undo, func() error {
		index, err := indexOf(k.tpm)
		if err == nil {
			_, err = tpm2.NVUndefineSpace{AuthHandle: empty(tpm2.TPMRHOwner), NVIndex: index}.Execute(k.tpm)
		}
		return err
	})
	return indexOf(k.tpm)
}

// indexOf returns the NV index with its name, which the first write changes.
func indexOf(t transport.TPM) (tpm2.NamedHandle, error) {
	public, err := tpm2.NVReadPublic{NVIndex: nvIndex}.Execute(t)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("%w: NV_ReadPublic: %w", errCommand, err)
	}
	return tpm2.NamedHandle{Handle: nvIndex, Name: public.NVName}, nil
}

// parent loads a storage key.
func (k *kit) parent() (tpm2.AuthHandle, error) {
	p, err := tpm2.CreatePrimary{PrimaryHandle: empty(tpm2.TPMRHOwner), InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(k.tpm)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("%w: CreatePrimary: %w", errCommand, err)
	}
	k.flushLater(p.ObjectHandle)
	return tpm2.AuthHandle{Handle: p.ObjectHandle, Name: p.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

func (k *kit) flushLater(h tpm2.TPMHandle) {
	k.undo = append(k.undo, func() error {
		_, err := tpm2.FlushContext{FlushHandle: h}.Execute(k.tpm)
		return err
	})
}

// create returns the command that creates a key below a storage key.
func (k *kit) create(template tpm2.TPMTPublic) ([]byte, error) {
	parent, err := k.parent()
	if err != nil {
		return nil, err
	}
	return record(tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template)})
}

// load creates a key and loads it.
func (k *kit) load(template tpm2.TPMTPublic) (tpm2.AuthHandle, error) {
	parent, err := k.parent()
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	made, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template)}.Execute(k.tpm)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("%w: Create: %w", errCommand, err)
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(k.tpm)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("%w: Load: %w", errCommand, err)
	}
	k.flushLater(loaded.ObjectHandle)
	return tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

// sign returns the command that signs a digest with a new key.
func (k *kit) sign(template tpm2.TPMTPublic, scheme tpm2.TPMTSigScheme) ([]byte, error) {
	key, err := k.load(template)
	if err != nil {
		return nil, err
	}
	return record(tpm2.Sign{
		KeyHandle: key, Digest: tpm2.TPM2BDigest{Buffer: bytes.Repeat([]byte{0x3C}, digestSize)}, InScheme: scheme,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	})
}

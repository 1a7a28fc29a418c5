package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/paravisor/config"
	"keel/paravisor/gueststate"
)

// tpmFlags are the flags of "keel run" that are about the guest's TPM.
type tpmFlags struct {
	front, state, key string
	seal              string
	reset             bool
}

// The values of --tpm-seal.
const (
	sealHostKey  = "host-key"
	sealHardware = "hardware"
)

// The values of --tpm.
const (
	tpmOff  = "off"
	tpmAuto = "auto" // CRB, which every guest of today has a driver for
	tpmCRB  = "crb"
	tpmTIS  = "tis"
)

// keySuffix makes the default name of the key's file.
const keySuffix = ".key"

// loadTPM checks the TPM that was asked for, nil for none, and adds its state to the disks.
func (f *runFlags) loadTPM(isolation config.Isolation) (*config.TPM, error) {
	t := &f.tpm
	if err := t.checkSeal(isolation); err != nil {
		return nil, err
	}
	if t.front == "" {
		t.front = tpmOff
		if t.state != "" {
			t.front = tpmAuto
		}
	}
	c := &config.TPM{Reset: t.reset, Hardware: t.seal == sealHardware}
	switch t.front {
	case tpmAuto, tpmCRB:
		c.Interface = config.TPMCRB
	case tpmTIS:
		c.Interface = config.TPMTIS
	case tpmOff:
		if t.state != "" || t.key != "" || t.reset {
			return nil, usage("--tpm off leaves no use for its state", "leave --tpm-state, --tpm-key and "+gueststate.ResetOption+" out")
		}
		return nil, nil
	default:
		return nil, usage(fmt.Sprintf("--tpm %q is unknown", t.front), "use off, auto, crb or tis")
	}
	f.TPM = true
	if t.state == "" {
		if t.key != "" || t.reset {
			return nil, usage("a key or a reset without a state", "name the state's file with --tpm-state")
		}
		return c, nil
	}
	state, err := filepath.Abs(t.state)
	if err != nil {
		return nil, err
	}
	if t.key == "" {
		t.key = state + keySuffix
	}
	if err := t.prepare(state); err != nil {
		return nil, err
	}
	if c.Hardware {
		err = t.lookAt(state)
	} else {
		c.Key, err = t.open(state)
	}
	if err != nil {
		return nil, err
	}
	f.Disks = append(f.Disks, qemu.Disk{Files: []string{state}, Hidden: true, Front: qemu.FrontVirtioSCSI, BlockSize: 512})
	return c, nil
}

// checkSeal refuses ways of sealing that cannot be.
func (t *tpmFlags) checkSeal(isolation config.Isolation) error {
	switch {
	case t.seal == "" || t.seal == sealHostKey:
		return nil
	case t.seal != sealHardware:
		return usage(fmt.Sprintf("--tpm-seal %q is unknown", t.seal), "use host-key or hardware")
	case t.state == "":
		return usage("--tpm-seal hardware without a state", "name the state's file with --tpm-state")
	case t.key != "":
		return usage("--tpm-seal hardware leaves no use for a key of the host's", "leave --tpm-key out")
	case isolation != config.IsolationSNP:
		return usage("--tpm-seal hardware without a TEE that derives keys", "use --isolation snp, or --tpm-seal host-key")
	}
	return nil
}

// lookAt checks a state disk whose key the host has not got.
func (t *tpmFlags) lookAt(state string) error {
	disk, err := gueststate.OpenFile(state, true)
	if err != nil {
		return err
	}
	defer disk.Close()
	if t.reset {
		return nil
	}
	_, err = gueststate.Inspect(disk, nil)
	return err
}

// prepare makes a state disk where there is none, if that was asked for.
func (t *tpmFlags) prepare(state string) error {
	_, err := os.Stat(state)
	if !errors.Is(err, fs.ErrNotExist) {
		return nil // what else is wrong shows when it is opened
	}
	if !t.reset {
		return badState("there is no "+state, "make an empty one with \"truncate -s 8M FILE\", or add "+gueststate.ResetOption, nil)
	}
	f, err := os.OpenFile(state, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(2*gueststate.MinDisk), f.Close())
	}
	if err != nil {
		return badState("cannot make the state disk", "name a file that can be written", err)
	}
	return nil
}

// open checks the state disk as the paravisor will, and returns its key.
func (t *tpmFlags) open(state string) ([]byte, error) {
	disk, err := gueststate.OpenFile(state, true)
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	key, err := readKey(t.key)
	if errors.Is(err, fs.ErrNotExist) {
		summary, err := gueststate.Inspect(disk, nil)
		if !t.reset && (err != nil || !summary.Empty) {
			return nil, errors.Join(err, badState("there is no key "+t.key, "name the key's file with --tpm-key", nil))
		}
		return newKey(t.key)
	}
	if err != nil {
		return nil, badState("the key "+t.key+" is of no use", "name its file with --tpm-key", err)
	}
	if t.reset {
		return key, nil
	}
	provider, err := gueststate.HostKey(key)
	if err != nil {
		return nil, err
	}
	_, err = gueststate.Inspect(disk, provider)
	return key, err
}

// newKey makes a key and keeps it in a file that only its owner reads.
func newKey(path string) ([]byte, error) {
	key := make([]byte, gueststate.KeyBytes)
	_, _ = rand.Read(key) // never fails
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "%x\n", key)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return nil, badState("cannot write the key", "name a file that can be written with --tpm-key", err)
	}
	return key, nil
}

func badState(cause, remedy string, err error) error {
	return &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: cause, Remedy: remedy, Err: err}
}

func usage(cause, remedy string) error {
	return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: cause, Remedy: remedy}
}

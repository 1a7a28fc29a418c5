package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"keel/boot/handoff"
	"keel/boot/qemu"
	"keel/paravisor/config"
	"keel/paravisor/gueststate"
)

// tpmFlags are the flags of "keel run" that are about the guest's TPM.
type tpmFlags struct {
	front, state, key string
	seal              string
	server, serverKey string // address and public key of the key server
	reset             bool
}

// The values of --tpm-seal.
const (
	sealHostKey  = "host-key"
	sealHardware = "hardware"
	sealReleased = "released"
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
	c := &config.TPM{Reset: t.reset}
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
	switch t.seal {
	case sealHardware:
		c.Seal, err = config.SealHardware, t.lookAt(state)
	case sealReleased:
		if c.Seal, err = config.SealReleased, t.lookAt(state); err == nil {
			c.KeyServer, err = readPublicKey(t.serverKey)
		}
		f.KeyServer = t.server
	default:
		c.Seal = config.SealHostKey
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
	hasServer := t.server != "" || t.serverKey != ""
	switch {
	case hasServer && t.seal != sealReleased:
		return usage("a key server that is asked for nothing", "add --tpm-seal released, or leave --key-server and --key-server-key out")
	case t.seal == "" || t.seal == sealHostKey:
		return nil
	case t.seal != sealHardware && t.seal != sealReleased:
		return usage(fmt.Sprintf("--tpm-seal %q is unknown", t.seal), "use host-key, hardware or released")
	case t.state == "":
		return usage("--tpm-seal "+t.seal+" without a state", "name the state's file with --tpm-state")
	case t.key != "":
		return usage("--tpm-seal "+t.seal+" leaves no use for a key of the host's", "leave --tpm-key out")
	case isolation == config.IsolationNone:
		return usage("--tpm-seal "+t.seal+" without a TEE", "add --isolation snp, or use --tpm-seal host-key")
	case t.seal == sealHardware && isolation != config.IsolationSNP:
		return usage("--tpm-seal hardware without a TEE that derives keys", "use --isolation snp, or --tpm-seal released or host-key")
	case t.seal == sealHardware:
		return nil
	case t.server == "" || t.serverKey == "":
		return usage("--tpm-seal released without a key server", "give its address with --key-server and its public key with --key-server-key")
	}
	_, _, err := handoff.ParseKeyServer(t.server)
	return err
}

// readPublicKey reads a key server's public key: hexadecimal digits, or a file with them.
func readPublicKey(s string) ([]byte, error) {
	digits := s
	if len(s) != 2*config.KeySize || !isHex(s) {
		const most = 1 << 10 // bytes
		f, err := os.Open(s)
		if err != nil {
			return nil, badPublicKey(err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, most))
		if err != nil {
			return nil, badPublicKey(err)
		}
		digits = strings.TrimSpace(string(b))
	}
	key, err := hex.DecodeString(digits)
	if err != nil || len(key) != config.KeySize {
		return nil, badPublicKey(fmt.Errorf("it has not %d hexadecimal digits", 2*config.KeySize))
	}
	return key, nil
}

// isHex tells whether a text has hexadecimal digits alone.
func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}

func badPublicKey(err error) error {
	return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "--key-server-key", Err: err, Remedy: "give what 'keel keyserver keygen' printed, or a file that has it"}
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

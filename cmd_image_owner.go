package main

import (
	"keel/boot/handoff"
	"keel/diag/owner"
	"keel/diag/owner/keyfile"
)

// ownerFlags are the flags that name the keys of an image's owner.
type ownerFlags struct{ recipient, signer string }

// keys returns the keys, none without flags.
func (f *ownerFlags) keys() (k owner.Keys, err error) {
	if f.recipient != "" {
		if k.Recipient, err = owner.ParseRecipient(f.recipient); err != nil {
			return k, &handoff.Failure{
				Outcome: handoff.OutcomeUsage, Cause: "--owner-recipient", Remedy: "give the public key that age-keygen prints", Err: err,
			}
		}
	}
	if f.signer != "" {
		if k.Signer, err = keyfile.Signer(f.signer); err != nil {
			return k, &handoff.Failure{
				Outcome: handoff.OutcomeUsage, Cause: "--owner-signer", Remedy: "give the .pub file that ssh-keygen -t ed25519 writes", Err: err,
			}
		}
	}
	return k, nil
}

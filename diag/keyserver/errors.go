package keyserver

import (
	"errors"
	"fmt"
)

// Errors of this package. Each comes with one line that tells the cause and what to do.
var (
	// ErrPolicy reports a policy that cannot be followed.
	ErrPolicy = errors.New("policy of the key server")
	// ErrKeys reports a folder of keys that is of no use.
	ErrKeys = errors.New("folder of keys")
	// ErrKeyFile reports a file of a VM's key, or of what was seen of its state, that is
	// damaged or of another VM. It stays as it is.
	ErrKeyFile = errors.New("key file")
	// ErrAllow reports an older state that cannot be allowed.
	ErrAllow = errors.New("cannot allow an older state")
	// ErrSigningKey reports a file that holds no usable signing key.
	ErrSigningKey = errors.New("signing key")
	// ErrListen reports an address on which nobody can listen.
	ErrListen = errors.New("cannot listen")
)

// Rules that are not in the policy's file, since no policy may go without them.
const (
	RuleVMs      = "vms"      // the VM is in the policy
	RuleEvidence = "evidence" // certificates, signatures and formats are right
	RuleNonce    = "nonce"    // it answers this exchange
	RulePurpose  = "purpose"  // it was made for a key server
	RuleKey      = "key"      // the state that is reported is sealed with the VM's key
	RuleRollback = "rollback" // that state is not older than one that was reported before
)

// Refusal is why a VM does not get its key, or must not use its state.
type Refusal struct {
	VM   string
	Rule string // a rule above, or a field of the policy's file
	Err  error  // cause and remedy
}

// Error says it in one line.
func (r *Refusal) Error() string {
	return fmt.Sprintf("rule %s for VM %q: %v", r.Rule, r.VM, r.Err)
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Package vtpm is the guest's TPM 2.0 as the rest of Keel meets it: commands go to a
// worker process, which holds the engine; what must outlive power goes to a store
// before the guest sees that its command succeeded.
//
// Specification: TCG Trusted Platform Module Library, family 2.0, revision 1.59;
// TCG PC Client Platform TPM Profile (PTP) 1.05.
package vtpm

// MaxBuffer is the size of the largest command and of the largest response, in
// bytes: the data buffer of the CRB interface (PTP §6.5.3).
const MaxBuffer = 3968

// Localities is how many localities there are, 0 to 4 (PTP §4.2).
const Localities = 5

// Transport carries commands to the TPM, one at a time. Its methods never wait for a
// command: VPs call them.
type Transport interface {
	// Submit starts a command that came in at a locality. The command is copied.
	// done is called exactly once, from another goroutine and with no lock of the
	// Transport's held, with a whole response, which is valid during the call only.
	// Where the TPM itself fails, the response carries TPM_RC_FAILURE. Submit
	// returns false, and calls nothing, while another command is under way.
	Submit(locality uint8, command []byte, done func(response []byte)) bool
	// Cancel asks the command under way, if there is one, to end early. It still
	// ends with a response: TPM_RC_CANCELED, or that of a command which was done.
	Cancel()
}

// Store keeps the state that outlives power. Both methods are called from one
// goroutine at a time.
type Store interface {
	// Load returns what was committed last, nil when there never was anything.
	Load() ([]byte, error)
	// Commit makes state durable: when it returns nil, a power failure at any later
	// moment leaves this state or one that was committed after it.
	Commit(state []byte) error
}

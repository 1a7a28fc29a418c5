// Package keyrelease is the protocol by which a confidential VM gets the key of its state
// from a server that trusts what the VM's evidence says. Both ends are here; what the
// server wants of evidence is not.
//
// Four messages over a stream that nobody needs to trust:
//
//	client  hello      version, public key for this one exchange, name of the VM
//	server  challenge  nonce of 32 bytes, new each time
//	client  evidence   its claim's nonce is the SHA-512 of all of that
//	server  release    the key, sealed for the client's public key (HPKE)
//	     or refusal    one line: which rule refuses, and what can be done
//
// With the same four messages a VM that has its key reports its state, before it uses it and
// from time to time, so that the server can refuse an older one later:
//
//	client  report     State, and evidence whose claim's nonce is the SHA-512 of hello,
//	                   challenge and State
//	server  accepted   from which sequence number on the VM has to count
//	     or refusal
//
// The evidence is bound to the client's key: whoever passes it on gets an answer that only
// the VM can open. The server may refuse instead of challenging. It signs each answer, with
// all that was said before (Ed25519), so that a VM that knows the server's key takes nobody
// else's word, nor an answer to somebody else.
//
// Specifications: RFC 9180 (HPKE: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM);
// RFC 8032 (Ed25519).
package keyrelease

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha512"
	"errors"
	"fmt"
)

// Errors of an exchange. Each comes with one line that tells the cause and what to do.
var (
	// ErrAbsent reports a server that cannot be reached, or leaves without an answer.
	ErrAbsent = errors.New("the key server is not there")
	// ErrSlow reports the other end not saying, or not taking, what is due in time.
	ErrSlow = errors.New("the other end is too slow")
	// ErrLying reports an answer that the server whose key is known has not given.
	ErrLying = errors.New("another key server answers")
	// ErrRefused reports that the server does not release the key.
	ErrRefused = errors.New("the key server refuses")
	// ErrMalformed reports bytes that are no message of this protocol, or none that is due.
	ErrMalformed = errors.New("malformed message")
	// ErrVersion reports a version of the protocol that this program does not speak.
	ErrVersion = errors.New("unknown version")
	// ErrEvidence reports that the VM has no evidence to show.
	ErrEvidence = errors.New("no evidence")
	// ErrUnusable reports a name or a key with which no exchange can begin: the caller's
	// own mistake.
	ErrUnusable = errors.New("unusable for a key server")
	// ErrGone reports, to a server, a client that has left.
	ErrGone = errors.New("the client has left")
)

// Sizes in bytes.
const (
	KeySize    = 32 // of what is released
	MaxName    = 63 // of a VM's name
	MaxReason  = 512
	nonceSize  = 32
	publicSize = 32 // X25519
	tagSize    = 16 // AES-GCM
)

// Instance stands in the claim where other evidence has the identity of the VM's TPM,
// which has no keys yet: EK and AK are zeros. Evidence that the VM makes for others, who
// choose its nonce, never has it. Without that difference whoever may ask the VM for
// evidence could have a key released to himself.
var Instance = [16]byte([]byte("KEEL KEY RELEASE"))

// What hashes, seals and signatures are for.
const (
	nonceLabel  = "keel key release 2 nonce\x00"
	reportLabel = "keel key release 2 report\x00"
	sealLabel   = "keel key release 2 seal\x00"
	answerLabel = "keel key release 2 answer\x00"
	keyLabel    = "keel key release 2 key\x00"
)

// suite returns the parts of HPKE.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.DHKEM(ecdh.X25519()), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// nonceFor is what a claim must carry: it binds evidence to the server's challenge, the key
// for which the answer will be sealed, the VM's name, and what the VM reports, if it does.
func nonceFor(challenge [nonceSize]byte, h *hello, reported *State) []byte {
	sum := sha512.New()
	if reported == nil {
		sum.Write([]byte(nonceLabel))
	} else {
		sum.Write([]byte(reportLabel))
		sum.Write(reported.marshal())
	}
	sum.Write(challenge[:])
	sum.Write(h.marshal()) // its end, the name, is the only part without a fixed size
	return sum.Sum(nil)
}

// CheckName refuses what is no name of a VM: 1 to MaxName letters, digits, dots, dashes
// and underscores, the first a letter or digit. Its error is ErrUnusable.
func CheckName(vm string) error {
	if len(vm) < 1 || len(vm) > MaxName {
		return fmt.Errorf("%w: a VM's name of %d bytes; use 1 to %d", ErrUnusable, len(vm), MaxName)
	}
	for i := range len(vm) {
		c := vm[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '-' && c != '_') {
			return fmt.Errorf("%w: the VM's name has the byte %#02x at %d; use letters, digits, dots, dashes and underscores", ErrUnusable, c, i)
		}
	}
	return nil
}

// Line makes a text fit for one line of a refusal or of a log: printable ASCII, and not
// more than MaxReason bytes.
func Line(s string) string {
	const more = "..."
	b := []byte(s)
	if len(b) > MaxReason {
		b = append(b[:MaxReason-len(more)], more...)
	}
	for i, c := range b {
		switch {
		case c == '\n' || c == '\t' || c == '\r':
			b[i] = ' '
		case c < 0x20 || c > 0x7e:
			b[i] = '?'
		}
	}
	return string(b)
}

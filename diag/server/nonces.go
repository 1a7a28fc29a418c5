package server

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"keel/diag/owner"
)

// Bounds of nonces.
const (
	maxNonces = 64 // that are known at a time; a new one takes the place of the oldest
	nonceLife = 2 * time.Minute
)

// Errors of take.
var (
	errNonce   = errors.New("its nonce is none of this VM's, or long forgotten")
	errUsed    = errors.New("its nonce was used before")
	errExpired = errors.New("its nonce is too old")
)

// nonces are those that were given out last. Whoever asks for many makes others' nonces
// be forgotten: that is one more way in which a host can deny a service that it carries.
type nonces struct {
	mu   sync.Mutex
	ring []issued
	next int // place of the next one, once all are taken
}

// issued is a nonce that was given out.
type issued struct {
	nonce owner.Nonce
	until time.Time
	used  bool
}

// give returns a new nonce.
func (n *nonces) give() owner.Nonce {
	i := issued{until: time.Now().Add(nonceLife)}
	_, _ = rand.Read(i.nonce[:]) // never fails
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.ring) < maxNonces {
		n.ring = append(n.ring, i)
		return i.nonce
	}
	n.ring[n.next] = i
	n.next = (n.next + 1) % maxNonces
	return i.nonce
}

// take takes a nonce back, once.
func (n *nonces) take(nonce owner.Nonce) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range n.ring {
		i := &n.ring[k]
		switch {
		case i.nonce != nonce:
			continue
		case i.used:
			return errUsed
		}
		i.used = true
		if time.Now().After(i.until) {
			return errExpired
		}
		return nil
	}
	return errNonce
}

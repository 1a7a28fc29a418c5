package paravisor

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/diag/attest/claims"
	"keel/diag/inspect"
	"keel/hcl"
	"keel/paravisor/gueststate"
	"keel/paravisor/keyrelease"
)

// heard is a key server's end that keeps what is reported.
type heard struct {
	t      *testing.T
	signer ed25519.PrivateKey
	claim  func(nonce []byte) []byte // that a report must come with
	refuse bool
	absent bool
	states []keyrelease.State
}

// dial is the VM's way to it. The exchange is over when the VM has its answer.
func (h *heard) dial(context.Context) (net.Conn, error) {
	if h.absent {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	go func() {
		defer b.Close()
		to, err := keyrelease.Hear(b, h.signer, time.Minute)
		if err != nil {
			h.t.Error(err)
			return
		}
		raw, nonce, err := to.Challenge()
		if err != nil || to.Reported == nil {
			h.t.Errorf("%v, reported %v", err, to.Reported)
			return
		}
		e, err := claims.ParseEvidence(raw)
		if err != nil || string(e.Claim) != string(h.claim(nonce)) {
			h.t.Errorf("another claim, %v", err)
		}
		if h.refuse {
			_ = to.Refuse("rule rollback; bring the newest back")
			return
		}
		h.states = append(h.states, *to.Reported)
		_ = to.Accept(7)
	}()
	return a, nil
}

// TestReporter: what was committed is reported, once, before the guest runs, while it does
// and at the end, in strict mode too. A server that refuses or is not there ends no run that
// has begun.
func TestReporter(t *testing.T) {
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := released(public)
	server := &heard{t: t, signer: signer, claim: func(nonce []byte) []byte {
		b, err := (&claims.Claim{Nonce: nonce, Config: sha256.Sum256(c.Canonical()), Instance: keyrelease.Instance}).Marshal()
		if err != nil {
			t.Error(err)
		}
		return b
	}}
	gate := hcl.NewGate(func(r hcl.HostRequest) { t.Errorf("%s ends the VM", hcl.HostTable[r].Name) })
	r := &reporter{
		client: &keyrelease.Client{
			VM: c.GuestName, Server: public, Patience: time.Minute,
			Evidence: func(nonce []byte) ([]byte, error) { return attestRelease(signedBy{}, c, nonce) },
		},
		dial: newKeyServer(server.dial, gate).report, key: [32]byte{9}, log: slog.New(slog.DiscardHandler),
	}
	now := gueststate.Mark{Sequence: 1, Header: [32]byte{1}}
	if floor, err := r.start(t.Context(), now); err != nil || floor != 7 {
		t.Fatalf("%d, %v", floor, err)
	}
	newest := func() gueststate.Mark { return now }
	if err := r.begin(t.Context(), newest); err != nil || len(server.states) != 1 {
		t.Errorf("%v, %d reports", err, len(server.states)) // nothing new
	}
	now.Sequence = 2
	if err := r.begin(t.Context(), newest); err != nil {
		t.Error(err)
	}
	gate.Running(true)
	tell := func(sequence uint64) {
		now.Sequence = sequence
		r.tell(t.Context())
	}
	tell(2)
	tell(3)
	tell(3)
	server.absent = true
	tell(4)
	tell(4)
	server.absent, server.refuse = false, true
	tell(4)
	server.refuse = false
	tell(5)
	want := []keyrelease.State{
		{Sequence: 1, Header: [32]byte{1}, Key: [32]byte{9}, Start: true},
		{Sequence: 2, Header: [32]byte{1}, Key: [32]byte{9}, Start: true},
		{Sequence: 3, Header: [32]byte{1}, Key: [32]byte{9}},
		{Sequence: 5, Header: [32]byte{1}, Key: [32]byte{9}},
	}
	if len(server.states) != len(want) {
		t.Fatalf("%v", server.states)
	}
	for i := range want {
		if server.states[i] != want[i] {
			t.Errorf("%v, want %v", server.states[i], want[i])
		}
	}
	root, err := inspect.Look(r, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := root.Plain(inspect.Public)
	fields, _ := all.(map[string]any)
	for name, n := range map[string]uint64{"sequence": 5, "accepted": 4, "lost": 2, "refused": 1} {
		if fields[name] != n {
			t.Errorf("%s is %v, want %d", name, fields[name], n)
		}
	}
	gate.Running(false)
	for _, refuse := range []bool{false, true} {
		server.refuse, server.absent = refuse, !refuse
		_, err := r.start(t.Context(), now)
		f, ok := errors.AsType[*handoff.Failure](err)
		if !ok || f.Outcome != handoff.OutcomeBadState || errors.Is(err, keyrelease.ErrRefused) != refuse {
			t.Errorf("%v", err)
		}
	}
}

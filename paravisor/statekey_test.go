package paravisor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"keel/boot/handoff"
	"keel/diag/attest/claims"
	"keel/paravisor/config"
	"keel/paravisor/gueststate"
	"keel/paravisor/keyrelease"
	"keel/translate/nvme/nvmetest"
)

// signedBy is a TEE whose report is what it vouches for: what a signature is worth, tests
// of the verifier show.
type signedBy struct{ broken error }

func (signedBy) Kind() string                           { return claims.KindSNP }
func (signedBy) Emulated() bool                         { return true }
func (s signedBy) Report(data [64]byte) ([]byte, error) { return data[:], s.broken }
func (s signedBy) SealingKey() ([32]byte, error)        { return [32]byte{1}, s.broken }

func (s signedBy) Evidence(data [64]byte) (report, _ []byte, _ error) { return data[:], nil, s.broken }

func released(server ed25519.PublicKey) *config.Config {
	return &config.Config{
		GuestName: "web", VPs: 1, Isolation: config.IsolationSNP,
		TPM: &config.TPM{StateSerial: "state", Seal: config.SealReleased, KeyServer: server},
	}
}

// TestReleasedKey has a key released. The claim says what the server must see: the
// configuration that names it, and that there is no TPM yet.
func TestReleasedKey(t *testing.T) {
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, key := released(public), bytes.Repeat([]byte{7}, keyrelease.KeySize)
	served := make(chan error, 1)
	dial := func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			served <- func() error {
				to, err := keyrelease.Hear(b, signer, time.Minute)
				if err != nil {
					return err
				}
				raw, nonce, err := to.Challenge()
				if err != nil {
					return err
				}
				e, err := claims.ParseEvidence(raw)
				if err != nil {
					return err
				}
				want, err := (&claims.Claim{Nonce: nonce, Config: sha256.Sum256(c.Canonical()), Instance: keyrelease.Instance}).Marshal()
				if data := claims.ReportData(want); err != nil || to.VM != "web" || !bytes.Equal(e.Claim, want) || !bytes.Equal(e.Report, data[:]) {
					return errors.New("another claim")
				}
				return to.Release(key)
			}()
		}()
		return a, nil
	}
	provider, reports, err := stateKey(t.Context(), c, signedBy{}, newKeyServer(dial, nil), slog.Default())
	if err != nil || <-served != nil || reports == nil || reports.key != keyrelease.KeyID(key) {
		t.Fatal(err)
	}
	got, err := provider.Key(gueststate.Hint{})
	if provider.Name() != gueststate.ReleasedKeyName || !bytes.Equal(got, key) || err != nil {
		t.Errorf("%s, %x, %v", provider.Name(), got, err)
	}
}

// TestVerifiersClaim: what a VM without a TPM says to a verifier, who chose the nonce, is
// not what it says to a key server.
func TestVerifiersClaim(t *testing.T) {
	c, nonce := released(make([]byte, config.KeySize)), make([]byte, 64)
	for name, instance := range map[string]struct {
		evidence func() ([]byte, error)
		release  bool
	}{
		"verifier": {func() ([]byte, error) {
			return (&keel{config: c, tee: signedBy{}, machine: &machine{}}).attest(t.Context(), nonce)
		}, false},
		"key server": {func() ([]byte, error) { return attestRelease(signedBy{}, c, nonce) }, true},
	} {
		raw, err := instance.evidence()
		if err != nil {
			t.Fatal(err)
		}
		e, err := claims.ParseEvidence(raw)
		if err != nil {
			t.Fatal(err)
		}
		claim, err := claims.ParseClaim(e.Claim)
		if err != nil || (claim.Instance == keyrelease.Instance) != instance.release {
			t.Errorf("%s: instance %x, %v", name, claim.Instance, err)
		}
	}
}

// TestStateUntouched: what the key server does not release leaves the state disk as it is,
// also where the state was to be given up.
func TestStateUntouched(t *testing.T) {
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(do func(*keyrelease.Conversation)) dialer {
		return func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				defer b.Close()
				if to, err := keyrelease.Hear(b, signer, time.Minute); err == nil {
					do(to)
				}
			}()
			return a, nil
		}
	}
	// One that releases, and answers what is reported.
	answers := func(first byte, reported func(*keyrelease.Conversation)) dialer {
		return answer(func(to *keyrelease.Conversation) {
			switch _, _, err := to.Challenge(); {
			case err != nil:
			case to.Reported != nil:
				reported(to)
			default:
				_ = to.Release(bytes.Repeat([]byte{first}, keyrelease.KeySize))
			}
		})
	}
	accept := func(to *keyrelease.Conversation) { _ = to.Accept(0) }
	releases := func(first byte) dialer { return answers(first, accept) }
	b := &bays{plugged: map[string]*nvmetest.Controller{}, instance: map[string]uint64{}}
	disk := b.plug(t, "0000:00:00.0", "state", gueststate.MinDisk/512)
	log := slog.New(slog.DiscardHandler)
	ctls := newControllers(b, 1, log)
	defer ctls.close()
	open := func(c *config.Config, dial dialer) (*gueststate.Store, error) {
		t.Helper()
		store, _, err := openState(t.Context(), c, signedBy{}, newKeyServer(dial, nil), ctls, log)
		return store, err
	}
	store, err := open(released(public), releases(1))
	if err != nil || store.Commit([]byte("secret")) != nil {
		t.Fatal(err)
	}
	before := disk.Data(1)
	for name, dial := range map[string]dialer{
		"no way": nil, "absent": func(context.Context) (net.Conn, error) { return nil, errors.New("refused") },
		"refused":      answer(func(to *keyrelease.Conversation) { _ = to.Refuse("rule vms; add it") }),
		"leaves":       answer(func(*keyrelease.Conversation) {}),
		"another key":  releases(2),
		"older":        answers(1, func(to *keyrelease.Conversation) { _ = to.Refuse("rule rollback; bring the newest back") }),
		"does not say": answers(1, func(*keyrelease.Conversation) {}),
	} {
		for _, reset := range []bool{false, true} {
			if reset && name == "another key" {
				continue // a reset yields to whatever key the server has
			}
			c := released(public)
			c.TPM.Reset = reset
			store, err := open(c, dial)
			if f, ok := errors.AsType[*handoff.Failure](err); !ok || store != nil || f.Outcome != handoff.OutcomeBadState {
				t.Errorf("%s: %v", name, err)
			}
			if !bytes.Equal(disk.Data(1), before) {
				t.Fatalf("%s, reset %t: the state was changed", name, reset)
			}
		}
	}
	store, err = open(released(public), releases(1))
	if err != nil {
		t.Fatal(err)
	}
	if content, err := store.Load(); err != nil || string(content) != "secret" {
		t.Errorf("%q, %v", content, err)
	}
}

// TestStateKeyRefused wants each failure to end the run for the state's sake, in one line.
func TestStateKeyRefused(t *testing.T) {
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, liar, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(signer ed25519.PrivateKey) dialer {
		return func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				defer b.Close()
				to, _ := keyrelease.Hear(b, signer, time.Minute)
				_ = to.Refuse("rule debug; launch it without")
			}()
			return a, nil
		}
	}
	releases := func(key []byte) dialer {
		return func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				defer b.Close()
				to, _ := keyrelease.Hear(b, signer, time.Minute)
				if _, _, err := to.Challenge(); err == nil {
					_ = to.Release(key)
				}
			}()
			return a, nil
		}
	}
	silent := func(context.Context) (net.Conn, error) { a, _ := net.Pipe(); return a, nil }
	for name, test := range map[string]struct {
		dial  dialer
		tee   signedBy
		spoil func(*config.Config)
		want  error
	}{
		"no way":     {want: errNoWay},
		"absent":     {dial: func(context.Context) (net.Conn, error) { return nil, errors.New("connection refused") }, want: keyrelease.ErrAbsent},
		"slow":       {dial: silent, want: keyrelease.ErrSlow},
		"lying":      {dial: refuses(liar), want: keyrelease.ErrLying},
		"refused":    {dial: refuses(signer), want: keyrelease.ErrRefused},
		"broken TEE": {dial: releases(make([]byte, 32)), tee: signedBy{errors.New("no TEE")}, want: keyrelease.ErrEvidence},
		"zero key":   {dial: releases(make([]byte, 32))},
		"bad name":   {dial: silent, spoil: func(c *config.Config) { c.GuestName = "a b" }, want: keyrelease.ErrUnusable},
		"hardware":   {tee: signedBy{errNoWay}, spoil: func(c *config.Config) { c.TPM.Seal = config.SealHardware }, want: errNoWay},
		"host key":   {spoil: func(c *config.Config) { c.TPM.Seal = config.SealHostKey }},
		"none":       {spoil: func(c *config.Config) { c.TPM.Seal = config.SealNone }},
	} {
		t.Run(name, func(t *testing.T) {
			c := released(public)
			if test.spoil != nil {
				test.spoil(c)
			}
			wait := 10 * time.Second
			if name == "slow" {
				wait = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			provider, _, err := stateKey(ctx, c, test.tee, newKeyServer(test.dial, nil), slog.Default())
			f, ok := errors.AsType[*handoff.Failure](err)
			if !ok || provider != nil || f.Outcome.ExitCode() != 16 || test.want != nil && !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, "; ") {
				t.Errorf("%q is not one line with a remedy", s)
			}
		})
	}
}

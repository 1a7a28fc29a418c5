package identity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"keel/vtpm/identity/identitytest"
)

// TestIdempotent boots again: the identity is the same, and no key is made.
func TestIdempotent(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	boot(t, tpm)
	want := identityOf(t, tpm)
	report, _ := nvRead(tpm, IndexReport, 2048, 1024)
	for range 2 {
		codes := map[uint32]int{}
		tpm.After = func(command, _ []byte) { codes[be.Uint32(command[6:])]++ }
		reboot(t, tpm)
		tpm.After = nil
		for _, cc := range []uint32{ccCreatePrimary, ccEvictControl, ccNVDefineSpace, ccNVWrite, ccNVUndefineSpace, ccPCRAllocate, ccDictionaryParameters} {
			if codes[cc] != 0 {
				t.Errorf("command %#x was sent %d times", cc, codes[cc])
			}
		}
		sameIdentity(t, identityOf(t, tpm), want)
		if again, _ := nvRead(tpm, IndexReport, 2048, 1024); !bytes.Equal(again, report) {
			t.Error("the report differs")
		}
	}
}

// TestInterrupted cuts the power after each command of the manufacture that changed the
// state, and boots again.
func TestInterrupted(t *testing.T) {
	type moment struct {
		after uint32
		state []byte
	}
	var moments []moment
	tpm := identitytest.Start(t, nil)
	seen := map[[32]byte]bool{}
	tpm.After = func(command, _ []byte) {
		state := tpm.State()
		if sum := sha256.Sum256(state); !seen[sum] {
			seen[sum] = true
			moments = append(moments, moment{be.Uint32(command[6:]), state})
		}
	}
	boot(t, tpm)
	tpm.After = nil
	want := identityOf(t, tpm)
	if len(moments) < 20 {
		t.Fatalf("only %d commands changed the state", len(moments))
	}
	t.Logf("%d moments in %d commands", len(moments), tpm.Sent)
	for i, m := range moments {
		if testing.Short() && i%4 != 0 {
			continue
		}
		again := identitytest.Start(t, m.state)
		p := boot(t, again)
		if len(p.Skipped()) != 0 {
			t.Errorf("power failure %d, after command %#x: skipped %v", i, m.after, p.Skipped())
		}
		if got := identityOf(t, again); len(got) == len(want) {
			sameIdentity(t, got, want)
		}
		again.Close()
		if t.Failed() {
			t.Fatalf("power failure %d, after command %#x", i, m.after)
		}
	}
}

// TestClear: after TPM2_Clear the next boot brings everything back; the storage root key
// alone is another one.
func TestClear(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	boot(t, tpm)
	before := identityOf(t, tpm)
	clearTPM(t, tpm)
	if public, err := readPublic(tpm, HandleAK); err != nil || public != nil {
		t.Fatalf("TPM2_Clear left the AK, %v", err)
	}
	reboot(t, tpm)
	after := identityOf(t, tpm)
	if bytes.Equal(after[HandleSRK], before[HandleSRK]) {
		t.Error("the storage root key is the same as before")
	}
	delete(before, HandleSRK)
	sameIdentity(t, after, before)
}

// TestOwned: what the guest has taken over stays its own, and does not stop a boot.
func TestOwned(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	boot(t, tpm)
	want := identityOf(t, tpm)
	const ccDA = ccDictionaryParameters
	must(t, tpm, call{code: ccDA, handles: []uint32{rhLockout}, auth: empty, params: []byte{0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7}})
	evict(t, tpm, HandleEKECC)
	evict(t, tpm, HandleSRK)
	setAuth(t, tpm, rhOwner, "owner")
	setAuth(t, tpm, rhEndorsement, "endorsement")
	setAuth(t, tpm, rhLockout, "lockout")
	p := reboot(t, tpm)
	if got := strings.Join(p.Skipped(), "; "); !strings.Contains(got, "key ECC") || !strings.Contains(got, "storage root") || len(p.Skipped()) != 2 {
		t.Errorf("skipped %q", got)
	}
	props, err := readProperties(tpm)
	if err != nil || props[ptMaxAuthFail] != 5 || props[ptLockoutInterval] != 6 || props[ptLockoutRecovery] != 7 {
		t.Errorf("the guest's dictionary attack parameters are gone: %v", err)
	}
	if got, _ := readPublic(tpm, HandleAK); !bytes.Equal(got, want[HandleAK]) {
		t.Error("the AK has changed")
	}
}

// TestSquatters: a key of the guest's at the AK's handle is neither certified nor
// destroyed, and an index of the owner's with the number of the AK's certificate
// gives way.
func TestSquatters(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	boot(t, tpm)
	want := identityOf(t, tpm)
	evict(t, tpm, HandleAK)
	object, public, err := createPrimary(tpm, rhOwner, templateAK) // the same kind, another seed
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(persist(tpm, object, HandleAK), flush(tpm, object)); err != nil {
		t.Fatal(err)
	}
	p := reboot(t, tpm)
	if len(p.Skipped()) != 1 || !strings.Contains(p.Skipped()[0], "0x81000003") {
		t.Errorf("skipped %v", p.Skipped())
	}
	got := identityOf(t, tpm)
	if !bytes.Equal(got[HandleAK], public) || !bytes.Equal(got[IndexAK], want[IndexAK]) {
		t.Error("the guest's key is gone, or the certificate is another")
	}

	tpm = identitytest.Start(t, nil)
	must(t, tpm, call{code: ccStartup, params: []byte{0, startupClear}})
	owners := appendSized([]byte{0, 0}, []byte{0x01, 0xc1, 0x01, 0xd0, 0, algSHA256, 0, 6, 0, 6, 0, 0, 0, 16})
	must(t, tpm, call{code: ccNVDefineSpace, handles: []uint32{rhOwner}, auth: empty, params: owners})
	must(t, tpm, call{code: ccNVWrite, handles: []uint32{rhOwner, IndexAK}, auth: empty, params: be.AppendUint16(appendSized(nil, make([]byte, 16)), 0)})
	reboot(t, tpm)
	identityOf(t, tpm)
}

// TestNewSeed: after TPM2_ChangeEPS the certificates are for the new keys.
func TestNewSeed(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	p := boot(t, tpm)
	before := identityOf(t, tpm)
	const ccChangeEPS = 0x124
	must(t, tpm, call{code: ccChangeEPS, handles: []uint32{rhPlatform}, auth: &p.auth})
	reboot(t, tpm)
	after := identityOf(t, tpm)
	for index, c := range indices {
		if bytes.Equal(after[index], before[index]) || bytes.Equal(after[c.handle], before[c.handle]) {
			t.Errorf("%s is the old one", c.name)
		}
		if key, err := c.template.key(after[c.handle]); err != nil || !sameKey(key, certificate(t, after[index]).PublicKey) {
			t.Errorf("%s has another key than its certificate", c.name)
		}
	}
}

// TestRequests: requests of the guest run once, with the platform hierarchy open, and
// the reset that they ask for is given.
func TestRequests(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	boot(t, tpm)
	must(t, tpm, call{code: ccShutdown, params: []byte{0, startupClear}})
	if err := tpm.Reset(); err != nil {
		t.Fatal(err)
	}
	requests, resets := 0, 0
	const ccClear = 0x126
	_, err := Open(tpm, Options{
		Issuer: testCA(t),
		Reset:  func() error { resets++; return tpm.Reset() },
		Requests: func(m TPM) (bool, error) {
			requests++
			must(t, m, call{code: ccClear, handles: []uint32{rhPlatform}, auth: empty})
			return true, nil
		},
	})
	if err != nil || requests != 1 || resets != 1 {
		t.Errorf("%d requests, %d resets, %v", requests, resets, err)
	}
	identityOf(t, tpm)
}

// TestIssuers: a CA that fails, or certifies something else, leaves nothing behind.
func TestIssuers(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	ca := testCA(t)
	for name, bad := range map[string]Issuer{
		"fails":       issuer(func(Request) ([]byte, error) { return nil, errors.New("no") }),
		"nonsense":    issuer(func(Request) ([]byte, error) { return []byte("nonsense"), nil }),
		"other key":   issuer(func(Request) ([]byte, error) { return ca.Certificate().Raw, nil }),
		"much to say": issuer(func(Request) ([]byte, error) { return make([]byte, 3000), nil }),
	} {
		if _, err := Open(tpm, Options{Issuer: bad, Reset: tpm.Reset}); !errors.Is(err, ErrIssuer) || !errors.Is(err, ErrProvision) {
			t.Errorf("%s: %v", name, err)
		}
		if p, err := nvReadPublic(tpm, IndexEKRSA); p != nil || err != nil {
			t.Errorf("%s: the index is %+v, %v", name, p, err)
		}
	}
	boot(t, tpm)
}

type issuer func(Request) ([]byte, error)

func (f issuer) Issue(r Request) ([]byte, error) { return f(r) }

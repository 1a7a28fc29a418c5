package keyrelease

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"keel/diag/attest/claims"
	"keel/diag/keyserver"
	"keel/hcl/emutee/evidence"
	"keel/paravisor/keyrelease"

	abi "keel/hcl/abi/snp"
)

// TestRules breaks one rule at a time, and wants it named. No key is made for a VM that is
// refused.
func TestRules(t *testing.T) {
	for name, test := range map[string]struct {
		vm    func(*vm)
		entry func(entry)
		rule  string
	}{
		"unknown VM":          {func(v *vm) { v.name = "nobody" }, nil, "rule vms"},
		"other image":         {func(v *vm) { v.guest.Measurement[3]++ }, nil, "rule measurements.snp"},
		"other image, TDX":    {func(v *vm) { v.kind = claims.KindTDX; v.td.MRTD[3]++ }, nil, "rule measurements.tdx"},
		"other kind of TEE":   {func(v *vm) { v.kind = claims.KindTDX }, func(e entry) { delete(e["measurements"].(map[string][]string), "tdx") }, "rule measurements.tdx"},
		"emulated":            {nil, func(e entry) { delete(e, "allow_emulated") }, "rule allow_emulated"},
		"emulated, TDX":       {func(v *vm) { v.kind = claims.KindTDX }, func(e entry) { delete(e, "allow_emulated") }, "rule allow_emulated"},
		"debug":               {func(v *vm) { v.guest.Policy |= abi.POLICY_DEBUG }, nil, "rule allow_debug"},
		"debug, TDX":          {func(v *vm) { v.kind = claims.KindTDX; v.td.Attributes |= evidence.AttributeDebug }, nil, "rule allow_debug"},
		"old firmware":        {nil, func(e entry) { e["min_tcb"] = map[string]string{"snp": "d416000000000004"} }, "rule min_tcb"},
		"old firmware, TDX":   {func(v *vm) { v.kind = claims.KindTDX }, func(e entry) { e["min_tcb"] = map[string]string{"tdx": "ff000200000000000000000000000000"} }, "rule min_tcb"},
		"other configuration": {func(v *vm) { v.claim.Config[0]++ }, func(e entry) { e["configurations"] = []string{hex.EncodeToString(configuration[:])} }, "rule configurations"},
		"migration agent":     {func(v *vm) { v.guest.Policy |= abi.POLICY_MIGRATE_MA }, nil, "rule evidence"},
		// What the VM says to others, who choose its nonce, is good for nothing here.
		"for a verifier": {func(v *vm) {
			sum := sha256.Sum256(append([]byte("keel instance "), make([]byte, 32)...))
			v.claim.Instance = [16]byte(sum[:])
		}, nil, "rule purpose"},
		"with a TPM's EK": {func(v *vm) { v.claim.EK[0] = 1 }, nil, "rule purpose"},
		"with a TPM's AK": {func(v *vm) { v.claim.AK[0] = 1 }, nil, "rule purpose"},
	} {
		t.Run(name, func(t *testing.T) {
			e, v := entryOf("web"), newVM(t, "web")
			if test.entry != nil {
				test.entry(e)
			}
			if test.vm != nil {
				test.vm(v)
			}
			keys := folder(t)
			l, dial := tcp(t)
			s := start(t, keys, l, dial, parsePolicy(t, e), nil)
			key, err := v.ask(s.dial)
			if key != nil {
				t.Errorf("key %x", key)
			}
			oneLine(t, err, keyrelease.ErrRefused, test.rule)
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if got := s.Stats(); got.Refused != 1 || got.Created != 0 {
				t.Errorf("%+v", got)
			}
			if log := s.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, strings.Replace(test.rule, "rule ", "rule=", 1)) || !strings.Contains(log, "vm="+v.name) {
				t.Errorf("log %q", log)
			}
			if left := must[[]os.DirEntry](t)(os.ReadDir(keys)); len(left) != 0 {
				t.Errorf("the folder has %v", left)
			}
		})
	}
}

// TestAllowed: what the rules are there to allow.
func TestAllowed(t *testing.T) {
	e, v := entryOf("web"), newVM(t, "web")
	e["allow_debug"], e["configurations"] = true, []string{hex.EncodeToString(configuration[:])}
	v.guest.Policy |= abi.POLICY_DEBUG
	if key, err := v.ask(serve(t, e).dial); err != nil || len(key) != keyrelease.KeySize {
		t.Errorf("%x, %v", key, err)
	}
}

// TestReplayed sends evidence that was good once more.
func TestReplayed(t *testing.T) {
	s, v := serve(t, entryOf("web")), newVM(t, "web")
	var good []byte
	c := v.client()
	c.Evidence = func(nonce []byte) (b []byte, err error) {
		good, err = v.evidence(nonce)
		return good, err
	}
	if _, err := c.Release(t.Context(), s.dial); err != nil {
		t.Fatal(err)
	}
	c.Evidence = func([]byte) ([]byte, error) { return good, nil }
	_, err := c.Release(t.Context(), s.dial)
	oneLine(t, err, keyrelease.ErrRefused, "rule nonce")
}

// TestBroken sends what is no evidence.
func TestBroken(t *testing.T) {
	s, v := serve(t, entryOf("web")), newVM(t, "web")
	good := func(nonce []byte) []byte { return must[[]byte](t)(v.evidence(nonce)) }
	for name, spoil := range map[string]func([]byte) []byte{
		"nothing":         func([]byte) []byte { return []byte("{}") },
		"no JSON":         func([]byte) []byte { return []byte("\x00\x1b[2J") },
		"truncated":       func(n []byte) []byte { b := good(n); return b[:len(b)/2] },
		"unknown version": func(n []byte) []byte { return bytes.Replace(good(n), []byte(`"version":1`), []byte(`"version":9`), 1) },
		"unknown kind": func(n []byte) []byte {
			return bytes.Replace(good(n), []byte(`"kind":"snp"`), []byte(`"kind":"sgx"`), 1)
		},
		"another claim": func(n []byte) []byte {
			e := must[*claims.Evidence](t)(claims.ParseEvidence(good(n)))
			e.Claim[0xb0] ^= 1
			return must[[]byte](t)(e.Marshal())
		},
		"signature": func(n []byte) []byte {
			e := must[*claims.Evidence](t)(claims.ParseEvidence(good(n)))
			e.Report[0x2a0] ^= 1
			return must[[]byte](t)(e.Marshal())
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := v.client()
			c.Evidence = func(nonce []byte) ([]byte, error) { return spoil(nonce), nil }
			_, err := c.Release(t.Context(), s.dial)
			oneLine(t, err, keyrelease.ErrRefused, "rule evidence")
		})
	}
}

// Places in the messages (paravisor/keyrelease/message.go).
const (
	headerSize = 12
	publicSize = 32
	helloSize  = headerSize + publicSize + len("web")
)

// TestSwappedKey has somebody between VM and server who puts his own key in the VM's place:
// the evidence is of another channel then.
func TestSwappedKey(t *testing.T) {
	s, v := serve(t, entryOf("web")), newVM(t, "web")
	between := func(ctx context.Context) (net.Conn, error) {
		c, err := s.dial(ctx)
		return &swap{Conn: c, at: headerSize}, err
	}
	_, err := v.ask(between)
	oneLine(t, err, keyrelease.ErrLying) // the refusal was signed for the other channel
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.Refused != 1 || got.Released != 0 || !strings.Contains(s.log.String(), "rule=nonce") {
		t.Errorf("%+v, %s", got, s.log)
	}
}

// TestOtherName has the key of another VM asked for with this VM's evidence.
func TestOtherName(t *testing.T) {
	s, v := serve(t, entryOf("web"), entryOf("wea")), newVM(t, "web")
	between := func(ctx context.Context) (net.Conn, error) {
		c, err := s.dial(ctx)
		return &swap{Conn: c, at: helloSize - 1, with: 'b' ^ 'a'}, err
	}
	_, err := v.ask(between)
	oneLine(t, err, keyrelease.ErrLying)
	if err := s.stop(); err != nil || !strings.Contains(s.log.String(), "vm=wea") || !strings.Contains(s.log.String(), "rule=nonce") {
		t.Errorf("%v, %s", err, s.log)
	}
}

// swap changes a byte of what is written.
type swap struct {
	net.Conn
	at, seen int
	with     byte
}

func (s *swap) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	if i := s.at - s.seen; i >= 0 && i < len(b) {
		b[i] ^= max(s.with, 1)
	}
	s.seen += len(b)
	return s.Conn.Write(b)
}

// TestAnotherServer: a VM that counts on another server's signature takes nothing from this
// one, neither keys nor refusals.
func TestAnotherServer(t *testing.T) {
	s := serve(t, entryOf("web"))
	for _, name := range []string{"web", "nobody"} {
		v := newVM(t, name)
		v.server, _ = stranger.Public().(ed25519.PublicKey)
		_, err := v.ask(s.dial)
		oneLine(t, err, keyrelease.ErrLying)
	}
}

// TestDamagedKey: a key file that is damaged is refused, and stays as it is.
func TestDamagedKey(t *testing.T) {
	keys, policy := folder(t), parsePolicy(t, entryOf("web"), entryOf("db"))
	l, dial := tcp(t)
	s := start(t, keys, l, dial, policy, nil)
	for _, name := range []string{"web", "db"} {
		if _, err := newVM(t, name).ask(s.dial); err != nil {
			t.Fatal(err)
		}
	}
	good := must[[]byte](t)(os.ReadFile(keys + "/web.key"))
	flipped := bytes.Clone(good)
	flipped[bytes.Index(good, []byte("key "))+5] ^= 1
	for name, content := range map[string][]byte{
		"flipped": flipped, "empty": {}, "truncated": good[:len(good)/2], "longer": append(bytes.Clone(good), '\n'),
		"another VM's": must[[]byte](t)(os.ReadFile(keys + "/db.key")),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(keys+"/web.key", content, 0o600); err != nil {
				t.Fatal(err)
			}
			key, err := newVM(t, "web").ask(s.dial)
			if key != nil {
				t.Errorf("key %x", key)
			}
			oneLine(t, err, keyrelease.ErrRefused)
			if strings.Contains(err.Error(), keys) {
				t.Errorf("%q tells the client about the server's files", err)
			}
			if after := must[[]byte](t)(os.ReadFile(keys + "/web.key")); !bytes.Equal(after, content) {
				t.Error("the damaged file was changed")
			}
		})
	}
	if !strings.Contains(s.log.String(), `is of VM`) || strings.Count(s.log.String(), "is damaged") != 4 {
		t.Errorf("log %s", s.log)
	}
	if err := os.WriteFile(keys+"/web.key", good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newVM(t, "web").ask(s.dial); err != nil {
		t.Error(err)
	}
	if got := s.Stats(); got.Failed != 5 {
		t.Errorf("%+v", got)
	}
}

// TestGates: the policy alone cannot allow what the server was not allowed to.
func TestGates(t *testing.T) {
	e := entryOf("web")
	_, err := keyserver.New(keyserver.Config{Policy: parsePolicy(t, e), Keys: folder(t), Signer: signer})
	oneLine(t, err, keyserver.ErrPolicy, "--allow-emulated")
	e["allow_debug"] = true
	_, err = keyserver.New(keyserver.Config{Policy: parsePolicy(t, e), Keys: folder(t), Signer: signer, Options: keyserver.Options{AllowEmulated: true}})
	oneLine(t, err, keyserver.ErrPolicy, "--allow-debug")
	if _, err = keyserver.New(keyserver.Config{Policy: parsePolicy(t, e), Keys: folder(t), Options: keyserver.Options{AllowEmulated: true, AllowDebug: true}}); !errors.Is(err, keyserver.ErrSigningKey) {
		t.Errorf("%v", err)
	}
}

// Package keyrelease has VMs of the emulated TEE ask the key server for their keys.
package keyrelease

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keel/diag/attest/claims"
	"keel/diag/keyserver"
	"keel/hcl/emutee/evidence"
	"keel/paravisor/keyrelease"
	"keel/tests/harness"

	abi "keel/hcl/abi/snp"
)

const patience = 20 * time.Second

var (
	machineSecret = []byte("the machine of these tests")
	measurement   = [48]byte{0: 0x4b, 47: 0x01}
	configuration = [32]byte{7}
	signer        = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	stranger      = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
)

// chip and platform are made once, as their certificates take long under emulation.
var (
	chip     = sync.OnceValues(func() (*evidence.Chip, error) { return evidence.NewChip(machineSecret, evidence.DefaultTCB) })
	platform = sync.OnceValues(func() (*evidence.Platform, error) { return evidence.NewPlatform(machineSecret) })
)

// must returns a value or ends the test.
func must[T any](tb testing.TB) func(v T, err error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// vm is a confidential VM: what its TEE and its Keel say.
type vm struct {
	tb     testing.TB
	name   string
	kind   string
	guest  evidence.SNPGuest
	td     evidence.TD
	claim  claims.Claim // but for the nonce
	server ed25519.PublicKey
}

func newVM(tb testing.TB, name string) *vm {
	tb.Helper()
	public, _ := signer.Public().(ed25519.PublicKey)
	return &vm{
		tb: tb, name: name, kind: claims.KindSNP, server: public,
		guest: evidence.SNPGuest{Policy: abi.POLICY_RESERVED_ONE | abi.POLICY_SMT, Measurement: measurement, ReportID: [32]byte{3}},
		td:    evidence.TD{Attributes: 1 << 28, XFAM: 0xe7, MRTD: measurement},
		claim: claims.Claim{Config: configuration, Instance: keyrelease.Instance},
	}
}

// evidence is what the VM answers to a nonce.
func (v *vm) evidence(nonce []byte) ([]byte, error) {
	c := v.claim
	c.Nonce = nonce
	b, err := c.Marshal()
	if err != nil {
		return nil, err
	}
	e := claims.Evidence{Kind: v.kind, Claim: b}
	if v.kind == claims.KindTDX {
		p := must[*evidence.Platform](v.tb)(platform())
		e.Report, err = p.Quote(p.Report(&v.td, claims.ReportData(b)))
	} else {
		e.Report, e.Certificates, err = evidence.NewSNPAttester(must[*evidence.Chip](v.tb)(chip()), v.guest).Evidence(claims.ReportData(b))
	}
	if err != nil {
		return nil, err
	}
	return e.Marshal()
}

func (v *vm) client() *keyrelease.Client {
	return &keyrelease.Client{VM: v.name, Server: v.server, Evidence: v.evidence, Patience: patience}
}

// ask has the key released.
func (v *vm) ask(dial func(context.Context) (net.Conn, error)) ([]byte, error) {
	return v.client().Release(v.tb.Context(), dial)
}

// entry is a VM of the policy, as it is written down.
type entry map[string]any

// entryOf accepts the VMs of these tests.
func entryOf(name string) entry {
	return entry{
		"name": name, "allow_emulated": true,
		"measurements": map[string][]string{"snp": {strings.Repeat("00", 48), hex.EncodeToString(measurement[:])}, "tdx": {hex.EncodeToString(measurement[:])}},
		"min_tcb":      map[string]string{"snp": "0xd316000000000004", "tdx": "05000200000000000000000000000000"},
	}
}

func parsePolicy(tb testing.TB, entries ...entry) *keyserver.Policy {
	tb.Helper()
	b := must[[]byte](tb)(json.Marshal(map[string]any{"version": 1, "vms": entries}))
	return must[*keyserver.Policy](tb)(keyserver.ParsePolicy(b))
}

// running is a key server that serves.
type running struct {
	*keyserver.Server
	log  *harness.Buffer
	dial func(context.Context) (net.Conn, error)
	stop func() error // and wait for the end
}

// start runs a server; change may be nil.
func start(tb testing.TB, keys string, l net.Listener, dial func(context.Context) (net.Conn, error), policy *keyserver.Policy, change func(*keyserver.Config)) *running {
	tb.Helper()
	log := &harness.Buffer{}
	c := keyserver.Config{
		Policy: policy, Keys: keys, Signer: signer, Log: slog.New(slog.NewTextHandler(log, nil)),
		Options: keyserver.Options{AllowEmulated: true, AllowDebug: true, Patience: patience, Rate: 1000},
	}
	if change != nil {
		change(&c)
	}
	s := must[*keyserver.Server](tb)(keyserver.New(c))
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-served, s.Close())
	})
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Error(err)
		}
	})
	return &running{s, log, dial, stop}
}

// serve runs a server on TCP for some VMs.
func serve(tb testing.TB, entries ...entry) *running {
	tb.Helper()
	l, dial := tcp(tb)
	return start(tb, folder(tb), l, dial, parsePolicy(tb, entries...), nil)
}

func tcp(tb testing.TB) (net.Listener, func(context.Context) (net.Conn, error)) {
	tb.Helper()
	return listen(tb, "tcp", "127.0.0.1:0")
}

func listen(tb testing.TB, network, address string) (net.Listener, func(context.Context) (net.Conn, error)) {
	tb.Helper()
	l := must[net.Listener](tb)(net.Listen(network, address))
	tb.Cleanup(func() { l.Close() })
	return l, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
	}
}

// folder is an empty one for keys.
func folder(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "keys")
	if err := os.Mkdir(path, 0o700); err != nil {
		tb.Fatal(err)
	}
	return path
}

// pipes is a listener of net.Pipe.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// oneLine wants an error with cause and remedy in a line, which says all of these.
func oneLine(tb testing.TB, err, want error, says ...string) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("%v, want %v", err, want)
	}
	if s := err.Error(); strings.ContainsAny(s, "\r\n\x1b") || !strings.Contains(s, "; ") {
		tb.Errorf("%q is not one line with a remedy", s)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			tb.Errorf("%q does not say %q", err, s)
		}
	}
}

package tpm

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/google/go-tpm-tools/proto/attest"
	"github.com/google/go-tpm-tools/server"
	"google.golang.org/protobuf/proto"

	"keel/tests/harness"
	"keel/vtpm/eventlog"
	"keel/vtpm/identity"
)

// TestTools uses the TPM with stock tools.
func TestTools(t *testing.T) {
	t.Parallel()
	all := machines(crbNewOne, tisOldOne)
	if harness.Soak() {
		all = append(all, machine{crbSNP}, machine{tisTDX})
	}
	for _, m := range all {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			checks := []string{
				"getcap", "eventlog", "pcrs", "certificates", "selftest", "primary",
				"keys", "nv", "quote", "attestation", "policy", "credential", "seal", "lockout", "clear",
			}
			params := []string{"ima=0"}
			if m.Kernel != "5.10" { // Debian's cloud kernel 5.10 is built without IMA
				checks, params = append(checks, "ima"), nil
			}
			r, s := m.script(t, m.flags(ScriptTools, params...), checks...)
			checkCounters(t, r)
			for _, index := range []string{"0x1c00002", "0x1c0000a", "0x1c101d0"} {
				checkCertificate(t, index, s)
			}
			checkReport(t, m, s)
			checkLog(t, s)
			checkAttestation(t, s)
		})
	}
}

// checkCounters checks that the run report says what the guest did to its TPM.
func checkCounters(t *testing.T, r *harness.Run) {
	t.Helper()
	state, _ := r.Report(t).State["tpm"].(map[string]any)
	commands, _ := state["commands"].(map[string]any)
	latency, _ := state["commit_latency"].(map[string]any)
	// JSON has no integers. Keel starts the TPM, the guest locks it out.
	for name, v := range map[string]any{
		"Startup": commands["0x144"], "Quote": commands["0x158"], "lockouts": state["lockouts"], "commits": state["commits"], "failures": state["failures"],
	} {
		if n, _ := v.(float64); n < 1 {
			t.Errorf("%s: %v", name, v)
		}
	}
	if counts, _ := latency["counts"].([]any); len(counts) < 2 {
		t.Errorf("commit latency: %v", latency)
	}
}

// TestSelftest runs the kernel's own tests.
func TestSelftest(t *testing.T) {
	t.Parallel()
	for _, m := range machines(crbNewOne) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			m.script(t, m.flags(ScriptSelftest), "smoke", "async", "space")
		})
	}
}

// checkCertificate checks that a certificate is of the key that belongs to it, and that
// nobody takes it for one of a vendor's.
func checkCertificate(t *testing.T, index string, s Said) {
	t.Helper()
	cert, err := x509.ParseCertificate(s.Files["certificate-"+index])
	if err != nil {
		t.Errorf("certificate %s: %v", index, err)
		return
	}
	key, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil || !bytes.Equal(key, s.Files["key-"+index]) {
		t.Errorf("certificate %s is of the key %x, the TPM's is %x (%v)", index, key, s.Files["key-"+index], err)
	}
	t.Logf("certificate %s: %s, by %s", index, cert.Subject, cert.Issuer)
}

// checkLog replays the log with another implementation than tpm2_eventlog.
func checkLog(t *testing.T, s Said) {
	t.Helper()
	log, err := eventlog.Parse(s.Files["log"])
	if err != nil {
		t.Fatalf("log: %v", err)
	}
	for _, a := range []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384} {
		replayed, err := eventlog.Replay(log.Events, a)
		if err != nil {
			t.Fatal(err)
		}
		bank := map[eventlog.Algorithm]string{eventlog.SHA256: "sha256", eventlog.SHA384: "sha384"}[a]
		for pcr := range 16 {
			if pcr == 10 { // IMA's
				continue
			}
			want := fmt.Sprintf("0x%s", hex.EncodeToString(replayed[pcr]))
			if got := s.PCRs[PCR{bank, pcr}]; got != want {
				t.Errorf("%s PCR %d is %s, the log says %s", bank, pcr, got, want)
			}
		}
	}
}

// checkAttestation verifies what the guest attested as a relying party does, with
// go-tpm-tools: quote, log and the AK's certificate.
func checkAttestation(t *testing.T, s Said) {
	t.Helper()
	var a attest.Attestation
	if err := proto.Unmarshal(s.Files["attestation"], &a); err != nil {
		t.Errorf("attestation: %v", err)
		return
	}
	ca, err := identity.NewTestCA()
	if err != nil {
		t.Fatal(err)
	}
	opts := server.VerifyOpts{
		Nonce: []byte("a nonce of the verifier"), TrustedRootCerts: []*x509.Certificate{ca.Certificate()}, Loader: server.UnsupportedLoader,
	}
	state, err := server.VerifyAttestation(&a, opts)
	if err != nil {
		t.Errorf("attestation: %v", err)
		return
	}
	t.Logf("attestation: %d events", len(state.GetRawEvents()))
	log, err := eventlog.Parse(a.EventLog)
	if err != nil {
		t.Fatal(err)
	}
	said := a.EventLog
	a.EventLog = bytes.Clone(said)
	for _, d := range log.Events[len(log.Events)-1].Digests {
		a.EventLog[bytes.LastIndex(said, d.Value)]++
	}
	if _, err := server.VerifyAttestation(&a, opts); err == nil {
		t.Error("an attestation with another log verifies")
	}
	a.EventLog = said
	opts.Nonce[0]++
	if _, err := server.VerifyAttestation(&a, opts); err == nil {
		t.Error("an attestation for another nonce verifies")
	}
}

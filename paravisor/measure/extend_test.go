package measure

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-tpm-tools/client"
	"github.com/google/go-tpm-tools/server"
	legacy "github.com/google/go-tpm/legacy/tpm2"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"keel/vtpm/eventlog"
	"keel/vtpm/identity"
	"keel/vtpm/identity/identitytest"
)

// measured boots a TPM as the paravisor does and returns the log.
func measured(t *testing.T, tpm *identitytest.TPM, in func([]eventlog.Algorithm) Inputs) Result {
	t.Helper()
	ca, err := identity.NewTestCA()
	if err != nil {
		t.Fatal(err)
	}
	p, err := identity.Open(tpm, identity.Options{Issuer: ca, Reset: tpm.Reset})
	if err != nil {
		t.Fatal(err)
	}
	events, err := Events(p.Banks(), in(p.Banks()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Extend(tpm, eventlog.AreaSize, events)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Lock(); err != nil {
		t.Fatal(err)
	}
	return r
}

func fromFiles(t *testing.T) func([]eventlog.Algorithm) Inputs {
	t.Helper()
	return func(banks []eventlog.Algorithm) Inputs { return someFiles().inputs(t, banks) }
}

// readPCR reads a PCR with go-tpm.
func readPCR(t *testing.T, tpm transport.TPM, a eventlog.Algorithm, pcr uint) []byte {
	t.Helper()
	rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgID(a), PCRSelect: tpm2.PCClientCompatible.PCRs(pcr)},
	}}}.Execute(tpm)
	if err != nil || len(rsp.PCRValues.Digests) != 1 {
		t.Fatalf("%v PCR %d: %v", a, pcr, err)
	}
	return rsp.PCRValues.Digests[0].Buffer
}

// TestTPM: the TPM, the log and the verifier come to the same values, with the banks of
// a manufactured TPM and with all that libtpms has.
func TestTPM(t *testing.T) {
	for name, all := range map[string]bool{"manufactured": false, "all banks": true} {
		t.Run(name, func(t *testing.T) {
			tpm := identitytest.Start(t, nil)
			active := banks
			var r Result
			if all {
				active = eventlog.Supported()
				if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(tpm); err != nil {
					t.Fatal(err)
				}
				events, err := Events(active, someFiles().inputs(t, active))
				if err != nil {
					t.Fatal(err)
				}
				if r, err = Extend(tpm, eventlog.AreaSize, events); err != nil {
					t.Fatal(err)
				}
			} else {
				r = measured(t, tpm, fromFiles(t))
			}
			parsed, err := eventlog.Parse(r.Log)
			if err != nil || r.Dropped != 0 {
				t.Fatalf("%d dropped, %v", r.Dropped, err)
			}
			if !slices.Equal(parsed.Banks, active) {
				t.Errorf("banks %v, want %v", parsed.Banks, active)
			}
			want := expected(t, active, someFiles().inputs(t, active))
			for _, a := range active {
				replayed, err := eventlog.Replay(parsed.Events, a)
				if err != nil {
					t.Fatal(err)
				}
				for pcr := range uint(eventlog.PCRCount) {
					got := readPCR(t, tpm, a, pcr)
					if !bytes.Equal(got, replayed[pcr]) || !bytes.Equal(got, want[a][pcr]) {
						t.Errorf("%v PCR %d: TPM %x, log %x, expected %x", a, pcr, got, replayed[pcr], want[a][pcr])
					}
				}
			}
		})
	}
}

// TestDeterministic: two machines with the same inputs have the same log.
func TestDeterministic(t *testing.T) {
	var logs [2][]byte
	for i := range logs {
		logs[i] = measured(t, identitytest.Start(t, nil), fromFiles(t)).Log
	}
	if !bytes.Equal(logs[0], logs[1]) {
		t.Error("the logs differ")
	}
}

// TestLogFull: what does not fit in the log is in the PCRs nevertheless.
func TestLogFull(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	all := eventlog.Supported()
	in := someFiles().inputs(t, all)
	events, err := Events(all, in)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Extend(tpm, 1024, events)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := eventlog.Parse(r.Log)
	if err != nil || r.Dropped == 0 || len(parsed.Events)+r.Dropped != len(events) || len(r.Log) > 1024 {
		t.Errorf("%d events of %d in %d bytes, %d dropped, %v", len(parsed.Events), len(events), len(r.Log), r.Dropped, err)
	}
	if got := readPCR(t, tpm, eventlog.SHA256, 12); !bytes.Equal(got, expected(t, all, in)[eventlog.SHA256][12]) {
		t.Errorf("PCR 12 is %x", got)
	}
}

// TestMissingBank: events without digests for an active bank are refused before the TPM
// has any of them.
func TestMissingBank(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	events, err := Events(banks, someFiles().inputs(t, banks))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Extend(tpm, eventlog.AreaSize, events); !errors.Is(err, ErrExtend) {
		t.Errorf("four banks are active, digests are there for two: %v", err)
	}
	if got := readPCR(t, tpm, eventlog.SHA256, 0); !bytes.Equal(got, make([]byte, 32)) {
		t.Errorf("PCR 0 is %x", got)
	}
}

// TestAttestation is a remote attestation with go-tpm-tools: its client makes it with the
// AK, its server verifies quote, certificate and log.
func TestAttestation(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	r := measured(t, tpm, fromFiles(t))
	ca, err := identity.NewTestCA()
	if err != nil {
		t.Fatal(err)
	}
	rw := tpm.Stream()
	der, err := legacy.NVReadEx(rw, identity.IndexAK, legacy.HandleOwner, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	key, err := client.LoadCachedKey(rw, identity.HandleAK, client.NullSession{})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	if err := key.SetCert(cert); err != nil {
		t.Fatal(err)
	}
	nonce := []byte("a nonce of the verifier's")
	attestation, err := key.Attest(client.AttestOpts{Nonce: nonce, TCGEventLog: r.Log, SkipTeeAttestation: true})
	if err != nil {
		t.Fatal(err)
	}
	opts := server.VerifyOpts{Nonce: nonce, TrustedRootCerts: []*x509.Certificate{ca.Certificate()}, Loader: server.UnsupportedLoader}
	state, err := server.VerifyAttestation(attestation, opts)
	if err != nil {
		t.Fatal(err)
	}
	if state.GetSecureBoot().GetEnabled() {
		t.Error("the server believes that Secure Boot is on")
	}
	if got := string(state.GetPlatform().GetScrtmVersionId()); got != string(utf16z(someFiles().version)) {
		t.Errorf("version %q", got)
	}
	if len(state.GetRawEvents()) < 20 {
		t.Errorf("the server saw %d events", len(state.GetRawEvents()))
	}
	// A log in which one digest is another must not verify.
	attestation.EventLog = bytes.Clone(attestation.EventLog)
	at := bytes.Index(attestation.EventLog, someFiles().inputs(t, banks).Kernel.Digests[0].Value)
	attestation.EventLog[at] ^= 1
	attestation.EventLog[at+32+2] ^= 1 // and its SHA-384 neighbour
	if _, err := server.VerifyAttestation(attestation, opts); err == nil {
		t.Error("a forged log verifies")
	}
}

// TestGoTPMToolsKeys: go-tpm-tools finds its keys at the handles and replaces none.
func TestGoTPMToolsKeys(t *testing.T) {
	tpm := identitytest.Start(t, nil)
	measured(t, tpm, fromFiles(t))
	rw := tpm.Stream()
	evictions := 0
	tpm.After = func(command, _ []byte) {
		if bytes.Equal(command[6:10], []byte{0, 0, 1, 0x20}) {
			evictions++
		}
	}
	ekRSA, err := client.EndorsementKeyRSA(rw)
	if err != nil || ekRSA.Cert() == nil {
		t.Fatalf("RSA EK without its certificate: %v", err)
	}
	ekECC, err := client.EndorsementKeyECC(rw)
	if err != nil || ekECC.Cert() == nil {
		t.Fatalf("ECC EK without its certificate: %v", err)
	}
	if _, err := client.StorageRootKeyRSA(rw); err != nil {
		t.Fatal(err)
	}
	if evictions != 0 {
		t.Errorf("go-tpm-tools replaced %d keys", evictions)
	}
}

// TestTools gives the log and the TPM to tpm2-tools.
func TestTools(t *testing.T) {
	if _, err := exec.LookPath("tpm2_eventlog"); err != nil {
		t.Fatal("tpm2-tools is not installed: make deps")
	}
	tpm := identitytest.Start(t, nil)
	r := measured(t, tpm, fromFiles(t))
	want := expected(t, banks, someFiles().inputs(t, banks))
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	area := append(r.Log, make([]byte, eventlog.AreaSize-len(r.Log))...)
	for name, contents := range map[string][]byte{"log": r.Log, "area": area} {
		if err := os.WriteFile(filepath.Join(dir, name), contents, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tpm.Disconnect()
	said := map[string]string{}
	tool := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+tpm.Path())
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, stderr.String())
		}
		said[name] += stderr.String()
		return string(out)
	}
	// It replays the log: a block of "  pcr : 0xvalue" for each bank.
	out := tool("tpm2_eventlog", log)
	_, replayed, _ := strings.Cut(out, "\npcrs:")
	for _, a := range banks {
		_, block, found := strings.Cut(replayed, a.String()+":")
		if !found {
			t.Fatalf("tpm2_eventlog knows no bank %v:\n%s", a, out)
		}
		for _, pcr := range []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 12} {
			if value := hex.EncodeToString(want[a][pcr]); !regexp.MustCompile(`\s` + strconv.Itoa(pcr) + `\s*:\s*0x` + value).MatchString(block) {
				t.Errorf("tpm2_eventlog, %v: PCR %d is not %s", a, pcr, value)
			}
		}
	}
	if said := said["tpm2_eventlog"]; said != "" {
		t.Errorf("tpm2_eventlog complains: %s", said)
	}
	// The AK at its handle quotes, and its certificate's key checks the quote.
	tool("tpm2_nvread", "-C", "o", "0x1c101d0", "-o", "ak.der")
	tool("openssl", "x509", "-inform", "DER", "-in", "ak.der", "-pubkey", "-noout", "-out", "ak.pem")
	tool("tpm2_quote", "-c", "0x81000003", "-l", "sha256:0,4,9,12", "-q", "abcd", "-m", "msg", "-s", "sig", "-o", "pcrs", "-g", "sha256")
	tool("tpm2_checkquote", "-u", "ak.pem", "-m", "msg", "-s", "sig", "-f", "pcrs", "-g", "sha256", "-q", "abcd")
	// The owner reads the report as guests on Azure do.
	if report := tool("tpm2_nvread", "-C", "o", "0x1400001"); !strings.HasPrefix(report, "HCLA") {
		t.Errorf("report %.40q", report)
	}
	// The SRK is a parent for keys.
	tool("tpm2_create", "-C", "0x81000001", "-u", "k.pub", "-r", "k.priv", "-G", "ecc")
}

package attest

import (
	"bytes"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"fmt"
	"sync"

	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/verify/trust"
)

// Roots: Intel's as its provisioning service publishes it, and the emulated ones, equal to
// those of package hcl/emutee/evidence. AMD's are embedded in go-sev-guest.
//
//go:embed roots/*.pem
var rootFiles embed.FS

// trusted is every root that this package knows.
type trusted struct {
	intel, emulatedPCK       *x509.Certificate
	emulatedARK, emulatedASK *x509.Certificate
	amd                      map[string]trust.ProductCerts // by product line
}

// emulatedLine is the product line that the emulated AMD-SP claims to be of.
const emulatedLine = "Milan"

var roots = sync.OnceValues(func() (*trusted, error) {
	t := &trusted{amd: map[string]trust.ProductCerts{}}
	for _, f := range []struct {
		name string
		to   **x509.Certificate
	}{
		{"intel_sgx_root.pem", &t.intel},
		{"emulated_pck_root.pem", &t.emulatedPCK},
		{"emulated_ark.pem", &t.emulatedARK},
		{"emulated_ask.pem", &t.emulatedASK},
	} {
		text, err := rootFiles.ReadFile("roots/" + f.name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrChain, err)
		}
		if *f.to, err = certificate(text); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrChain, f.name, err)
		}
	}
	for _, line := range []struct {
		name       string
		vcek, vlek []byte
	}{
		{"Milan", trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
		{"Genoa", trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes},
		{"Turin", trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes},
	} {
		var certs trust.ProductCerts
		for _, bundle := range [][]byte{line.vcek, line.vlek} {
			intermediate, ark, err := kds.ParseProductCertChain(bytes.TrimSpace(bundle))
			if err == nil {
				err = certs.Decode(intermediate, ark)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: AMD's roots for %s: %w", ErrChain, line.name, err)
			}
		}
		t.amd[line.name] = certs
	}
	return t, nil
})

// certificate parses one certificate, PEM or DER.
func certificate(b []byte) (*x509.Certificate, error) {
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	return x509.ParseCertificate(b)
}

// amdRoots returns the roots for go-sev-guest. They are always given: with none, that
// library takes ASK and ARK from the evidence and checks no more than their names.
func (t *trusted) amdRoots(emulated bool) map[string][]*trust.AMDRootCerts {
	all := map[string][]*trust.AMDRootCerts{}
	add := func(line string, certs trust.ProductCerts) {
		root := trust.AMDRootCertsProduct(line)
		root.ProductCerts = &certs
		all[line] = []*trust.AMDRootCerts{root}
	}
	if emulated {
		add(emulatedLine, trust.ProductCerts{Ask: t.emulatedASK, Ark: t.emulatedARK})
		return all
	}
	for line, certs := range t.amd {
		add(line, certs)
	}
	return all
}

// Command attest runs in a guest: it makes an attestation with go-tpm-tools, as a
// relying party's agent does, and writes it to standard output (proto attest.Attestation).
// Its argument is the verifier's nonce.
package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/google/go-tpm-tools/client"
	legacy "github.com/google/go-tpm/legacy/tpm2"
	"google.golang.org/protobuf/proto"

	"keel/vtpm/identity"
)

const device = "/dev/tpmrm0"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "attest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: attest NONCE")
	}
	tpm, err := legacy.OpenTPM(device)
	if err != nil {
		return err
	}
	defer tpm.Close()
	key, err := client.LoadCachedKey(tpm, identity.HandleAK, client.NullSession{})
	if err != nil {
		return fmt.Errorf("AK: %w", err)
	}
	defer key.Close()
	der, err := legacy.NVReadEx(tpm, identity.IndexAK, legacy.HandleOwner, "", 0)
	if err != nil {
		return fmt.Errorf("certificate of the AK: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate of the AK: %w", err)
	}
	if err := key.SetCert(cert); err != nil {
		return err
	}
	// The log is that of the kernel's securityfs.
	attestation, err := key.Attest(client.AttestOpts{Nonce: []byte(args[0]), SkipTeeAttestation: true})
	if err != nil {
		return err
	}
	text, err := proto.Marshal(attestation)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

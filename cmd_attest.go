package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"keel/boot"
	"keel/boot/handoff"
	"keel/diag/attest"
	"keel/diag/attest/claims"
	"keel/diag/client"
)

const attestHelp = `Fetch evidence of a running confidential VM, for a nonce that is new each time, and verify it:
signatures down to the vendor's root, the image that was measured, and the claim of Keel that the
TEE vouches for. With --evidence, verify what was fetched before.

Evidence of an emulated TEE proves nothing and is refused without --allow-emulated.`

// attestFlags are the flags of "keel attest".
type attestFlags struct {
	evidence, nonce, image, out       string
	reference                         string
	anyImage, allowEmulated, allowDbg bool
	asJSON                            bool
}

// fetchEvidence asks a running VM for evidence.
type fetchEvidence func(ctx context.Context, vm string, nonce []byte) ([]byte, error)

func attestCommand(fetch fetchEvidence) *cobra.Command {
	var f attestFlags
	cmd := &cobra.Command{
		Use:               "attest [NAME]",
		Short:             "Verify what a confidential VM is",
		Long:              attestHelp,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), fetch, args)
		},
	}
	s := cmd.Flags()
	s.StringVar(&f.evidence, "evidence", "", "file with evidence that was fetched before; needs its --nonce")
	s.StringVar(&f.nonce, "nonce", "", fmt.Sprintf("nonce in hexadecimal digits, %d to %d bytes (default: a new one)", claims.MinNonce, claims.MaxNonce))
	s.StringVar(&f.image, "image", "", "image that must have been measured (default build/keel.igvm of the checkout)")
	s.StringVar(&f.reference, "reference", "", "another image, which the VM may have been started with: tells which parts differ from those of --image")
	s.BoolVar(&f.anyImage, "any-image", false, "accept whatever was measured, and print it")
	s.BoolVar(&f.allowEmulated, "allow-emulated", false, "also accept evidence of Keel's emulated TEE, which proves nothing")
	s.BoolVar(&f.allowDbg, "allow-debug", false, "accept a VM that its host may look into")
	s.StringVar(&f.out, "out", "", "file to which the evidence is written, verified or not")
	s.BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

func (f *attestFlags) run(ctx context.Context, w io.Writer, fetch fetchEvidence, args []string) error {
	nonce, err := f.readNonce()
	if err != nil {
		return err
	}
	raw, err := f.read(ctx, fetch, args, nonce)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := os.WriteFile(f.out, raw, 0o644); err != nil {
			return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "cannot write --out", Remedy: "name a file that can be written", Err: err}
		}
	}
	e, err := claims.ParseEvidence(raw)
	if err != nil {
		return badEvidence(err)
	}
	expect := &attest.Expect{Nonce: nonce, AnyMeasurement: f.anyImage, AllowDebug: f.allowDbg}
	if !f.anyImage {
		if expect.Measurement, err = f.measure(ctx, e.Kind); err != nil {
			return err
		}
	}
	result, err := attest.Verify(e, expect, &attest.Options{AllowEmulated: f.allowEmulated})
	if errors.Is(err, attest.ErrMeasurement) && f.reference != "" {
		return f.differ(e, expect, err)
	}
	if err != nil {
		return badEvidence(err)
	}
	if f.asJSON {
		return json.NewEncoder(w).Encode(result)
	}
	_, err = io.WriteString(w, result.String())
	return err
}

// readNonce returns the nonce that was given, or a new one.
func (f *attestFlags) readNonce() ([]byte, error) {
	if f.nonce == "" {
		if f.evidence != "" {
			return nil, usage("--evidence without its nonce", "give the nonce for which it was fetched with --nonce")
		}
		nonce := make([]byte, 32)
		_, _ = rand.Read(nonce) // never fails
		return nonce, nil
	}
	nonce, err := hex.DecodeString(f.nonce)
	if err != nil || len(nonce) < claims.MinNonce || len(nonce) > claims.MaxNonce {
		return nil, usage("--nonce is no nonce", fmt.Sprintf("give %d to %d hexadecimal digits", 2*claims.MinNonce, 2*claims.MaxNonce))
	}
	return nonce, nil
}

// read gets the evidence.
func (f *attestFlags) read(ctx context.Context, fetch fetchEvidence, args []string, nonce []byte) ([]byte, error) {
	if (f.evidence == "") != (len(args) == 1) {
		return nil, usage("no VM and no evidence, or both", "name a running VM (its --name), or a file with --evidence")
	}
	if f.evidence == "" {
		return fetch(ctx, args[0], nonce)
	}
	file, err := os.Open(f.evidence)
	if err == nil {
		defer file.Close()
		var raw []byte
		// One byte more than there can be shows that there is too much.
		if raw, err = io.ReadAll(io.LimitReader(file, claims.MaxEvidence+1)); err == nil {
			return raw, nil
		}
	}
	remedy := "give a readable file with --evidence"
	if errors.Is(err, fs.ErrNotExist) {
		remedy = "fetch it with keel attest NAME --out FILE"
	}
	return nil, &handoff.Failure{Outcome: handoff.OutcomeBadEvidence, Cause: "cannot read the evidence", Remedy: remedy, Err: err}
}

// measure returns what the TEE must have measured.
func (f *attestFlags) measure(ctx context.Context, kind string) ([]byte, error) {
	if f.image == "" {
		var err error
		if f.image, err = defaultImage(ctx); err != nil {
			return nil, err
		}
	}
	m, err := boot.Measure(f.image, []string{kind}, false)
	if err != nil {
		return nil, err
	}
	return m[0].Digest[:], nil
}

// differ refuses evidence that is not of the image, and names the parts of it if the
// evidence is of the reference.
func (f *attestFlags) differ(e *claims.Evidence, expect *attest.Expect, cause error) error {
	m, err := boot.Measure(f.reference, []string{e.Kind}, false)
	if err != nil {
		return err
	}
	other := *expect
	other.Measurement = m[0].Digest[:]
	if _, err := attest.Verify(e, &other, &attest.Options{AllowEmulated: f.allowEmulated}); errors.Is(err, attest.ErrMeasurement) {
		return badEvidence(fmt.Errorf("%w; it is not of %s either, so that the parts cannot be told", cause, f.reference))
	}
	parts, err := boot.Differences(f.image, f.reference, e.Kind)
	if err != nil {
		return err
	}
	return badEvidence(fmt.Errorf("%w; it is of %s, which differs in: %s", cause, f.reference, strings.Join(parts, ", ")))
}

// badEvidence refuses evidence. The error has a remedy of its own.
func badEvidence(err error) error {
	return &handoff.Failure{Outcome: handoff.OutcomeBadEvidence, Cause: "evidence refused", Err: err}
}

// attestVM asks a VM for evidence. Its errors are of type *handoff.Failure.
func attestVM(ctx context.Context, vm string, nonce []byte) (raw []byte, err error) {
	err = withVM(ctx, vm, func(c *client.Client) error {
		raw, err = c.Attest(ctx, nonce)
		return err
	})
	return raw, err
}

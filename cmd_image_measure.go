package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"keel/boot"
	"keel/boot/handoff"
)

// printed is a result that commands print.
type printed interface{ Describe(w io.Writer) error }

// writeJSON prints a value as indented JSON.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// write prints a result in the form that was asked for.
func write(w io.Writer, asJSON bool, v printed) error {
	if asJSON {
		return writeJSON(w, v)
	}
	return v.Describe(w)
}

// allPlatforms is the value of --platform that stands for those of the image.
const allPlatforms = "all"

// imageMeasureCommand prints what hardware will measure.
func imageMeasureCommand() *cobra.Command {
	var asJSON, qemu bool
	var platform string
	cmd := &cobra.Command{
		Use:   "measure FILE",
		Short: "Print what hardware will measure of an image",
		Long: "Print the launch digest of SEV-SNP and the MRTD of TDX, the policies, and the parts that make up each digest.\n" +
			"A part's own digest changes exactly when the part does.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			platforms := boot.Isolated
			switch {
			case platform == allPlatforms:
			case slices.Contains(boot.Isolated, platform):
				platforms = []string{platform}
			default:
				return &handoff.Failure{
					Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--platform %q", platform),
					Remedy: "use " + strings.Join(boot.Isolated, ", ") + " or " + allPlatforms,
				}
			}
			all, err := boot.Measure(args[0], platforms, qemu)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), all)
			}
			for i, m := range all {
				if i > 0 {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				if err := m.Describe(cmd.OutOrStdout()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	s := cmd.Flags()
	s.StringVar(&platform, "platform", allPlatforms, "snp, tdx or all")
	s.BoolVar(&qemu, "qemu", false, "snp: predict QEMU with KVM, and refuse what they load otherwise than the file says")
	s.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// imageSignCommand adds a signed ID block.
func imageSignCommand() *cobra.Command {
	var o boot.SignOptions
	var family, image string
	cmd := &cobra.Command{
		Use:   "sign --id-key PEM FILE",
		Short: "Sign an image for SEV-SNP",
		Long: "Add an SNP ID block to an image: firmware then launches this image alone, under its policy alone, and reports name the keys.\n" +
			"Keys are ECDSA P-384 private keys: openssl ecparam -name secp384r1 -genkey -noout -out FILE",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.IDKey == "" {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "no key to sign with", Remedy: "give --id-key"}
			}
			for _, f := range []struct {
				flag, value string
				into        *[16]byte
			}{{"--family-id", family, &o.Identity.FamilyID}, {"--image-id", image, &o.Identity.ImageID}} {
				if err := parseID(f.flag, f.value, f.into); err != nil {
					return err
				}
			}
			m, err := boot.Sign(args[0], o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%v\n", m.Digest)
			return err
		},
	}
	s := cmd.Flags()
	s.StringVar(&o.IDKey, "id-key", "", "private key that signs the image")
	s.StringVar(&o.AuthorKey, "author-key", "", "private key that signs the ID key")
	s.StringVar(&family, "family-id", "", "32 hexadecimal digits, yours to choose (default zeros)")
	s.StringVar(&image, "image-id", "", "32 hexadecimal digits, yours to choose (default zeros)")
	s.Uint32Var(&o.Identity.GuestSVN, "svn", 0, "security version of the image")
	s.StringVar(&o.Out, "out", "", "signed image (default: replace FILE)")
	return cmd
}

// parseID reads an ID of 16 bytes; empty leaves zeros.
func parseID(flag, value string, into *[16]byte) error {
	if value == "" {
		return nil
	}
	b, err := hex.DecodeString(value)
	if err != nil || len(b) != len(into) {
		return &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("%s %.40q", flag, value), Remedy: "give 32 hexadecimal digits", Err: err,
		}
	}
	copy(into[:], b)
	return nil
}

// imageVerifyCommand compares evidence with an image.
func imageVerifyCommand() *cobra.Command {
	var asJSON bool
	var report, reference string
	cmd := &cobra.Command{
		Use:   "verify --report FILE IMAGE",
		Short: "Compare attestation evidence with an image",
		Long: "Tell whether an SNP attestation report, a TDX quote (version 4) or a TDREPORT is that of an image, and what differs.\n" +
			"Signatures are not checked: what the evidence says is taken as it stands.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if report == "" {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "no evidence to compare", Remedy: "give --report"}
			}
			verdict, err := boot.Verify(args[0], report, reference)
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), asJSON, verdict); err != nil {
				return err
			}
			return verdict.Failure()
		},
	}
	s := cmd.Flags()
	s.StringVar(&report, "report", "", "evidence, as hardware wrote it")
	s.StringVar(&reference, "reference", "", "image that the evidence may be of instead: tells which parts differ")
	s.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"keel/boot"
	"keel/boot/handoff"
	"keel/initramfs"
)

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Make and read images"}
	cmd.AddCommand(imageBuildCommand(), imageShowCommand(), imageMeasureCommand(), imageSignCommand(), imageVerifyCommand())
	return cmd
}

// imageBuildCommand makes an image from the checkout.
func imageBuildCommand() *cobra.Command {
	var debug bool
	var kernel, out string
	var own ownerFlags
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Make an image from a checkout",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := own.keys()
			if err != nil {
				return err
			}
			root, err := checkout()
			if err != nil {
				return &handoff.Failure{
					Outcome: handoff.OutcomeUsage, Cause: "images are built from a checkout", Remedy: "run this in one", Err: err,
				}
			}
			flavour, folder := initramfs.Release, filepath.Join(root, buildDir)
			if debug {
				flavour, folder = initramfs.Debug, filepath.Join(folder, "debug")
			}
			if out != "" {
				folder = out
			}
			result, err := buildImage(cmd.Context(), root, kernel, folder, flavour, keys)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), result.IGVM)
			return err
		},
	}
	s := cmd.Flags()
	s.BoolVar(&debug, "debug", false, "add a shell and tools; the host may extend the kernel's command line")
	s.StringVar(&kernel, "kernel", "", "VTL2 kernel, a bzImage (default: built from the pinned source)")
	s.StringVar(&out, "out", "", "folder of the image (default build, or build/debug)")
	s.StringVar(&own.recipient, "owner-recipient", "", "age X25519 public key, age1…, to which what is private in diagnostics of a confidential guest is encrypted")
	s.StringVar(&own.signer, "owner-signer", "", "file with an OpenSSH Ed25519 public key, for whose signature a confidential guest may be commanded")
	return cmd
}

// imageShowCommand prints what is in an image.
func imageShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print what is in an image",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			summary, err := boot.Open(args[0])
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), asJSON, summary)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

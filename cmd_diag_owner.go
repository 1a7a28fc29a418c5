package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keel/boot/handoff"
	"keel/diag/client"
	"keel/diag/owner"
	"keel/diag/owner/keyfile"
)

// signFlags are the flags of commands that change something in a VM.
type signFlags struct{ key, instance string }

func (f *signFlags) add(s *pflag.FlagSet) {
	s.StringVar(&f.key, "owner-key", "", "sign the call for a confidential guest: file with the OpenSSH private key of the image's owner")
	s.StringVar(&f.instance, "instance", "", "with --owner-key: the instance that keel attest prints; no other VM takes the call")
}

// withVM is withVM of a client that signs.
func (f *signFlags) withVM(ctx context.Context, vm string, do func(*client.Client) error) error {
	o, err := f.owner()
	if err != nil {
		return err
	}
	return withVM(ctx, vm, func(c *client.Client) error {
		c.Sign(o)
		return do(c)
	})
}

// owner returns who signs, nil for nobody.
func (f *signFlags) owner() (*client.Owner, error) {
	if f.key == "" {
		if f.instance != "" {
			return nil, &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "--instance without --owner-key", Remedy: "give both"}
		}
		return nil, nil
	}
	o := &client.Owner{}
	var err error
	if o.Key, err = keyfile.Key(f.key); err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: "--owner-key", Remedy: "give the file that ssh-keygen -t ed25519 writes", Err: err,
		}
	}
	if err := parseID("--instance", f.instance, (*[owner.InstanceSize]byte)(&o.Instance)); err != nil {
		return nil, err
	}
	return o, nil
}

// sealedSuffix ends the names of files that are encrypted.
const sealedSuffix = ".age"

// sealedName returns the name of a file whose data begins so: one that is encrypted says it.
func sealedName(path string, data []byte) string {
	if client.Sealed(data) && filepath.Ext(path) != sealedSuffix {
		return path + sealedSuffix
	}
	return path
}

const openHelp = `Decrypt a file that a confidential guest's diagnostics have left encrypted to its owner. IN and OUT
may be -, for standard input and output. OUT is written when all of IN has proved whole.
age -d -i FILE IN does the same, with more kinds of identities.

Whoever knows the public key can encrypt to it: that it opens does not show which VM it is from.`

// openCommand decrypts a file.
func openCommand() *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use:   "open --identity FILE IN OUT",
		Short: "Decrypt what a confidential VM has sealed",
		Long:  openHelp,
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if identity == "" {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "no identity to decrypt with", Remedy: "give --identity"}
			}
			ids, err := keyfile.Identities(identity)
			if err != nil {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "--identity", Remedy: "give the file that age-keygen writes", Err: err}
			}
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "there is nothing to open", Remedy: "name a file that is there", Err: err}
				}
				defer f.Close()
				in = f
			}
			if args[1] == "-" {
				return unseal(cmd.OutOrStdout(), in, ids)
			}
			return replaceFile(args[1], func(w io.Writer) error { return unseal(w, in, ids) })
		},
	}
	cmd.Flags().StringVar(&identity, "identity", "", "file with the age identity of the image's owner")
	return cmd
}

// unseal decrypts.
func unseal(out io.Writer, in io.Reader, ids []age.Identity) error {
	r, err := age.Decrypt(bufio.NewReaderSize(in, 64<<10), ids...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "it is encrypted to somebody else", Remedy: "give the identity of the image's owner, see keel image show"}
	}
	if err != nil {
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "it is no file of age", Remedy: "name one that was sealed", Err: err}
	}
	buf := make([]byte, 64<<10)
	for {
		n, bad := r.Read(buf)
		if _, err := out.Write(buf[:n]); err != nil {
			return err
		}
		switch {
		case errors.Is(bad, io.EOF):
			return nil
		case bad != nil:
			return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "it is damaged, or was cut off", Remedy: "fetch it again", Err: bad}
		}
	}
}

// replaceFile writes a file that is there when it is complete, and for its owner alone.
func replaceFile(path string, write func(io.Writer) error) error {
	cannot := func(err error) error {
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("cannot write %s", path), Remedy: "make room, or name a file elsewhere", Err: err}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".keel-*")
	if err != nil {
		return cannot(err)
	}
	defer os.Remove(tmp.Name()) // fails once renamed
	err = write(tmp)
	if _, ok := errors.AsType[*handoff.Failure](err); ok {
		_ = tmp.Close() // there is a cause already
		return err
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return cannot(err)
	}
	return nil
}

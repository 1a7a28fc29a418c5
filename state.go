package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/paravisor/gueststate"
	"keel/vtpm/nv"
)

func stateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "state", Short: "Look at, save and give up the TPM state of a VM"}
	cmd.AddCommand(stateShowCommand(), stateBackupCommand(), stateResetCommand())
	return cmd
}

// stateSummary is what "keel state show --json" prints.
type stateSummary struct {
	File string `json:"file"`
	*gueststate.Summary
	TPM *tpmSummary `json:"tpm,omitempty"` // of a state that a key opened
}

// tpmSummary is what the sealed content says.
type tpmSummary struct {
	Progress uint32 `json:"manufacture_progress"`
	Engine   int    `json:"engine_bytes"`
	PPI      bool   `json:"ppi_request"` // a physical presence request waits for the next boot
}

// stateShowCommand prints what is on a state disk. A disk with which no VM would start
// is printed too, and then ends in the error that the VM would end in.
func stateShowCommand() *cobra.Command {
	var asJSON bool
	var key string
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print what is on a state disk, and whether a VM would start with it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			provider, err := stateKey(key)
			if err != nil {
				return err
			}
			s, err := showState(args[0], provider)
			if s == nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return errors.Join(err, e.Encode(s))
			}
			return errors.Join(err, s.describe(cmd.OutOrStdout()))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&key, "key", "", "file with the key; without it nothing is authenticated")
	return cmd
}

// stateKey returns the provider of a key file; no name is no key.
func stateKey(path string) (gueststate.Provider, error) {
	if path == "" {
		return nil, nil
	}
	key, err := readKey(path)
	if err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeUsage, Cause: "--key", Err: err, Remedy: "name a file with 32 bytes or 64 hexadecimal digits",
		}
	}
	return gueststate.HostKey(key)
}

// readKey reads a key file.
func readKey(path string) ([]byte, error) {
	const most = 1 << 10 // bytes
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, err
	}
	return gueststate.ParseKey(b)
}

// showState reads a state disk. With the error of a disk that no VM would start with
// comes what there is to say about it.
func showState(path string, provider gueststate.Provider) (*stateSummary, error) {
	f, err := gueststate.OpenFile(path, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found, err := gueststate.Inspect(f, provider)
	if found == nil {
		return nil, err
	}
	s := &stateSummary{File: path, Summary: found}
	if err != nil || !found.Opened || len(found.Content) == 0 {
		return s, err
	}
	content, err := nv.Decode(found.Content)
	if err != nil {
		f := &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: "TPM state", Err: err, Remedy: "use the Keel that wrote it or a later one"}
		s.Problem = f.Error()
		return s, f
	}
	s.TPM = &tpmSummary{Progress: content.Progress, Engine: len(content.Engine), PPI: len(content.PPI) > 0}
	return s, nil
}

// describe prints a summary for people.
func (s *stateSummary) describe(w io.Writer) error {
	verdict := "a VM takes slot " + s.Use
	switch {
	case s.Problem != "":
		verdict = "no VM starts with it"
	case s.Empty:
		verdict = "empty: a VM makes a new TPM"
	case s.Recovered:
		verdict += "; the other one is not intact: a commit was interrupted, or the slot was damaged"
	case s.Spliced:
		verdict += "; the slots do not follow each other: the disk lost a write or was rolled back in part"
	}
	if !s.Opened && !s.Empty && s.Problem == "" {
		verdict += ", if its key fits"
	}
	_, err := fmt.Fprintf(w, "%s: TPM state disk, %d bytes; %s\n", s.File, s.Bytes, verdict)
	for _, slot := range s.Slots {
		line := fmt.Sprintf("slot %s: %s", slot.Name, slot.Condition)
		if slot.VM != "" {
			line += fmt.Sprintf(", format %d, sequence %d, %d bytes, VM %q, key of %s", slot.Format, slot.Sequence, slot.Bytes, slot.VM, slot.Provider)
		}
		if slot.Cause != "" && slot.Cause != string(slot.Condition) {
			line += " (" + slot.Cause + ")"
		}
		_, e := fmt.Fprintln(w, line)
		err = errors.Join(err, e)
	}
	if t := s.TPM; t != nil {
		_, e := fmt.Fprintf(w, "TPM: manufactured (step %d), %d bytes of the engine, physical presence request waits: %v\n", t.Progress, t.Engine, t.PPI)
		err = errors.Join(err, e)
	}
	return err
}

// stateBackupCommand copies a state disk as it is.
func stateBackupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE OUT",
		Short: "Copy a state disk that no VM uses into a new file",
		Long: "Copy a state disk that no VM uses into a new file, byte for byte. The copy is sealed as the\n" +
			"original is. Whoever starts a VM with it takes the TPM back to that moment.",
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := gueststate.OpenFile(args[0], false)
			if err != nil {
				return err
			}
			defer f.Close()
			// A damaged state is worth a copy, something else is a mistake.
			if _, err := gueststate.Inspect(f, nil); errors.Is(err, gueststate.ErrForeign) || errors.Is(err, gueststate.ErrSize) {
				return err
			}
			return backupState(f, args[1])
		},
	}
}

// backupState copies an open state disk into a file that does not exist yet.
func backupState(f *gueststate.File, path string) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		remedy := "name a file that can be made"
		if errors.Is(err, fs.ErrExist) {
			remedy = "name a file that does not exist yet"
		}
		return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "cannot make the backup", Err: err, Remedy: remedy}
	}
	if _, err = io.Copy(out, f.Reader()); err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close(), syncFolder(filepath.Dir(path))); err != nil {
		os.Remove(path)
		return &handoff.Failure{Outcome: handoff.OutcomeBadState, Cause: "cannot make the backup", Err: err, Remedy: "see that there is space left"}
	}
	return nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// stateResetCommand makes a state disk an empty one.
func stateResetCommand() *cobra.Command {
	var yes bool
	var backup string
	cmd := &cobra.Command{
		Use:   "reset FILE",
		Short: "Empty a state disk: the VM gets a new TPM, all keys of the old one are lost",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if !yes && backup == "" {
				return &handoff.Failure{
					Outcome: handoff.OutcomeUsage, Cause: "a reset loses all keys of the TPM, and what is sealed with them",
					Remedy: "add --backup FILE to keep a copy, or --yes to keep none",
				}
			}
			f, err := gueststate.OpenFile(args[0], true)
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err := gueststate.Inspect(f, nil); errors.Is(err, gueststate.ErrForeign) || errors.Is(err, gueststate.ErrSize) {
				return err
			}
			if backup != "" {
				if err := backupState(f, backup); err != nil {
					return err
				}
			}
			return gueststate.Wipe(f)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "keep no copy")
	cmd.Flags().StringVar(&backup, "backup", "", "file that gets a copy first")
	return cmd
}

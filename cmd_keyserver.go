package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/keyserver"
)

const keyserverHelp = `Release the keys with which confidential VMs seal their TPMs' states, each to a VM whose evidence
the policy accepts (keel run --tpm-seal released). For tests and small installations.

The folder gets a file for each VM, with a key that is made when the VM asks for the first time.
Whoever loses it loses the states: keep a backup. A second file has the newest state that the VM has
reported: an older one is refused, until "keel keyserver allow-rollback" lets it in once. The log on
stderr has a line for each release, report and refusal. SIGTERM ends the server once the exchanges under way have ended.`

// keyserverFlags are the flags of "keel keyserver".
type keyserverFlags struct {
	listen, policy, keys, signingKey string
	allowEmulated, allowDebug        bool
	logJSON                          bool
}

func keyserverCommand() *cobra.Command {
	var f keyserverFlags
	cmd := &cobra.Command{
		Use:   "keyserver",
		Short: "Release keys of TPM states against evidence",
		Long:  keyserverHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	s := cmd.Flags()
	s.StringVar(&f.listen, "listen", "", "address: HOST:PORT, or the path of a Unix socket with a slash in it")
	s.StringVar(&f.policy, "policy", "", "file with the VMs and what their evidence must say")
	s.StringVar(&f.keys, "keys", "", "folder of the keys, for its owner alone")
	s.StringVar(&f.signingKey, "signing-key", "", "file that 'keel keyserver keygen' has made")
	s.BoolVar(&f.allowEmulated, "allow-emulated", false, "let the policy accept evidence of Keel's emulated TEE, which proves nothing")
	s.BoolVar(&f.allowDebug, "allow-debug", false, "let the policy accept VMs that their hosts may look into")
	s.BoolVar(&f.logJSON, "log-json", false, "write the log as JSON lines")
	cmd.AddCommand(keygenCommand(), allowRollbackCommand())
	return cmd
}

const allowRollbackHelp = `Let a VM start once with a state that is older than one that it has reported, such as a backup, or
with an empty one. It then goes on counting above all states that were reported, which are refused
from then on. The server may run meanwhile. A VM that starts without needing it uses it up, too.`

// allowRollbackCommand lets an older state in.
func allowRollbackCommand() *cobra.Command {
	var keys string
	cmd := &cobra.Command{
		Use:   "allow-rollback --keys DIR VM",
		Short: "Let a VM start once with an older state",
		Long:  allowRollbackHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keys == "" {
				return usage("--keys is missing", "see keel keyserver allow-rollback --help")
			}
			sequence, err := keyserver.AllowRollback(keys, args[0])
			if err != nil {
				return keyserverFailure(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "VM %s may start once with a state older than that of sequence number %d\n", args[0], sequence)
			return err
		},
	}
	cmd.Flags().StringVar(&keys, "keys", "", "folder of the keys")
	return cmd
}

// keygenCommand makes what the server signs with.
func keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a signing key, and print the public key that VMs must know",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			public, err := keyserver.NewSigningKey(args[0])
			if err != nil {
				return keyserverFailure(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%x\n", public)
			return err
		},
	}
}

// run serves until ctx ends.
func (f *keyserverFlags) run(ctx context.Context, out, logTo io.Writer) error {
	for _, needed := range []struct{ flag, value string }{
		{"--listen", f.listen}, {"--policy", f.policy}, {"--keys", f.keys}, {"--signing-key", f.signingKey},
	} {
		if needed.value == "" {
			return usage(needed.flag+" is missing", "see keel keyserver --help")
		}
	}
	network, address, err := handoff.ParseKeyServer(f.listen)
	if err != nil {
		return err
	}
	c := keyserver.Config{
		Keys: f.keys, Log: slog.New(slog.NewTextHandler(logTo, nil)),
		Options: keyserver.Options{AllowEmulated: f.allowEmulated, AllowDebug: f.allowDebug},
	}
	if f.logJSON {
		c.Log = slog.New(slog.NewJSONHandler(logTo, nil))
	}
	if c.Policy, err = keyserver.ReadPolicy(f.policy); err != nil {
		return keyserverFailure(err)
	}
	if c.Signer, err = keyserver.ReadSigningKey(f.signingKey); err != nil {
		return keyserverFailure(err)
	}
	server, err := keyserver.New(c)
	if err != nil {
		return keyserverFailure(err)
	}
	defer server.Close()
	listener, err := listen(ctx, network, address)
	if err != nil {
		return keyserverFailure(fmt.Errorf("%w: %w; use an address of this host that is free", keyserver.ErrListen, err))
	}
	if _, err := fmt.Fprintf(out, "listening on %s, VMs: %d, public key: %x\n", listener.Addr(), c.Policy.VMs(), server.Public()); err != nil {
		return errors.Join(err, listener.Close())
	}
	if f.allowEmulated {
		c.Log.Warn("emulated evidence is allowed, which proves nothing: whoever has Keel can have these keys released")
	}
	err = server.Serve(ctx, listener)
	c.Log.Info("end", "stats", server.Stats())
	return keyserverFailure(err)
}

// listen listens, in the place of a socket that a server which was killed has left.
func listen(ctx context.Context, network, address string) (net.Listener, error) {
	if network == "unix" {
		info, err := os.Lstat(address)
		if err == nil && info.Mode().Type() == fs.ModeSocket {
			if c, err := (&net.Dialer{}).DialContext(ctx, network, address); err == nil {
				return nil, errors.Join(fmt.Errorf("somebody listens on %s already", address), c.Close())
			}
			if err := os.Remove(address); err != nil {
				return nil, err
			}
		}
	}
	return (&net.ListenConfig{}).Listen(ctx, network, address)
}

// keyserverFailure says with which outcome an error ends the server. The errors have
// remedies of their own.
func keyserverFailure(err error) error {
	for _, o := range []struct {
		err     error
		outcome handoff.Outcome
		cause   string
	}{
		{keyserver.ErrPolicy, handoff.OutcomeBadConfig, "--policy"},
		{keyserver.ErrSigningKey, handoff.OutcomeUsage, "signing key"},
		{keyserver.ErrKeys, handoff.OutcomeBadState, "--keys"},
		{keyserver.ErrKeyFile, handoff.OutcomeBadState, "--keys"},
		{keyserver.ErrAllow, handoff.OutcomeUsage, "key server"},
		{keyserver.ErrListen, handoff.OutcomeHostRefused, "--listen"},
	} {
		if errors.Is(err, o.err) {
			return &handoff.Failure{Outcome: o.outcome, Cause: o.cause, Err: err}
		}
	}
	return err
}

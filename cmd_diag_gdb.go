package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"keel/boot/handoff"
	"keel/diag/client"
)

// gdbCommand lets gdb debug a guest.
func gdbCommand() *cobra.Command {
	var listen string
	var start, asJSON bool
	cmd := &cobra.Command{
		Use:   "gdb VM [-- ARGUMENTS OF GDB]",
		Short: "Let gdb debug the guest",
		Long: "Let gdb debug the guest: print a target for gdb and serve it until Ctrl-C, or start gdb.\n" +
			"The guest stands while gdb is connected and does not let it run; it runs when gdb has gone.",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 && !start {
				return &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "arguments for gdb, which is not started", Remedy: "use --exec"}
			}
			ctx := cmd.Context()
			return withVM(ctx, args[0], func(c *client.Client) error {
				// What is refused is refused before anything is printed or started.
				if err := c.CanDebug(ctx); err != nil {
					return err
				}
				l, clean, err := debugListener(ctx, listen)
				if err != nil {
					return err
				}
				defer clean()
				if start {
					return runGDB(ctx, cmd, c, l, args[1:])
				}
				if err := printTarget(cmd.OutOrStdout(), l, asJSON); err != nil {
					return err
				}
				return proxy(ctx, c, l)
			})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "loopback address and port to listen on, instead of a socket that only this user reaches")
	cmd.Flags().BoolVar(&start, "exec", false, "start gdb")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// debugListener listens for gdb: on a loopback address, or on a Unix socket that clean
// removes.
func debugListener(ctx context.Context, address string) (l net.Listener, clean func(), err error) {
	var config net.ListenConfig
	if address != "" {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			return nil, nil, &handoff.Failure{
				Outcome: handoff.OutcomeUsage, Cause: fmt.Sprintf("--listen %q is no loopback address with a port", address), Remedy: "use 127.0.0.1:1234",
			}
		}
		if l, err = config.Listen(ctx, "tcp", address); err != nil {
			return nil, nil, &handoff.Failure{Outcome: handoff.OutcomeUsage, Cause: "cannot listen", Err: err, Remedy: "use another port"}
		}
		return l, func() { _ = l.Close() }, nil
	}
	dir, err := os.MkdirTemp("", "keel-gdb-")
	if err != nil {
		return nil, nil, err
	}
	if l, err = config.Listen(ctx, "unix", filepath.Join(dir, "socket")); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return l, func() { _, _ = l.Close(), os.RemoveAll(dir) }, nil
}

// printTarget says what gdb is to connect to.
func printTarget(w io.Writer, l net.Listener, asJSON bool) error {
	target := l.Addr().String()
	if asJSON {
		return writeJSON(w, struct {
			Target string `json:"target"`
		}{target})
	}
	_, err := fmt.Fprintf(w, "target remote %s\n", target)
	return err
}

// proxy connects those who come with the VM, one after the other, until ctx ends.
func proxy(ctx context.Context, c *client.Client, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		debugger, err := l.Accept()
		if err == nil {
			err = join(ctx, c, debugger)
		}
		if ctx.Err() != nil {
			return nil // Ctrl-C is the end of it
		}
		if err != nil {
			return err
		}
	}
}

// join connects a debugger with the VM until one of them, or ctx, ends.
func join(ctx context.Context, c *client.Client, debugger net.Conn) error {
	defer debugger.Close()
	vm, err := c.Debug(ctx)
	if err != nil {
		return err
	}
	defer vm.Close()
	ends := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // an error is an end like another
		ends <- struct{}{}
	}
	go carry(vm, debugger)
	go carry(debugger, vm)
	select {
	case <-ends:
	case <-ctx.Done():
	}
	return nil
}

// runGDB starts gdb and serves it until it ends. Ctrl-C is gdb's: it stops the guest.
func runGDB(ctx context.Context, cmd *cobra.Command, c *client.Client, l net.Listener, args []string) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	gdb := exec.CommandContext(ctx, "gdb", append([]string{"-ex", "target remote " + l.Addr().String()}, args...)...)
	gdb.Stdin, gdb.Stdout, gdb.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := gdb.Start(); err != nil {
		return &handoff.Failure{Outcome: handoff.OutcomeHostRefused, Cause: "gdb does not start", Err: err, Remedy: "install it: apt-get install gdb"}
	}
	served := make(chan error, 1)
	go func() { served <- proxy(ctx, c, l) }()
	_ = gdb.Wait() // how it ended is what it has said itself
	cancel()
	return <-served
}

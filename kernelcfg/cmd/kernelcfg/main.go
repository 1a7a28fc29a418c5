// Command kernelcfg builds the VTL2 kernel and fetches guest files, for make.
//
//	kernelcfg build release|debug|hyperv|bench   prints the path of the bzImage
//	kernelcfg try FLAVOUR                  compiles what no other flavour has
//	kernelcfg fetch source|6.1|5.10|busybox   prints the path of the file
//	kernelcfg check FLAVOUR CONFIG         asserts a .config
//	kernelcfg apt                          prints the Debian packages that a build needs
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"keel/kernelcfg"
)

var errUsage = errors.New("usage: kernelcfg build|try FLAVOUR | fetch source|6.1|5.10|busybox | check FLAVOUR CONFIG | apt")

func main() {
	// An interrupted build must end its children and remove its tree.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernelcfg:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, out)
}

// run performs one command and returns what goes to standard output.
func run(ctx context.Context, args []string) (string, error) {
	switch {
	case len(args) == 2 && (args[0] == "build" || args[0] == "try"):
		f, err := kernelcfg.ParseFlavour(args[1])
		if err != nil {
			return "", err
		}
		if args[0] == "try" {
			return kernelcfg.Try(ctx, f)
		}
		return kernelcfg.Build(ctx, f)
	case len(args) == 2 && args[0] == "fetch":
		switch args[1] {
		case "source":
			return kernelcfg.Fetch(ctx)
		case "busybox":
			return kernelcfg.Busybox(ctx)
		}
		return kernelcfg.GuestKernel(ctx, args[1])
	case len(args) == 3 && args[0] == "check":
		return check(args[1], args[2])
	case len(args) == 1 && args[0] == "apt":
		return strings.Join(kernelcfg.AptPackages(), " "), nil
	}
	return "", errUsage
}

// check asserts a configuration that something else has made.
func check(flavour, path string) (string, error) {
	f, err := kernelcfg.ParseFlavour(flavour)
	if err != nil {
		return "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	c, err := kernelcfg.ParseConfig(file)
	if err != nil {
		return "", err
	}
	return path + ": as it must be", kernelcfg.Check(f, c)
}

package kernelcfg

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"keel/kernelcfg/deb"
)

// tpmTools are the tools of GuestTPMTools. The multi-call program tpm2 is all of
// tpm2-tools; tctildr opens the library that speaks to /dev/tpm0.
var tpmTools = toolKit{programs: []string{"dash", "tpm2"}, opened: []string{"libtss2-tcti-device.so.0"}, sets: tpmToolSets}

// curlLibrary is what tpm2 needs for one command, which fetches certificates from a
// vendor's web site. With it come 25 libraries of 11 MB, a guest without a network
// cannot use it, and the loader asks for all of it before any command runs.
const curlLibrary = "libcurl-gnutls.so.4"

// curlStub stands in for curlLibrary: all its functions fail.
var (
	//go:embed curlstub/curl.c
	curlStub []byte
	//go:embed curlstub/curl.map
	curlStubVersions []byte
)

// GuestTPMTools returns Debian's tpm2-tools as bin/tpm2 ("tpm2 getcap" is
// tpm2_getcap), with a shell and the libraries that both need, fetching them when
// needed. A stub takes the place of libcurl. Errors: ErrGuest and ErrBuild.
func GuestTPMTools(ctx context.Context) ([]GuestFile, error) {
	cache, err := deb.Default()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuest, err)
	}
	stub, err := takeCurlStub(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBuild, curlLibrary, err)
	}
	kit := tpmTools
	kit.given = map[string]string{curlLibrary: stub}
	files, err := takeTools(ctx, cache, kit)
	if err != nil {
		return nil, fmt.Errorf("%w: TPM tools: %w", ErrGuest, err)
	}
	return files, nil
}

// takeCurlStub returns the stub in the user's cache, which it makes when it is not there.
func takeCurlStub(ctx context.Context, cache *deb.Cache) (string, error) {
	sum := sha256.Sum256(append(append([]byte{}, curlStub...), curlStubVersions...))
	dir := filepath.Join(filepath.Dir(cache.Dir), "guest", "curlstub-"+hex.EncodeToString(sum[:])[:16])
	stub := filepath.Join(dir, curlLibrary)
	if isFile(stub) {
		return stub, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "curlstub-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work) // fails when it has become dir
	source, versions := filepath.Join(work, "curl.c"), filepath.Join(work, "curl.map")
	if err := errors.Join(os.WriteFile(source, curlStub, 0o644), os.WriteFile(versions, curlStubVersions, 0o644)); err != nil {
		return "", err
	}
	err = runTool(ctx, work, nil, "gcc", "-shared", "-fPIC", "-O2", "-nostdlib", "-s", "-Wl,-soname,"+curlLibrary,
		"-Wl,--version-script,"+versions, "-o", filepath.Join(work, curlLibrary), source)
	if err != nil {
		return "", err
	}
	if err := os.Rename(work, dir); err != nil && !isFile(stub) { // another process may have been first
		return "", err
	}
	return stub, nil
}

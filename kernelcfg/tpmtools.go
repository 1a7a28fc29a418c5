package kernelcfg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"keel/kernelcfg/deb"
)

// tpmTools are the tools of GuestTPMTools. The multi-call program tpm2 is all of
// tpm2-tools; tctildr opens the library that speaks to /dev/tpm0, systemd's programs open
// all that they need of the TPM.
var tpmTools = toolKit{
	programs: []string{"dash", "tpm2", "cryptsetup", "systemd-cryptenroll", "systemd-cryptsetup"},
	opened:   []string{"libtss2-tcti-device.so.0", "libtss2-esys.so.0", "libtss2-mu.so.0", "libtss2-rc.so.0"},
	sets:     tpmToolSets,
}

// curlLibrary is what tpm2 needs for one command, which fetches certificates from a
// vendor's web site. With it come 25 libraries of 11 MB, a guest without a network
// cannot use it, and the loader asks for all of it before any command runs. Guests get
// an empty library of that name, in which the loader finds curlFunctions, at address 0.
const (
	curlLibrary  = "libcurl-gnutls.so.4"
	curlVersions = "CURL_GNUTLS_3 { global: curl_*; local: *; };\n"
)

// curlFunctions are those that tpm2 imports.
var curlFunctions = []string{
	"curl_easy_cleanup", "curl_easy_escape", "curl_easy_init", "curl_easy_perform", "curl_easy_setopt",
	"curl_easy_strerror", "curl_easy_unescape", "curl_free", "curl_global_cleanup", "curl_global_init",
}

// GuestTPMTools returns Debian's tpm2-tools as bin/tpm2 ("tpm2 getcap" is
// tpm2_getcap), cryptsetup and systemd's tools for encrypted disks (systemd-cryptsetup
// lies in lib/systemd), with a shell and the libraries that all need, fetching them when
// needed. An empty library takes the place of libcurl. Errors: ErrGuest and ErrBuild.
func GuestTPMTools(ctx context.Context) ([]GuestFile, error) {
	cache, err := deb.Default()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuest, err)
	}
	curl, err := emptyCurl(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBuild, curlLibrary, err)
	}
	kit := tpmTools
	kit.given = map[string]string{curlLibrary: curl}
	files, err := takeTools(ctx, cache, kit)
	if err != nil {
		return nil, fmt.Errorf("%w: TPM tools: %w", ErrGuest, err)
	}
	return files, nil
}

// emptyCurl returns the empty library in the user's cache, which it makes when it is not
// there.
func emptyCurl(ctx context.Context, cache *deb.Cache) (string, error) {
	sum := sha256.Sum256([]byte(curlVersions + strings.Join(curlFunctions, " ")))
	dir := filepath.Join(filepath.Dir(cache.Dir), "guest", "curl-"+hex.EncodeToString(sum[:])[:16])
	library := filepath.Join(dir, curlLibrary)
	if isFile(library) {
		return library, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "curl-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work) // fails when it has become dir
	versions := filepath.Join(work, "versions")
	if err := os.WriteFile(versions, []byte(curlVersions), 0o644); err != nil {
		return "", err
	}
	args := []string{"-shared", "-nostdlib", "-s", "-Wl,-soname," + curlLibrary, "-Wl,--version-script," + versions}
	for _, f := range curlFunctions {
		args = append(args, "-Wl,--defsym="+f+"=0")
	}
	args = append(args, "-o", filepath.Join(work, curlLibrary), "-x", "c", os.DevNull)
	if err := runTool(ctx, work, nil, "gcc", args...); err != nil {
		return "", err
	}
	if err := os.Rename(work, dir); err != nil && !isFile(library) { // another process may have been first
		return "", err
	}
	return library, nil
}

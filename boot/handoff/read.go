package handoff

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// SysDir is where Linux shows the setup_data nodes of boot_params
// (Documentation/ABI/testing/sysfs-kernel-boot_params).
const SysDir = "/sys/kernel/boot_params/setup_data"

// maxNodes bounds the search; the shim passes one node, kexec and EFI a handful.
const maxNodes = 32

// Read finds the handoff among the setup_data nodes below dir (SysDir, or a
// copy of it) and parses it. It returns ErrNotFound when there is none.
func Read(dir string) (*Handoff, error) {
	for i := range maxNodes {
		node := filepath.Join(dir, strconv.Itoa(i))
		text, err := readBounded(filepath.Join(node, "type"), 64)
		if errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return nil, err
		}
		// The kernel prints the type as 0x%x and knows no names for it.
		t, err := strconv.ParseUint(strings.TrimSpace(string(text)), 0, 32)
		if err != nil || t != SetupDataType {
			continue
		}
		data, err := readBounded(filepath.Join(node, "data"), MaxBytes)
		if err != nil {
			return nil, err
		}
		return Parse(data)
	}
	return nil, fmt.Errorf("%w in %s", ErrNotFound, dir)
}

// readBounded reads at most limit bytes of a file and refuses a longer one. The
// files of sysfs report no useful size, so the length is found by reading.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, path, limit)
	}
	return b, nil
}

// Package measure computes what hardware or firmware will measure when a host
// loads an IGVM file: the launch digest of SEV-SNP and the MRTD of TDX. It also
// builds, signs and checks the ID block by which an SNP guest's owner names the
// one digest that may run, and reads the policy words of both platforms.
//
// Specifications: SEV Secure Nested Paging Firmware ABI (AMD 56860), sections
// 4.3 (guest policy), 8.17 (SNP_LAUNCH_UPDATE) and 8.18 (SNP_LAUNCH_FINISH);
// Intel TDX Module Base Architecture and ABI (TDH.MEM.PAGE.ADD, TDH.MR.EXTEND,
// ATTRIBUTES, XFAM); igvm_defs of github.com/microsoft/igvm.
package measure

import (
	"encoding/hex"
	"errors"
	"fmt"

	"keel/boot/igvm"
	"keel/boot/layout"
)

// DigestSize is the size of a SHA-384 digest in bytes: both platforms use it.
const DigestSize = 48

// maxPages bounds the private pages of one measurement: 4 GiB, all that the
// boot page tables map. A page of zeros costs a file 32 bytes, the measurer
// some kilobytes of hashing.
const maxPages = 4 << 30 / igvm.PageSize

// Errors of Measure. Each says what is wrong with the file as a whole; the text
// behind it says where.
var (
	ErrPlatform   = errors.New("image has no such platform")
	ErrAmbiguous  = errors.New("image would be measured differently by different loaders")
	ErrUnloadable = errors.New("image cannot be loaded on this platform")
)

// Digest is a SHA-384 digest: a launch digest, an MRTD, or that of a part.
type Digest [DigestSize]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler with String's form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler: 96 hexadecimal digits.
func (d *Digest) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != DigestSize || len(b)%2 != 0 {
		return fmt.Errorf("digest of %d digits instead of %d", len(b), 2*DigestSize)
	}
	if _, err := hex.Decode(d[:], b); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	return nil
}

// Options say which loader is to be predicted and how the parts are named.
type Options struct {
	// NativeZero is for SNP and predicts loaders that give a page without file
	// data the firmware's type ZERO. Without it such a page is a NORMAL page full
	// of zeros, as in the igvm crate. An image that stores its zero pages as data
	// has one digest for all loaders.
	NativeZero bool
	// QEMU is for SNP and predicts QEMU with KVM: NativeZero, and what they would
	// load otherwise than the file says is refused by name.
	QEMU bool
	// Regions name the parts; where one begins or ends, a part does too. Pages
	// outside all regions belong to parts without a name.
	Regions []layout.Region
}

// Result is the measurement of one platform of an image. It marshals to JSON.
type Result struct {
	Platform igvm.PlatformType `json:"-"`
	Mask     uint32            `json:"-"`      // the platform's compatibility mask
	Digest   Digest            `json:"digest"` // launch digest or MRTD
	// Policy is the GUEST_POLICY of the platform, zero without one. It is not in
	// the digest; SNP reports it beside the digest, and the ID block covers it.
	Policy    uint64 `json:"policy"`
	HasPolicy bool   `json:"has_policy"`
	Parts     []Part `json:"parts"` // in the order of loading
	// DatalessPages counts the measured pages that the file has no data for: on
	// SNP their digest depends on NativeZero.
	DatalessPages int `json:"dataless_pages"`
	// SharedPages counts the pages left out as the host's. Tools that overlook
	// the flag, igvmmeasure and QEMU among them, measure these, too.
	SharedPages int              `json:"shared_pages"`
	IDBlock     *igvm.SNPIDBlock `json:"-"` // of the file, nil without one
}

// Measure computes the measurement of one platform, which must be
// igvm.PlatformSNP or igvm.PlatformTDX. Pages are hashed where they lie: memory
// is that of the parts and of a bitmap of addresses, not of the file.
// Preconditions: f comes from igvm.Read, or igvm.Write would accept it.
func Measure(f *igvm.File, platform igvm.PlatformType, o Options) (*Result, error) {
	mask, err := findPlatform(f, platform)
	if err != nil {
		return nil, err
	}
	r := &Result{Platform: platform, Mask: mask}
	w := newWalker(r, o)
	if platform == igvm.PlatformSNP {
		w.machine = &snpChain{}
	} else {
		w.machine = newTDXRecord()
	}
	for _, h := range f.Headers {
		if err := w.header(h); err != nil {
			return nil, err
		}
	}
	if w.qemu && w.contexts == 0 {
		return nil, fmt.Errorf("%w: no VP_CONTEXT; QEMU needs one", ErrUnloadable)
	}
	w.parts.close()
	r.Parts = w.parts.list
	r.Digest = w.machine.sum()
	return r, nil
}

// findPlatform returns the mask of the one platform of the given type.
func findPlatform(f *igvm.File, platform igvm.PlatformType) (uint32, error) {
	if platform != igvm.PlatformSNP && platform != igvm.PlatformTDX {
		return 0, fmt.Errorf("%w: %v is not measured by hardware; use snp or tdx", ErrPlatform, platform)
	}
	mask := uint32(0)
	for _, h := range f.Headers {
		p, ok := h.(*igvm.SupportedPlatform)
		if !ok || p.Platform != platform {
			continue
		}
		// Loaders take the first or the last of them.
		if mask != 0 {
			return 0, fmt.Errorf("%w: two %v platforms, masks %#x and %#x", ErrAmbiguous, platform, mask, p.Mask)
		}
		mask = p.Mask
	}
	if mask == 0 {
		return 0, fmt.Errorf("%w: %v; build the image with it", ErrPlatform, platform)
	}
	return mask, nil
}

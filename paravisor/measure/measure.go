// Package measure is the measured boot of a Linux guest that has no firmware but Keel:
// it turns what the guest is given into events, extends them into the TPM, and
// computes offline what PCRs a verifier should expect.
//
//	PCR  type                            digest of                        event data
//	0    EV_S_CRTM_VERSION               the data                         version of Keel, UTF-16
//	0    EV_POST_CODE                    Keel's image                     its name
//	1    EV_PLATFORM_CONFIG_FLAGS        the data                         configuration, without the command line
//	1    EV_PLATFORM_CONFIG_FLAGS        the data                         what Keel adds to the command line, by name
//	1    EV_PLATFORM_CONFIG_FLAGS        a table (ACPI DATA, SMBIOS)      its name
//	7    EV_EFI_VARIABLE_DRIVER_CONFIG   the data                         SecureBoot = 0; PK, KEK, db, dbx empty
//	0–7  EV_SEPARATOR                    the data                         four bytes of zero
//	4    EV_COMPACT_HASH                 the kernel's file                its name
//	9    EV_EVENT_TAG                    the initrd                       the tag that Linux's EFI stub uses
//	12   EV_IPL                          the data                         the command line, UTF-16 with its NUL
//
// PCRs 0 to 7 are the platform firmware's in the profile. The tables depend on the
// configuration and go to PCR 1, as OVMF does on QEMU. The kernel is what the firmware
// boots: PCR 4. There is no PE loader, hence the digest is that of the file and not an
// Authenticode digest. The initrd goes where Linux's EFI stub measures it (PCR 9, UAPI
// group's Linux TPM PCR Registry), the command line where systemd-boot and
// systemd-stub measure it (PCR 12), in the bytes that they hash, so that systemd-pcrlock
// predicts both. Nothing is measured twice: one changed byte of the kernel, the initrd
// or the command line changes one PCR. PCR 8 (GRUB) and 11 (systemd-stub) stay zero, as
// neither has run; a guest's systemd-pcrphase extends 11 itself.
//
// PCR 7 says what is true: nobody checks signatures. It says so in UEFI variables, as
// that is what verifiers look for.
//
// Specifications: TCG PC Client Platform Firmware Profile (PFP) 1.06, §3.3.4 and §10.4;
// Linux TPM PCR Registry 1.0; systemd-stub(7).
package measure

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"keel/vtpm/eventlog"
)

// ErrInput reports inputs that cannot be measured without doubt.
var ErrInput = errors.New("measured boot: bad input")

// Object is something large whose digests are known, with the name under which the log
// has it.
type Object struct {
	Name    string
	Digests []eventlog.Digest // for all active banks at least
}

// Inputs are all that decides what the guest becomes.
type Inputs struct {
	Version string // of Keel
	Image   Object // Keel itself
	// Configuration is the canonical form of what the host asked for and the policy
	// allowed. It must not contain the command line, nor anything that depends on the
	// kernel's or the initrd's contents.
	Configuration []byte
	// Hints names the kernel parameters that Keel adds to CommandLine, such as the
	// frequency of a clock. Their values depend on the host and differ from boot to boot.
	Hints  string
	Tables []Object // ACPI and SMBIOS tables, as the guest finds them
	Kernel Object
	Initrd *Object // nil: none
	// CommandLine is what the user asked for. The guest gets it and then the hints.
	CommandLine string
}

// Bounds of what goes into the log, in bytes.
const (
	maxName          = 64
	maxConfiguration = 8 << 10
	maxCommandLine   = 8 << 10
	maxTables        = 32
)

// Hasher computes the digests of an Object while its bytes pass by. Whoever loads the
// guest writes to it exactly the bytes that the guest has, after the last moment at
// which the host could change them: of a kernel file the part before the first
// segment from the loader's own copy, then every segment from guest memory, then what
// follows.
type Hasher struct {
	banks  []eventlog.Algorithm
	hashes []hash.Hash
	all    io.Writer
}

// NewHasher returns a Hasher for some banks. Its errors are ErrInput.
func NewHasher(banks []eventlog.Algorithm) (*Hasher, error) {
	h := &Hasher{banks: banks}
	writers := make([]io.Writer, 0, len(banks))
	for _, a := range banks {
		n := a.New()
		if n == nil {
			return nil, fmt.Errorf("%w: the PCR bank %v is not known", ErrInput, a)
		}
		h.hashes, writers = append(h.hashes, n), append(writers, n)
	}
	h.all = io.MultiWriter(writers...)
	return h, nil
}

// Write implements io.Writer. It never fails.
func (h *Hasher) Write(p []byte) (int, error) { return h.all.Write(p) }

// Object returns what was written so far, with a name.
func (h *Hasher) Object(name string) Object {
	o := Object{Name: name}
	for i, a := range h.banks {
		o.Digests = append(o.Digests, eventlog.Digest{Algorithm: a, Value: h.hashes[i].Sum(nil)})
	}
	return o
}

// Read returns the Object of all that r has.
func Read(banks []eventlog.Algorithm, name string, r io.Reader) (Object, error) {
	h, err := NewHasher(banks)
	if err != nil {
		return Object{}, err
	}
	if _, err := io.Copy(h, r); err != nil {
		return Object{}, fmt.Errorf("%w: %s: %w", ErrInput, name, err)
	}
	return h.Object(name), nil
}

// Events returns the measurements in the order in which they happen, with digests for
// the banks in their order. Equal inputs give equal events. Its errors are ErrInput.
func Events(banks []eventlog.Algorithm, in Inputs) ([]eventlog.Event, error) {
	if err := in.check(banks); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	b := builder{banks: banks}
	b.data(0, eventlog.EVSCRTMVersion, utf16z(in.Version))
	b.object(0, eventlog.EVPostCode, in.Image, []byte(in.Image.Name))
	b.data(1, eventlog.EVPlatformConfigFlags, in.Configuration)
	if in.Hints != "" {
		b.data(1, eventlog.EVPlatformConfigFlags, []byte(in.Hints))
	}
	for _, t := range in.Tables {
		b.object(1, eventlog.EVPlatformConfigFlags, t, []byte(t.Name))
	}
	for _, v := range secureBoot() {
		b.data(7, eventlog.EVEFIVariableDriverConfig, v)
	}
	for pcr := range uint32(8) {
		b.data(pcr, eventlog.EVSeparator, make([]byte, 4))
	}
	b.object(4, eventlog.EVCompactHash, in.Kernel, []byte(in.Kernel.Name))
	if in.Initrd != nil {
		b.object(9, eventlog.EVEventTag, *in.Initrd, tagged(initrdTag, initrdName))
	}
	b.data(12, eventlog.EVIPL, utf16z(in.CommandLine))
	return b.events, nil
}

// Expected returns the PCRs of each bank after a boot with the inputs, up to the moment
// at which the guest starts. Its errors are ErrInput.
func Expected(banks []eventlog.Algorithm, in Inputs) (map[eventlog.Algorithm]eventlog.PCRs, error) {
	events, err := Events(banks, in)
	if err != nil {
		return nil, err
	}
	all := make(map[eventlog.Algorithm]eventlog.PCRs, len(banks))
	for _, a := range banks {
		if all[a], err = eventlog.Replay(events, a); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInput, err)
		}
	}
	return all, nil
}

func (in Inputs) check(banks []eventlog.Algorithm) error {
	// Text that is no UTF-8, or has a NUL, has no UTF-16 form of its own: two command
	// lines would measure the same.
	for _, s := range []string{in.Version, in.CommandLine, in.Hints} {
		if !utf8.ValidString(s) || strings.Contains(s, "\x00") || len(s) > maxCommandLine {
			return fmt.Errorf("%.40q is too long, no UTF-8 or contains a zero byte", s)
		}
	}
	if len(in.Configuration) > maxConfiguration {
		return fmt.Errorf("a configuration of %d bytes, at most %d are measured", len(in.Configuration), maxConfiguration)
	}
	if len(in.Tables) > maxTables {
		return fmt.Errorf("%d tables, at most %d are measured", len(in.Tables), maxTables)
	}
	objects := append([]Object{in.Image, in.Kernel}, in.Tables...)
	if in.Initrd != nil {
		objects = append(objects, *in.Initrd)
	}
	for _, o := range objects {
		if o.Name == "" || len(o.Name) > maxName {
			return fmt.Errorf("%.*q is no name of 1 to %d bytes", maxName, o.Name, maxName)
		}
		for _, a := range banks {
			if len(o.digest(a)) == 0 || len(o.digest(a)) != a.Size() {
				return fmt.Errorf("%s has no digest for the PCR bank %v", o.Name, a)
			}
		}
	}
	return nil
}

func (o Object) digest(a eventlog.Algorithm) []byte {
	for _, d := range o.Digests {
		if d.Algorithm == a {
			return d.Value
		}
	}
	return nil
}

// builder collects events.
type builder struct {
	banks  []eventlog.Algorithm
	events []eventlog.Event
}

// data adds an event whose data is what is measured.
func (b *builder) data(pcr uint32, kind eventlog.EventType, data []byte) {
	b.events = append(b.events, eventlog.Event{PCR: pcr, Type: kind, Digests: eventlog.Sum(b.banks, data), Data: data})
}

// object adds an event whose data only describes what is measured.
func (b *builder) object(pcr uint32, kind eventlog.EventType, o Object, data []byte) {
	e := eventlog.Event{PCR: pcr, Type: kind, Data: data}
	for _, a := range b.banks {
		e.Digests = append(e.Digests, eventlog.Digest{Algorithm: a, Value: o.digest(a)})
	}
	b.events = append(b.events, e)
}

// utf16z returns a string in UTF-16LE with a NUL at its end, as UEFI and systemd have it.
func utf16z(s string) []byte {
	units := append(utf16.Encode([]rune(s)), 0)
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		b = le.AppendUint16(b, u)
	}
	return b
}

package evidence

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"keel/hcl/abi/snp"
)

// SNPGuest is what the AMD-SP keeps of a guest since its launch.
type SNPGuest struct {
	Policy          uint64   // bits snp.POLICY_SMT and so on; ABI minor and major in bits 15:0
	Measurement     [48]byte // launch digest
	HostData        [32]byte
	FamilyID        [16]byte // from the ID block, as the following
	ImageID         [16]byte
	GuestSVN        uint32
	IDKeyDigest     [48]byte
	AuthorKeyDigest [48]byte
	AuthorKey       bool     // the ID block came with an author key
	ReportID        [32]byte // unlike any other guest's
	LaunchTCB       TCB      // the chip's if zero
}

// SNPRequest is what the guest asks for with MSG_REPORT_REQ.
type SNPRequest struct {
	Version    uint32 // of the report: 2 or 3; zero is 3
	Data       [64]byte
	VMPL       uint32 // not below the VMPL of who asks
	Requester  uint32 // the VMPL of who asks
	HideChipID bool   // MASK_CHIP_ID of the host's configuration
}

// noMigrationAgent fills REPORT_ID_MA of a guest that no migration agent serves.
const noMigrationAgent = 0xff

// Report returns the guest's attestation report, signed by the chip's VCEK. Its errors are
// ErrRequest where the guest may not have what it asks for.
func (c *Chip) Report(g *SNPGuest, req *SNPRequest) ([]byte, error) {
	version := req.Version
	if version == 0 {
		version = 3
	}
	switch {
	case version != 2 && version != 3:
		return nil, fmt.Errorf("%w: a report of version %d; ask for 2 or 3", ErrRequest, version)
	case req.VMPL > highestVMPL || req.VMPL < req.Requester:
		return nil, fmt.Errorf("%w: VMPL %d asks for a report of VMPL %d; ask for its own or a higher one", ErrRequest, req.Requester, req.VMPL)
	case g.Policy&snp.POLICY_RESERVED_ONE == 0:
		return nil, fmt.Errorf("%w: bit 17 of policy %#x is clear; set it", ErrRequest, g.Policy)
	}
	b := make([]byte, snp.REPORT_SIZE)
	le := binary.LittleEndian
	le.PutUint32(b[snp.REPORT_VERSION:], version)
	le.PutUint32(b[snp.REPORT_GUEST_SVN:], g.GuestSVN)
	le.PutUint64(b[snp.REPORT_POLICY:], g.Policy)
	copy(b[snp.REPORT_FAMILY_ID:], g.FamilyID[:])
	copy(b[snp.REPORT_IMAGE_ID:], g.ImageID[:])
	le.PutUint32(b[snp.REPORT_VMPL:], req.VMPL)
	le.PutUint32(b[snp.REPORT_SIGNATURE_ALGO:], snp.SIGNATURE_ECDSA_P384)
	signer := uint32(0)
	if g.AuthorKey {
		signer |= snp.REPORT_FLAG_AUTHOR_KEY
	}
	if req.HideChipID {
		signer |= snp.REPORT_FLAG_MASK_CHIP_KEY
	} else {
		copy(b[snp.REPORT_CHIP_ID:], c.id[:])
	}
	le.PutUint32(b[snp.REPORT_FLAGS:], signer)
	copy(b[snp.REPORT_DATA:], req.Data[:])
	copy(b[snp.REPORT_MEASUREMENT:], g.Measurement[:])
	copy(b[snp.REPORT_HOST_DATA:], g.HostData[:])
	copy(b[snp.REPORT_ID_KEY_DIGEST:], g.IDKeyDigest[:])
	copy(b[snp.REPORT_AUTHOR_KEY_DIGEST:], g.AuthorKeyDigest[:])
	copy(b[snp.REPORT_REPORT_ID:], g.ReportID[:])
	for i := range b[snp.REPORT_REPORT_ID_MA:snp.REPORT_REPORTED_TCB] {
		b[snp.REPORT_REPORT_ID_MA+i] = noMigrationAgent
	}
	if version >= 3 {
		b[snp.REPORT_CPUID_FAM_ID], b[snp.REPORT_CPUID_MOD_ID], b[snp.REPORT_CPUID_STEP] = chipFamily, chipModel, chipStepping
	}
	c.putVersions(b, g.LaunchTCB)
	if err := c.signReport(b); err != nil {
		return nil, err
	}
	return b, nil
}

// putVersions fills in what the report says of the firmware.
func (c *Chip) putVersions(b []byte, launch TCB) {
	if launch == 0 {
		launch = c.tcb
	}
	for _, at := range []int{snp.REPORT_CURRENT_TCB, snp.REPORT_REPORTED_TCB, snp.REPORT_COMMITTED_TCB} {
		binary.LittleEndian.PutUint64(b[at:], uint64(c.tcb))
	}
	binary.LittleEndian.PutUint64(b[snp.REPORT_LAUNCH_TCB:], uint64(launch))
	for _, at := range []int{snp.REPORT_CURRENT_BUILD, snp.REPORT_COMMITTED_BUILD} { // firmware 1.55, build 21
		b[at], b[at+1], b[at+2] = 21, 55, 1
	}
}

// KeyRequest is MSG_KEY_REQ.
type KeyRequest struct {
	VMRK      bool   // from the VM root key, which no emulated machine has
	Fields    uint64 // SelectPolicy and so on
	VMPL      uint32 // not below Requester
	GuestSVN  uint32 // not above the guest's
	TCB       TCB    // no level above the chip's
	Requester uint32 // the VMPL of who asks
}

// DeriveKey answers MSG_KEY_REQ (AMD 56860, "Key Derivation"): the same key for the same
// machine, guest and request, another one where a selected field differs. How the firmware
// mixes is not public; here it is HKDF-SHA-256 over the chosen fields in the order of their
// bits. Its errors are ErrRequest.
func (c *Chip) DeriveKey(g *SNPGuest, req *KeyRequest) (key [32]byte, err error) {
	switch {
	case req.VMRK:
		return key, fmt.Errorf("%w: no VM root key here; derive from the VCEK", ErrRequest)
	case req.Fields&^selectAll != 0:
		return key, fmt.Errorf("%w: GUEST_FIELD_SELECT %#x has reserved bits; clear them", ErrRequest, req.Fields)
	case req.VMPL > highestVMPL || req.VMPL < req.Requester:
		return key, fmt.Errorf("%w: VMPL %d asks for a key of VMPL %d; ask for its own or a higher one", ErrRequest, req.Requester, req.VMPL)
	case req.Fields&SelectGuestSVN != 0 && req.GuestSVN > g.GuestSVN:
		return key, fmt.Errorf("%w: guest SVN %d is above the guest's %d; ask for at most that", ErrRequest, req.GuestSVN, g.GuestSVN)
	case req.Fields&SelectTCB != 0 && !c.tcb.atLeast(req.TCB):
		return key, fmt.Errorf("%w: TCB %#x is above the committed %#x; ask for at most that", ErrRequest, uint64(req.TCB), uint64(c.tcb))
	}
	le := binary.LittleEndian
	info := []byte("Keel EMULATED MSG_KEY_REQ")
	info = le.AppendUint64(info, req.Fields)
	info = le.AppendUint32(info, req.VMPL)
	mixed := []struct {
		bit   uint64
		value []byte
	}{
		{SelectPolicy, le.AppendUint64(nil, g.Policy)},
		{SelectImageID, g.ImageID[:]},
		{SelectFamilyID, g.FamilyID[:]},
		{SelectMeasurement, g.Measurement[:]},
		{SelectGuestSVN, le.AppendUint32(nil, req.GuestSVN)},
		{SelectTCB, le.AppendUint64(nil, uint64(req.TCB))},
	}
	for _, m := range mixed {
		if req.Fields&m.bit != 0 {
			info = append(info, m.value...)
		}
	}
	b, err := hkdf.Key(sha256.New, c.root, nil, string(info), len(key))
	if err != nil {
		return key, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	copy(key[:], b)
	return key, nil
}

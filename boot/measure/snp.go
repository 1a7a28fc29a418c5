package measure

import (
	"crypto/sha512"
	"encoding/binary"

	"keel/boot/igvm"
	"keel/hcl/abi/x86"
)

// PAGE_INFO, the record that SNP_LAUNCH_UPDATE hashes for each page (SNP ABI
// 8.17.2, table "Layout of the PAGE_INFO Structure"), offsets in bytes.
const (
	infoDigestCur = 0x00 // launch digest so far
	infoContents  = 0x30 // SHA-384 of the page, zero where it does not count
	infoLength    = 0x60 // u16: size of the structure
	infoPageType  = 0x62 // u8
	infoIMI       = 0x63 // bit 0: page of an initial migration image
	infoVMPLPerms = 0x64 // u8 reserved, u8 each for VMPL3 to VMPL1
	infoGPA       = 0x68 // u64
	infoSize      = 0x70
)

// Page types of SNP_LAUNCH_UPDATE (SNP ABI 8.17, table "PAGE_TYPE Encodings").
const (
	snpNormal     = 1
	snpVMSA       = 2
	snpZero       = 3
	snpUnmeasured = 4
	snpSecrets    = 5
	snpCPUID      = 6
)

// snpTypes maps kinds to page types. A parameter area is an unmeasured page.
var snpTypes = map[Kind]byte{
	KindNormal: snpNormal, KindVMSA: snpVMSA, KindZero: snpZero, KindUnmeasured: snpUnmeasured,
	KindSecrets: snpSecrets, KindCPUID: snpCPUID, KindParameter: snpUnmeasured,
}

// zeroContents is the SHA-384 of a page of zeros.
var zeroContents = sha512.Sum384(make([]byte, igvm.PageSize))

// snpChain is the launch digest: each page's PAGE_INFO contains the digest of
// all pages before it. It starts from zeros.
type snpChain struct {
	info [infoSize]byte // its first bytes are the digest so far
}

// extend adds a page. IMI and VMPL permissions stay zero: IGVM loaders launch
// no migration agents and let the guest itself grant permissions.
func (c *snpChain) extend(kind Kind, gpa x86.GPA, contents Digest, p *partHash) {
	copy(c.info[infoContents:], contents[:])
	binary.LittleEndian.PutUint16(c.info[infoLength:], infoSize)
	c.info[infoPageType] = snpTypes[kind]
	binary.LittleEndian.PutUint64(c.info[infoGPA:], uint64(gpa))
	p.add(c.info[infoContents:])
	sum := sha512.Sum384(c.info[:])
	copy(c.info[infoDigestCur:], sum[:])
}

func (c *snpChain) normal(gpa x86.GPA, data []byte, p *partHash) {
	contents := zeroContents
	if data != nil {
		contents = sha512.Sum384(data)
	}
	c.extend(KindNormal, gpa, contents, p)
}

func (c *snpChain) special(kind Kind, gpa x86.GPA, p *partHash) { c.extend(kind, gpa, Digest{}, p) }

func (c *snpChain) vmsa(gpa x86.GPA, data []byte, p *partHash) {
	c.extend(KindVMSA, gpa, sha512.Sum384(data), p)
}

func (c *snpChain) sum() Digest { return Digest(c.info[:DigestSize]) }

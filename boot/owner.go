package boot

import (
	"bytes"
	"strconv"

	"keel/boot/handoff"
	"keel/boot/layout"
	"keel/diag/owner"
	"keel/diag/owner/keyfile"
	"keel/hcl/abi/x86"
)

// Owner is what an image says of the VM's owner. It marshals to JSON.
type Owner struct {
	Recipient string `json:"recipient,omitempty"` // age X25519 public key
	Signer    string `json:"signer,omitempty"`    // Ed25519 public key, as OpenSSH writes it
}

// ownerOf reads the manifest of an image; nil without an owner.
func ownerOf(img *layout.Image) (*Owner, error) {
	keys, err := owner.ParseManifest(string(archived(initramfs(img), handoff.FileManifest)))
	if err != nil || keys.Recipient == nil && keys.Signer == nil {
		return nil, err
	}
	o := &Owner{}
	if keys.Recipient != nil {
		o.Recipient = keys.Recipient.String()
	}
	if keys.Signer != nil {
		o.Signer, err = keyfile.SignerLine(keys.Signer)
	}
	return o, err
}

// describe writes the keys as lines of a table.
func (o *Owner) describe(t *table) {
	if o == nil {
		return
	}
	for _, k := range []struct{ name, key string }{{"owner age key", o.Recipient}, {"owner ssh key", o.Signer}} {
		if k.key != "" {
			t.line(k.name, "%s", k.key)
		}
	}
}

// initramfs returns the initramfs of an image.
func initramfs(img *layout.Image) []byte {
	span := img.Info.Initrd
	var all []byte
	for _, p := range img.Pages {
		if uint64(p.GPA) < span.Start || uint64(p.GPA) >= span.End() {
			continue
		}
		page := make([]byte, x86.PageSize)
		copy(page, p.Data) // none for zeros
		all = append(all, page...)
	}
	return all
}

// Fields of a header in a newc archive (Linux Documentation/driver-api/early-userspace/
// buffer-format.rst): the magic, then thirteen numbers of eight hexadecimal digits.
const (
	newcMagic    = "070701"
	newcHeader   = len(newcMagic) + 13*8
	newcFileSize = len(newcMagic) + 6*8
	newcNameSize = len(newcMagic) + 11*8
)

// archived returns the contents of a file in a newc archive: of the last with that name,
// which is the one that a kernel keeps. It is nil when there is none; an archive ends
// where it makes no sense.
func archived(archive []byte, name string) (found []byte) {
	number := func(at int) int {
		n, err := strconv.ParseUint(string(archive[at:at+8]), 16, 32)
		if err != nil {
			return len(archive) // longer than what is there
		}
		return int(n)
	}
	aligned := func(n int) int { return (n + 3) &^ 3 }
	for len(archive) >= newcHeader && bytes.HasPrefix(archive, []byte(newcMagic)) {
		size, nameSize := number(newcFileSize), number(newcNameSize)
		start := aligned(newcHeader + nameSize)
		next := aligned(start + size)
		if next > len(archive) {
			break
		}
		if string(archive[newcHeader:newcHeader+nameSize]) == name+"\x00" {
			found = archive[start : start+size]
		}
		archive = archive[next:]
	}
	return found
}

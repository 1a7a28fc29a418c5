package boot

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/boot/measure"
)

// Isolated lists the platforms whose hardware measures an image, by the names that
// commands take.
var Isolated = []string{igvm.PlatformSNP.String(), igvm.PlatformTDX.String()}

// platformOf returns the platform of a name of Isolated.
func platformOf(name string) (igvm.PlatformType, bool) {
	for _, p := range []igvm.PlatformType{igvm.PlatformSNP, igvm.PlatformTDX} {
		if p.String() == name {
			return p, true
		}
	}
	return 0, false
}

// badPlatform says that nothing measures an image on a platform.
func badPlatform(name string) error {
	return badImage(fmt.Sprintf("platform %q is not measured", name), "use "+strings.Join(Isolated, " or "), nil)
}

// Measurement is what the hardware of one platform will say of an image. It
// marshals to JSON.
type Measurement struct {
	Platform string         `json:"platform"`
	Digest   measure.Digest `json:"digest"` // SNP: launch digest, TDX: MRTD
	Policy   Policy         `json:"policy"`
	IDBlock  *IDBlock       `json:"id_block,omitempty"` // SNP, when the image is signed
	Parts    []measure.Part `json:"parts"`              // in the order of loading
}

// Policy is the guest policy of one platform.
type Policy struct {
	Platform string `json:"platform"`
	Word     string `json:"word"` // hexadecimal
	Text     string `json:"text"` // as boot/measure parses it
}

// IDBlock is what an image's SNP ID block says.
type IDBlock struct {
	IDKeyDigest     measure.Digest  `json:"id_key_digest"`
	AuthorKeyDigest *measure.Digest `json:"author_key_digest,omitempty"`
	FamilyID        string          `json:"family_id"` // hexadecimal, as the next
	ImageID         string          `json:"image_id"`
	GuestSVN        uint32          `json:"guest_svn"`
	Problem         string          `json:"problem,omitempty"` // why firmware would refuse it
}

// source is an image file that was read and checked.
type source struct {
	path  string
	bytes int
	file  *igvm.File
	image *layout.Image
}

// load reads and checks an image file.
func load(path string) (*source, error) {
	b, err := readImage(path)
	if err != nil {
		return nil, err
	}
	f, img, err := read("image "+path, b)
	if err != nil {
		return nil, err
	}
	return &source{path, len(b), f, img}, nil
}

// measure measures one platform; qemu predicts QEMU with KVM and refuses what they
// load otherwise than the file says.
func (s *source) measure(p igvm.PlatformType, qemu bool) (*measure.Result, error) {
	r, err := measure.Measure(s.file, p, measure.Options{QEMU: qemu, Regions: s.image.Regions()})
	switch {
	case errors.Is(err, measure.ErrPlatform):
		return nil, badImage(fmt.Sprintf("image %s has no platform %v", s.path, p), remedyBuild, nil)
	case err != nil:
		return nil, badImage(fmt.Sprintf("image %s cannot be measured for %v", s.path, p), remedyBuild, err)
	}
	return r, nil
}

// policy puts a policy word into words.
func policy(p igvm.PlatformType, word uint64) Policy {
	text := "reserved bits are set"
	switch p {
	case igvm.PlatformSNP:
		if v, err := measure.SNPPolicyOf(word); err == nil {
			text = v.String()
		}
	case igvm.PlatformTDX:
		if v, err := measure.TDXPolicyOf(word); err == nil {
			text = v.String()
		}
	default:
	}
	return Policy{p.String(), fmt.Sprintf("%#x", word), text}
}

// idBlock describes the ID block of a measured image, nil without one.
func idBlock(r *measure.Result) *IDBlock {
	if r.IDBlock == nil {
		return nil
	}
	b, a := measure.FromHeader(r.IDBlock, r.Policy)
	out := &IDBlock{
		IDKeyDigest: a.IDKey.Digest(), GuestSVN: b.GuestSVN,
		FamilyID: hex.EncodeToString(b.FamilyID[:]), ImageID: hex.EncodeToString(b.ImageID[:]),
	}
	if a.HasAuthor() {
		out.AuthorKeyDigest = new(a.AuthorKey.Digest())
	}
	if _, _, err := r.CheckIDBlock(); err != nil {
		out.Problem = err.Error()
	}
	return out
}

func measurement(r *measure.Result) *Measurement {
	return &Measurement{
		Platform: r.Platform.String(), Digest: r.Digest, Policy: policy(r.Platform, r.Policy), IDBlock: idBlock(r), Parts: r.Parts,
	}
}

// Measure measures the image file at path for the platforms of the given names,
// all of which it must have. With qemu, SNP is measured as QEMU with KVM loads the
// file. Errors are *handoff.Failure with OutcomeBadImage.
func Measure(path string, platforms []string, qemu bool) ([]*Measurement, error) {
	s, err := load(path)
	if err != nil {
		return nil, err
	}
	var out []*Measurement
	for _, name := range platforms {
		p, ok := platformOf(name)
		if !ok {
			return nil, badPlatform(name)
		}
		r, err := s.measure(p, qemu)
		if err != nil {
			return nil, err
		}
		out = append(out, measurement(r))
	}
	return out, nil
}

// Describe writes the measurement as text for a human.
func (m *Measurement) Describe(w io.Writer) error {
	var t table
	t.line("platform", "%s", m.Platform)
	t.line("digest", "%v", m.Digest)
	t.line("policy", "%s (%s)", m.Policy.Text, m.Policy.Word)
	if m.Platform == igvm.PlatformSNP.String() {
		m.IDBlock.describe(&t)
	}
	for i, p := range m.Parts {
		name := ""
		if i == 0 {
			name = "parts"
		}
		t.line(name, "%#014x %9d KiB  %-10v %.16v  %s", p.GPA, p.Bytes/1024, p.Kind, p.Digest, p.Name)
	}
	return t.flush(w)
}

// describe adds the block's lines.
func (b *IDBlock) describe(t *table) {
	if b == nil {
		t.line("ID block", "none")
		return
	}
	state := "signed"
	if b.Problem != "" {
		state = b.Problem
	}
	t.line("ID block", "%s", state)
	t.line("ID key", "sha384:%v", b.IDKeyDigest)
	if b.AuthorKeyDigest != nil {
		t.line("author key", "sha384:%v", *b.AuthorKeyDigest)
	}
	t.line("identity", "family %s, image %s, SVN %d", b.FamilyID, b.ImageID, b.GuestSVN)
}

// table is text in two columns.
type table struct{ strings.Builder }

func (t *table) line(name, format string, args ...any) {
	fmt.Fprintf(t, "%-14s "+format+"\n", append([]any{name}, args...)...)
}

func (t *table) flush(w io.Writer) error {
	_, err := io.WriteString(w, t.String())
	return err
}

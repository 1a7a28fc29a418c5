package boot

import (
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/measure"
)

// Verdict says whether evidence is that of an image. It marshals to JSON.
type Verdict struct {
	Image    string  `json:"image"`
	Evidence string  `json:"evidence"` // its form
	Platform string  `json:"platform"`
	Matches  bool    `json:"matches"`
	Checks   []Check `json:"checks"`
	// Parts tell how the image's pages differ from those of the reference that the
	// evidence matches, when there is one.
	Parts []string `json:"parts,omitempty"`
	// HostData and ReportData are of the evidence, hexadecimal: an image says
	// nothing of them.
	HostData   string `json:"host_data"`
	ReportData string `json:"report_data"`
}

// Check compares one thing.
type Check struct {
	What     string `json:"what"`
	Same     bool   `json:"same"`
	Image    string `json:"image"`
	Evidence string `json:"evidence"`
}

// unverified stands in every verdict.
const unverified = "no signature was checked: what the evidence says may be anybody's word, have its signature checked, too"

// Verify compares the evidence file at report with the image file at path. What the
// evidence claims is taken as it stands: whether hardware signed it is not asked.
// reference, if not empty, is an image that the evidence may be of instead: a digest
// only says that pages differ, a second image says which. Errors are
// *handoff.Failure; a difference is none.
func Verify(path, report, reference string) (*Verdict, error) {
	e, err := readEvidence(report)
	if err != nil {
		return nil, err
	}
	s, err := load(path)
	if err != nil {
		return nil, err
	}
	r, err := s.measure(e.platform, false)
	if err != nil {
		return nil, err
	}
	v := &Verdict{
		Image: path, Evidence: e.form, Platform: e.platform.String(),
		HostData: hex.EncodeToString(e.hostData), ReportData: hex.EncodeToString(e.reportData),
	}
	v.check("digest", r.Digest, e.measurement)
	if e.platform == igvm.PlatformSNP {
		err = v.snp(r, e)
	} else {
		err = v.tdx(r, e)
	}
	if err != nil {
		return nil, err
	}
	v.Matches = !slices.ContainsFunc(v.Checks, func(c Check) bool { return !c.Same })
	if reference != "" && r.Digest != e.measurement {
		if err := v.compare(r, e, reference); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// check compares what has one text exactly when it has one value.
func (v *Verdict) check(what string, image, evidence any) {
	a, b := fmt.Sprint(image), fmt.Sprint(evidence)
	v.Checks = append(v.Checks, Check{what, a == b, a, b})
}

// snp compares what only SNP reports.
func (v *Verdict) snp(r *measure.Result, e *evidence) error {
	words := func(word uint64) string { p := policy(igvm.PlatformSNP, word); return p.Text + " (" + p.Word + ")" }
	v.check("policy", words(r.Policy), words(e.policy))
	// Only Keel may speak for the image, and it runs at VMPL 0.
	v.check("VMPL", 0, e.vmpl)
	const unsigned = "none"
	imageKey, imageAuthor := unsigned, unsigned
	id, auth := &measure.IDBlock{}, &measure.IDAuth{}
	if r.IDBlock != nil {
		var err error
		if id, auth, err = r.CheckIDBlock(); err != nil {
			return badImage("image "+v.Image+" has a bad ID block", "sign it again with `keel image sign`", err)
		}
		imageKey = auth.IDKey.Digest().String()
		if auth.HasAuthor() {
			imageAuthor = auth.AuthorKey.Digest().String()
		}
	}
	key, author := unsigned, unsigned
	if e.idKey != (measure.Digest{}) {
		key = e.idKey.String()
	}
	if e.authorKeyIsPresent {
		author = e.authorKey.String()
	}
	v.check("ID key", imageKey, key)
	v.check("author key", imageAuthor, author)
	v.check("family ID", hex.EncodeToString(id.FamilyID[:]), hex.EncodeToString(e.familyID[:]))
	v.check("image ID", hex.EncodeToString(id.ImageID[:]), hex.EncodeToString(e.imageID[:]))
	v.check("guest SVN", id.GuestSVN, e.svn)
	return nil
}

// tdx compares what only TDX reports: of ATTRIBUTES the bits that the policy chooses
// and those that open the TD to the host. The others are the machine's.
func (v *Verdict) tdx(r *measure.Result, e *evidence) error {
	p, err := measure.TDXPolicyOf(r.Policy)
	if err != nil {
		return badImage("image "+v.Image+" has a bad policy", remedyBuild, err)
	}
	const underDebug = 0xff // group TUD
	chosen := measure.TDXPolicy{Debug: true, SEPTVEDisable: true, Migratable: true}.Attributes().Word() | underDebug
	words := func(word uint64) string {
		text := "reserved bits are set"
		if a, err := measure.TDAttributesOf(word); err == nil {
			text = a.String()
		}
		return fmt.Sprintf("%s (%#x)", text, word)
	}
	v.check("policy", words(p.Attributes().Word()), words(e.policy&chosen))
	return nil
}

// compare looks for the pages that differ.
func (v *Verdict) compare(r *measure.Result, e *evidence, reference string) error {
	s, err := load(reference)
	if err != nil {
		return err
	}
	other, err := s.measure(e.platform, false)
	if err != nil {
		return err
	}
	if other.Digest != e.measurement {
		v.Parts = append(v.Parts, "the evidence is not of "+reference+" either, so that the parts cannot be told")
		return nil
	}
	v.Parts = differences(other, r)
	return nil
}

// differences says, a line for each, which parts differ from those of a reference.
func differences(want, got *measure.Result) []string {
	var out []string
	for _, d := range measure.Compare(want.Parts, got.Parts) {
		out = append(out, d.String())
	}
	return out
}

// Differences says, a line for each, in which parts that the hardware of a platform
// measures the image file at path differs from the one at reference. Errors are
// *handoff.Failure with OutcomeBadImage.
func Differences(reference, path, platform string) ([]string, error) {
	var results [2]*measure.Result
	for i, file := range []string{reference, path} {
		p, ok := platformOf(platform)
		if !ok {
			return nil, badPlatform(platform)
		}
		s, err := load(file)
		if err != nil {
			return nil, err
		}
		if results[i], err = s.measure(p, false); err != nil {
			return nil, err
		}
	}
	return differences(results[0], results[1]), nil
}

// Failure returns nil when the evidence matches, else the error that ends a command.
func (v *Verdict) Failure() error {
	if v.Matches {
		return nil
	}
	var differ []string
	for _, c := range v.Checks {
		if !c.Same {
			differ = append(differ, c.What)
		}
	}
	return &handoff.Failure{
		Outcome: handoff.OutcomeBadConfig,
		Cause:   fmt.Sprintf("evidence is not of image %s: %s differ", v.Image, strings.Join(differ, ", ")),
		Remedy:  "give the image that the VM was started with, or do not trust the VM",
	}
}

// Describe writes the verdict as text for a human.
func (v *Verdict) Describe(w io.Writer) error {
	var t table
	t.line("image", "%s", v.Image)
	t.line("evidence", "%s", v.Evidence)
	t.line("signature", "%s", unverified)
	for _, c := range v.Checks {
		if c.Same {
			t.line(c.What, "same: %s", c.Image)
			continue
		}
		t.line(c.What, "differs: image    %s", c.Image)
		t.line("", "         evidence %s", c.Evidence)
	}
	for i, p := range v.Parts {
		name := ""
		if i == 0 {
			name = "parts"
		}
		t.line(name, "%s", p)
	}
	t.line("host data", "%s", v.HostData)
	t.line("report data", "%s", v.ReportData)
	text := "the evidence is of this image, if its signature is genuine"
	if !v.Matches {
		text = "the evidence is not of this image"
	}
	t.line("verdict", "%s", text)
	return t.flush(w)
}

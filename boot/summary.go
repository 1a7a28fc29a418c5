package boot

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"keel/boot/handoff"
	"keel/boot/igvm"
)

// Summary describes an image file. It marshals to JSON.
type Summary struct {
	Path          string            `json:"path"`
	Bytes         int64             `json:"bytes"`
	FormatVersion uint32            `json:"format_version"`
	Architecture  string            `json:"architecture"`
	Platforms     []string          `json:"platforms"`
	Policies      []Policy          `json:"policies,omitempty"` // of the platforms that have one
	IDBlock       *IDBlock          `json:"id_block,omitempty"` // SNP, when the image is signed
	Debug         bool              `json:"debug"`
	Owner         *Owner            `json:"owner,omitempty"` // when the image names one
	Digest        string            `json:"digest"`          // hexadecimal SHA-256 over the pages
	Cmdline       string            `json:"cmdline"`
	Regions       []Region          `json:"regions"` // ascending
	Headers       map[string]int    `json:"headers"` // count of variable headers by name
	Entry         map[string]string `json:"entry"`   // addresses of the entry points "igvm" and "pvh"
}

// Region is a named piece of the image's address space.
type Region struct {
	Name string       `json:"name"`
	Span handoff.Span `json:"span"`
}

// Open reads and checks the image file at path. A missing or corrupt file, one
// of another architecture or one without Keel's pages is a *handoff.Failure
// with OutcomeBadImage.
func Open(path string) (*Summary, error) {
	src, err := load(path)
	if err != nil {
		return nil, err
	}
	f, img := src.file, src.image
	s := &Summary{
		Path: path, Bytes: int64(src.bytes), FormatVersion: f.Version, Architecture: f.Arch.String(),
		Debug: img.Info.Flags&handoff.FlagDebug != 0, Digest: hex.EncodeToString(img.Info.Digest[:]),
		Cmdline: img.Cmdline(), Headers: map[string]int{},
		Entry: map[string]string{"igvm": fmt.Sprintf("%#x", img.Info.IGVMEntry), "pvh": fmt.Sprintf("%#x", img.Info.PVHEntry)},
	}
	if s.Owner, err = ownerOf(img); err != nil {
		return nil, badImage("image "+path+" cannot be used", remedyBuild, err)
	}
	for _, h := range f.Headers {
		s.Headers[h.Type().String()]++
		switch h := h.(type) {
		case *igvm.SupportedPlatform:
			s.Platforms = append(s.Platforms, h.Platform.String())
		case *igvm.SNPIDBlock:
			// Whether it holds depends on the digest.
			r, err := src.measure(igvm.PlatformSNP, false)
			if err != nil {
				return nil, err
			}
			s.IDBlock = idBlock(r)
		}
	}
	if i := &img.Isolation; i.Has(igvm.PlatformSNP) {
		s.Policies = append(s.Policies, policy(igvm.PlatformSNP, i.SNPPolicy))
	}
	if i := &img.Isolation; i.Has(igvm.PlatformTDX) {
		s.Policies = append(s.Policies, policy(igvm.PlatformTDX, i.TDXPolicy))
	}
	for _, r := range img.Regions() {
		s.Regions = append(s.Regions, Region(r))
	}
	return s, nil
}

// readImage reads a file of bounded size.
func readImage(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, badImage("image cannot be read", "build it with `make image`", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxImageBytes+1))
	if err != nil {
		return nil, badImage("image cannot be read", "check the file", err)
	}
	if len(b) > maxImageBytes {
		return nil, badImage("image "+path+" is too large", remedyBuild, nil)
	}
	return b, nil
}

// notYet is what a reader of the list of platforms must know.
const notYet = "snp and tdx are for measuring and for the emulated TEE: the shim does not run on their hardware yet"

// Describe writes the summary as text for a human.
func (s *Summary) Describe(w io.Writer) error {
	kind := "release"
	if s.Debug {
		kind = "debug"
	}
	var t table
	line := t.line
	line("file", "%s", s.Path)
	line("size", "%d bytes", s.Bytes)
	line("format", "IGVM version %d, %s", s.FormatVersion, s.Architecture)
	line("platforms", "%s", strings.Join(s.Platforms, ", "))
	for _, p := range s.Policies {
		line("policy "+p.Platform, "%s (%s)", p.Text, p.Word)
	}
	if len(s.Policies) > 0 {
		line("", "%s", notYet)
		s.IDBlock.describe(&t)
	}
	line("kind", "%s", kind)
	s.Owner.describe(&t)
	line("digest", "sha256:%s", s.Digest)
	line("command line", "%q", s.Cmdline)
	for _, name := range slices.Sorted(maps.Keys(s.Entry)) {
		line("entry "+name, "%s", s.Entry[name])
	}
	for i, r := range s.Regions {
		name := ""
		if i == 0 {
			name = "regions"
		}
		line(name, "%#010x-%#010x %9d KiB  %s", r.Span.Start, r.Span.End(), (r.Span.Size+1023)/1024, r.Name)
	}
	for i, n := range slices.Sorted(maps.Keys(s.Headers)) {
		name := ""
		if i == 0 {
			name = "headers"
		}
		line(name, "%6d  %s", s.Headers[n], n)
	}
	return t.flush(w)
}

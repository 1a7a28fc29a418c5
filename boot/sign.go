package boot

import (
	"crypto/ecdsa"
	"fmt"

	"keel/boot/handoff"
	"keel/boot/igvm"
	"keel/boot/layout"
	"keel/boot/measure"
)

// SignOptions say who signs an image, and as what.
type SignOptions struct {
	IDKey     string // PEM file with an ECDSA P-384 private key
	AuthorKey string // the same of whoever vouches for the ID key; "" for nobody
	Identity  measure.Identity
	Out       string // file that receives the image; "" for the image itself
}

// Sign adds a signed SNP ID block to the image file at path: firmware then launches
// the image alone, under its policy alone, and evidence names the keys. A block
// that was there is replaced. The same image and keys give the same bytes. Errors
// are *handoff.Failure: OutcomeBadConfig for a key, OutcomeBadImage for the image.
func Sign(path string, o SignOptions) (*Measurement, error) {
	id, err := measure.ReadKey(o.IDKey)
	if err != nil {
		return nil, err
	}
	var author *ecdsa.PrivateKey
	if o.AuthorKey != "" {
		if author, err = measure.ReadKey(o.AuthorKey); err != nil {
			return nil, err
		}
	}
	s, err := load(path)
	if err != nil {
		return nil, err
	}
	// What QEMU would load otherwise must not be signed.
	if _, err := s.measure(igvm.PlatformSNP, true); err != nil {
		return nil, err
	}
	signed, r, err := measure.AddIDBlock(s.file, measure.Options{QEMU: true, Regions: s.image.Regions()}, o.Identity, id, author)
	if err != nil {
		return nil, badImage("image "+path+" cannot be signed", remedyBuild, err)
	}
	b, err := igvm.Write(signed)
	if err != nil {
		return nil, badImage("image "+path+" cannot be signed", remedyBuild, err)
	}
	if err := checkSigned(b); err != nil {
		return nil, err
	}
	if o.Out == "" {
		o.Out = path
	}
	if err := writeFile(o.Out, b); err != nil {
		return nil, &handoff.Failure{
			Outcome: handoff.OutcomeBadConfig, Cause: "signed image cannot be written", Remedy: "give another --out", Err: err,
		}
	}
	return measurement(r), nil
}

// checkSigned reads a signed image as a host will, and its ID block as firmware will.
func checkSigned(b []byte) error {
	f, err := igvm.Read(b)
	if err != nil {
		return err
	}
	if _, err := layout.FromIGVM(f); err != nil {
		return err
	}
	r, err := measure.Measure(f, igvm.PlatformSNP, measure.Options{QEMU: true})
	if err != nil {
		return err
	}
	if _, _, err := r.CheckIDBlock(); err != nil {
		return fmt.Errorf("signed image is not what was signed: %w", err)
	}
	return nil
}

// Package marker makes secrets that a guest hides and a test looks for. Both know a seed,
// from which the secrets follow: the seed may be seen by anybody, the secrets by nobody.
package marker

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Size of a marker, in bytes.
const Size = sha256.Size

// Place is where a marker is hidden.
type Place string

// The places.
const (
	Memory    Place = "memory"    // all over a page of a process
	Registers Place = "registers" // R15 to R12 of a process that runs
	TPM       Place = "tpm"       // an NV index
	Disk      Place = "disk"      // a block
	Console   Place = "console"   // the guest says it: it is no secret, but shows that the search finds
)

// Hidden are the places of which nothing may be seen.
var Hidden = []Place{Memory, Registers, TPM, Disk}

// Of returns the marker of a place.
func Of(seed string, p Place) [Size]byte { return sha256.Sum256([]byte(seed + " " + string(p))) }

// piece is how many bytes of a marker are enough to know it: it may be cut up, as it is in
// registers.
const piece = 8

// forms returns what a piece may look like: as it is, in hexadecimal digits, in base64,
// wherever it begins in what was encoded, quoted, and as a list of numbers.
func forms(p []byte) (all [][]byte) {
	digits := hex.AppendEncode(nil, p)
	quoted := strconv.Quote(string(p))
	list := strings.Trim(fmt.Sprintf("%d", p), "[]")
	all = append(all, p, digits, bytes.ToUpper(digits), []byte(quoted[1:len(quoted)-1]), []byte(list))
	for before := range 3 {
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := e.AppendEncode(nil, append(make([]byte, before), p...))
			// The first and the last digit have bits of their neighbours.
			text = text[(before*8+5)/6 : (before+len(p))*8/6]
			if !slices.ContainsFunc(all, func(b []byte) bool { return bytes.Equal(b, text) }) {
				all = append(all, text)
			}
		}
	}
	return all
}

// Finder looks for markers in what is written to it. Its zero value finds none.
type Finder struct {
	needles map[uint64][]needle // by their first bytes
	may     [1 << 16]bool       // by their first two bytes
	longest int
	rest    []byte // of what was written, which may begin something
	found   map[Place]int
}

type needle struct {
	place Place
	form  []byte
}

// NewFinder returns a finder of the markers of some places.
func NewFinder(seed string, places ...Place) *Finder {
	f := &Finder{needles: map[uint64][]needle{}, found: map[Place]int{}}
	for _, place := range places {
		m := Of(seed, place)
		mirrored := m
		slices.Reverse(mirrored[:])
		for at := 0; at < Size; at += piece {
			for _, form := range append(forms(m[at:at+piece]), forms(mirrored[at:at+piece])...) {
				key := binary.LittleEndian.Uint64(form)
				f.needles[key] = append(f.needles[key], needle{place, form})
				f.may[uint16(key)] = true
				f.longest = max(f.longest, len(form))
			}
		}
	}
	return f
}

// Write looks through the next bytes. It always takes them.
func (f *Finder) Write(b []byte) (int, error) {
	f.rest = append(f.rest, b...)
	last := len(f.rest) - f.longest // what is behind it may go on in the next bytes
	for i := 0; i <= last; i++ {
		f.look(f.rest[i:])
	}
	if last >= 0 {
		f.rest = append(f.rest[:0], f.rest[last+1:]...)
	}
	return len(b), nil
}

// look counts what begins here.
func (f *Finder) look(b []byte) {
	if !f.may[binary.LittleEndian.Uint16(b)] {
		return
	}
	for _, n := range f.needles[binary.LittleEndian.Uint64(b)] {
		if bytes.HasPrefix(b, n.form) {
			f.found[n.place]++
		}
	}
}

// Found ends the search and returns how many pieces were found of each place.
func (f *Finder) Found() map[Place]int {
	f.rest = append(f.rest, make([]byte, f.longest)...)
	_, _ = f.Write(nil) // never fails
	f.rest = nil
	return f.found
}

// Find looks through a reader.
func Find(r io.Reader, seed string, places ...Place) (map[Place]int, error) {
	f := NewFinder(seed, places...)
	if _, err := io.Copy(f, r); err != nil {
		return nil, err
	}
	return f.Found(), nil
}

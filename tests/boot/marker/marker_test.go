package marker

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// TestFind hides markers in noise, in every form and cut at every place.
func TestFind(t *testing.T) {
	const seed = "a seed"
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	m := Of(seed, TPM)
	mirrored := m
	slices.Reverse(mirrored[:])
	quarter := append(bytes.Clone(noise[:100]), m[8:16]...)
	for name, form := range map[string]string{
		"raw": string(m[:]), "mirrored": string(mirrored[:]), "a register": string(quarter), "hex": hex.EncodeToString(m[:]),
		"HEX": strings.ToUpper(hex.EncodeToString(m[:])), "hex of a mirror": hex.EncodeToString(mirrored[:]),
		"base64": base64.StdEncoding.EncodeToString(m[:]), "base64 behind a byte": base64.StdEncoding.EncodeToString(append([]byte("x"), m[:]...)),
		"base64 between": base64.URLEncoding.EncodeToString([]byte("xy" + string(m[:]) + "z")), "quoted": fmt.Sprintf("%q", m[8:16]), "list": fmt.Sprint(m),
	} {
		text := string(noise) + form
		got, err := Find(strings.NewReader(text), seed, Hidden...)
		if err != nil || got[TPM] == 0 || len(got) != 1 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		again, err := Find(iotest.OneByteReader(strings.NewReader(text)), seed, Hidden...)
		if err != nil || again[TPM] != got[TPM] {
			t.Errorf("%s, byte for byte: %v, not %v, %v", name, again, got, err)
		}
		if got, err := Find(io.MultiReader(strings.NewReader(form), bytes.NewReader(noise)), seed, Memory, Disk); err != nil || len(got) > 0 {
			t.Errorf("%s: found what is not there: %v, %v", name, got, err)
		}
	}
}

package owner

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
)

// keys makes the keys of an owner.
func keys(t *testing.T) (Keys, *age.X25519Identity, ed25519.PrivateKey) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecipient(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return Keys{Recipient: r, Signer: public}, id, private
}

func TestManifest(t *testing.T) {
	k, _, _ := keys(t)
	const others = "00ff  bin/paravisor\n"
	for _, want := range []Keys{{}, {Recipient: k.Recipient}, {Signer: k.Signer}, k} {
		text := others + want.Manifest()
		got, err := ParseManifest(text)
		if err != nil || got.Manifest() != want.Manifest() {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	if (Keys{}).Manifest() != "" {
		t.Error("an image without an owner has lines of one")
	}
	for _, bad := range []string{
		k.Manifest() + k.Manifest(), "owner recipient\n", "owner recipient age1\n", "owner signer 00\n", "owner other x\n",
		"owner signer " + strings.Repeat("zz", 32) + "\n", "owner signer " + strings.Repeat("00", 33) + "\n",
		strings.ToUpper(k.Manifest()) + "owner \n",
	} {
		if got, err := ParseManifest(bad); !errors.Is(err, ErrKeys) || got.Manifest() != "" {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
}

func TestParseRecipient(t *testing.T) {
	_, id, _ := keys(t)
	good := id.Recipient().String()
	for _, bad := range []string{
		"", "age1", good[:61], good + "q", strings.ToUpper(good), good[:61] + "b", "\n" + good[1:], id.String(),
		"age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqar9jk6", // of 31 bytes
		"agf1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqu996sf",
		strings.Repeat("age1", 1<<16),
	} {
		if _, err := ParseRecipient(bad); !errors.Is(err, ErrRecipient) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
			t.Errorf("%.80q: %v", bad, err)
		}
	}
}

// TestSmallOrder: the point zero would make every shared secret zero. It is well-formed.
func TestSmallOrder(t *testing.T) {
	const zero = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z"
	if _, err := age.ParseX25519Recipient(zero); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRecipient(zero); !errors.Is(err, ErrRecipient) {
		t.Errorf("%v", err)
	}
}

// TestSeal: what is sealed opens with the owner's identity only, and whole only.
func TestSeal(t *testing.T) {
	k, id, _ := keys(t)
	_, other, _ := keys(t)
	const piece = 64 << 10
	for _, size := range []int{0, 1, piece - 1, piece, piece + 1, 5*piece + 7} {
		data := bytes.Repeat([]byte("secret. "), size/8+1)[:size]
		var out bytes.Buffer
		w, err := k.Recipient.Seal(&out)
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1000)
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		sealed := out.Bytes()
		if !bytes.HasPrefix(sealed, []byte(Header)) || bytes.Contains(sealed, []byte("secret")) {
			t.Errorf("%d bytes: %.100q", size, sealed)
		}
		r, err := age.Decrypt(bytes.NewReader(sealed), id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes come out as %d: %v", size, len(got), err)
		}
		if _, err := age.Decrypt(bytes.NewReader(sealed), other); err == nil {
			t.Error("another identity opens it")
		}
		if r, err := age.Decrypt(bytes.NewReader(sealed[:len(sealed)-1]), id); err == nil {
			if _, err := io.ReadAll(r); err == nil {
				t.Errorf("%d bytes: the lack of an end shows nowhere", size)
			}
		}
	}
}

func statement() *Statement {
	return &Statement{Instance: Instance{1}, Nonce: Nonce{2}, Request: [32]byte{3}, Method: "keel.diag.v1.Control/Pause"}
}

func TestStatement(t *testing.T) {
	k, _, private := keys(t)
	other, _, _ := keys(t)
	text := statement().Sign(private)
	s, err := ParseSigned(text)
	if err != nil || s.Statement != *statement() {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := s.Verify(k.Signer); err != nil {
		t.Error(err)
	}
	if err := s.Verify(other.Signer); !errors.Is(err, ErrSigner) {
		t.Errorf("%v", err)
	}
	if err := s.Verify(nil); !errors.Is(err, ErrSigner) {
		t.Errorf("%v", err)
	}
	// No bit of it may change.
	for i := range s.said {
		s.said[i] ^= 1
		if err := s.Verify(k.Signer); err == nil {
			t.Errorf("byte %d of the statement changed", i)
		}
		s.said[i] ^= 1
	}
	for i := range s.signature {
		s.signature[i] ^= 1
		if err := s.Verify(k.Signer); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d of the signature changed: %v", i, err)
		}
		s.signature[i] ^= 1
	}
	// A signature over the same bytes for another purpose is none.
	copy(s.signature, ed25519.Sign(private, s.said))
	if err := s.Verify(k.Signer); !errors.Is(err, ErrSignature) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "!", text[:len(text)/2], text + "=", text + strings.Repeat("A", 1000), strings.Repeat("A", 320)} {
		if s, err := ParseSigned(bad); err == nil && s.Verify(k.Signer) == nil {
			t.Errorf("%q is signed", bad)
		}
	}
}

// FuzzParseSigned reads whatever a client sends. Nothing that was not signed verifies,
// and what is read is what was said.
func FuzzParseSigned(f *testing.F) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public, _ := private.Public().(ed25519.PublicKey)
	good := statement().Sign(private)
	f.Add("")
	f.Add(good)
	f.Add(good + "AAAA")
	f.Add(strings.Repeat("A", 240))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSigned(text)
		if err != nil {
			if !errors.Is(err, ErrStatement) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			return
		}
		if len(s.Method) == 0 || len(s.Method) > maxMethod || !bytes.Equal(s.encode(s.said[:ed25519.PublicKeySize]), s.said) {
			t.Errorf("%+v", s)
		}
		if s.Verify(public) == nil && text != good {
			t.Errorf("%q is signed", text)
		}
	})
}

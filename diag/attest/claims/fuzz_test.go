package claims

import (
	"bytes"
	"testing"
)

// FuzzParseHCLReport feeds the contents of a hostile VM's NV index.
func FuzzParseHCLReport(f *testing.F) {
	for _, kind := range []ReportType{ReportSNP, ReportTDX} {
		b, err := someHCL(f, kind, HashSHA256).Marshal(2900)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, make([]byte, 40)...))
		f.Add(b[:1240])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseHCLReport(b)
		if err != nil {
			if r != nil {
				t.Fatal("a report with an error")
			}
			return
		}
		if len(r.Runtime) > MaxRuntime || len(r.Hardware) > HardwareReportSize {
			t.Fatalf("%d and %d bytes", len(r.Runtime), len(r.Hardware))
		}
		r.Bound()
		again, err := r.Marshal(len(b))
		if err != nil {
			t.Fatal(err)
		}
		// The version is the newest; all else is as it was.
		if !bytes.Equal(again[8:], b[8:len(again)]) {
			t.Fatal("marshalled to other bytes")
		}
		if c, err := ParseRuntime(r.Runtime); err == nil {
			for i := range c.Keys {
				if pub, err := c.Keys[i].Public(); err == nil {
					if _, err := DigestKeys(pub); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

// FuzzParseRuntime feeds the claims alone.
func FuzzParseRuntime(f *testing.F) {
	f.Add(someRuntime(f, ecKey(f)))
	f.Add(someRuntime(f, rsaKey()))
	f.Add([]byte(`{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"AA","e":"AA"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseRuntime(b)
		if err != nil {
			return
		}
		for i := range c.Keys {
			pub, err := c.Keys[i].Public()
			if err != nil {
				continue
			}
			k, err := NewKey(c.Keys[i].ID, pub)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := k.Public(); err != nil || k.Type != c.Keys[i].Type {
				t.Fatal(back, err)
			}
		}
	})
}

// FuzzParseClaim feeds what comes over the channel: one claim has one spelling.
func FuzzParseClaim(f *testing.F) {
	b, err := someClaim().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseClaim(b)
		if err != nil {
			return
		}
		if again, err := c.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v: marshalled to other bytes", err)
		}
	})
}

// FuzzParseEvidence checks that what parses can be sent on.
func FuzzParseEvidence(f *testing.F) {
	b, err := (&Evidence{Kind: KindSNP, Report: []byte{1}, Claim: []byte{2}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"kind":"tdx","report":"AA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvidence(b)
		if err != nil {
			return
		}
		again, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseEvidence(again); err != nil {
			t.Fatal(err)
		}
	})
}

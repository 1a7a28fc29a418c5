package kernelcfg

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keel/kernelcfg/deb"
)

// recorded loads the configuration that a real build of the flavour had.
func recorded(t *testing.T, f Flavour) Config {
	t.Helper()
	c, err := readConfig(filepath.Join("testdata", string(f)+".config"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckAcceptsRecorded(t *testing.T) {
	for _, f := range Flavours {
		if err := Check(f, recorded(t, f)); err != nil {
			t.Error(err)
		}
	}
}

// TestCheckEveryRule breaks each promise in turn: none of them is decoration.
func TestCheckEveryRule(t *testing.T) {
	for _, f := range Flavours {
		for _, table := range rules[f] {
			for _, r := range table {
				c := recorded(t, f)
				if r.want == "n" {
					c[r.symbol] = "y"
				} else {
					delete(c, r.symbol)
				}
				err := Check(f, c)
				if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "CONFIG_"+r.symbol+" is") {
					t.Errorf("%s: %s violated: %v", f, r.symbol, err)
				}
				if r.why == "" {
					t.Errorf("%s: %s has no reason", f, r.symbol)
				}
			}
		}
	}
}

// TestCheckLostRequest: Kconfig drops what it cannot grant; Check must notice.
func TestCheckLostRequest(t *testing.T) {
	for _, f := range Flavours {
		asked, err := Fragment(f)
		if err != nil {
			t.Fatal(err)
		}
		for symbol, value := range asked {
			c := recorded(t, f)
			c[symbol] = "n"
			if value == "n" {
				c[symbol] = "y"
			}
			if err := Check(f, c); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "CONFIG_"+symbol+" ") {
				t.Errorf("%s: %s lost: %v", f, symbol, err)
			}
		}
	}
}

// TestCheckOlderSource: a symbol that the fallback source does not know may be
// absent, but not refused.
func TestCheckOlderSource(t *testing.T) {
	c := recorded(t, Release)
	delete(c, "SWIOTLB_DEFAULT_SIZE_MB")
	if err := Check(Release, c); err != nil {
		t.Error(err)
	}
	delete(c, "VIRTIO_CONSOLE")
	if err := Check(Release, c); !errors.Is(err, ErrConfig) {
		t.Errorf("got %v", err)
	}
}

// TestBuiltKernels asserts what was really compiled, for every flavour of which the
// user's cache holds a build of today's fragments.
func TestBuiltKernels(t *testing.T) {
	packages, err := deb.Default()
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{dir: filepath.Join(filepath.Dir(packages.Dir), "kernel")}
	chain, err := toolchain(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Flavours {
		asked, err := Fragment(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, pin := range Sources {
			image, ok := b.cached(b.place(f, pin, asked, chain), whole)
			if !ok {
				continue
			}
			c, err := readConfig(filepath.Join(filepath.Dir(image), "config"))
			if err != nil {
				t.Fatal(err)
			}
			if err := Check(f, c); err != nil {
				t.Errorf("%s: %v", image, err)
			}
			if st, err := os.Stat(image); err != nil || (f == Release && st.Size() > MaxImage) {
				t.Errorf("%s: %v, %v", image, st, err)
			}
		}
	}
}

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig(strings.NewReader("# header\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\nCONFIG_D=-1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for symbol, want := range map[string]string{"A": "y", "B": "n", "C": `"x=y"`, "D": "-1", "ABSENT": "n"} {
		if got := c.value(symbol); got != want {
			t.Errorf("%s: %q, want %q", symbol, got, want)
		}
	}
	again, err := ParseConfig(strings.NewReader(c.String()))
	if err != nil || again.String() != c.String() {
		t.Errorf("round trip: %v\n%s", err, again)
	}
	for _, bad := range []string{"CONFIG_A", "A=y", "CONFIG_=y", "CONFIG_A=", "CONFIG_A is not set", "<<<<"} {
		if _, err := ParseConfig(strings.NewReader(bad)); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzParseConfig: whatever is accepted survives a round trip.
func FuzzParseConfig(f *testing.F) {
	f.Add("CONFIG_A=y\n# CONFIG_B is not set\n")
	f.Add("CONFIG_A= is not set\n# CONFIG_ is not set\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConfig(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := ParseConfig(strings.NewReader(c.String()))
		if err != nil || again.String() != c.String() {
			t.Errorf("%v: %q became %q", err, c.String(), again.String())
		}
	})
}

func TestFragmentOverride(t *testing.T) {
	release, err := Fragment(Release)
	if err != nil {
		t.Fatal(err)
	}
	debug, err := Fragment(Debug)
	if err != nil {
		t.Fatal(err)
	}
	if release["LOG_BUF_SHIFT"] != "14" || debug["LOG_BUF_SHIFT"] != "17" {
		t.Errorf("LOG_BUF_SHIFT: release %s, debug %s", release["LOG_BUF_SHIFT"], debug["LOG_BUF_SHIFT"])
	}
	if _, err := Fragment("none"); !errors.Is(err, ErrFlavour) {
		t.Errorf("got %v", err)
	}
	if _, err := ParseFlavour("none"); !errors.Is(err, ErrFlavour) {
		t.Errorf("got %v", err)
	}
}

package kernelcfg

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestEmptyCurl: the library is what the loader looks for when it starts tpm2, by name,
// version and functions.
func TestEmptyCurl(t *testing.T) {
	cache, _ := fakeCache(t, "tools", packageOf(t, t.TempDir()), &bytes.Buffer{})
	library, err := emptyCurl(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(library)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if name, err := f.DynString(elf.DT_SONAME); err != nil || !slices.Equal(name, []string{curlLibrary}) {
		t.Errorf("name %q, %v", name, err)
	}
	if needed, err := f.ImportedLibraries(); err != nil || len(needed) > 0 {
		t.Errorf("it needs %q, %v", needed, err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF && s.Version == "CURL_GNUTLS_3" {
			names = append(names, s.Name)
		}
	}
	for _, want := range curlFunctions {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in %q", want, names)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(filepath.Dir(library)))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if again, err := emptyCurl(t.Context(), cache); err != nil || again != library {
		t.Errorf("%s, %v", again, err)
	}
}

package peerimage

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
)

func TestParseLDD(t *testing.T) {
	const good = "\tlinux-vdso.so.1 (0x00007fb00215c000)\n" +
		"\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007fb00204b000)\n" +
		"\t/lib64/ld-linux-x86-64.so.2 (0x00007fb00215e000)\n"
	got, err := parseLDD(good)
	if want := []string{"/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	for _, bad := range []string{"", "\tnot a dynamic executable\n", "\tlibx.so.1 => not found\n", good + "\tlibrelative.so (0x1)\n"} {
		if got, err := parseLDD(bad); !errors.Is(err, errLDD) {
			t.Errorf("%q gave %q, %v", bad, got, err)
		}
	}
}

func TestArchiveHasFoldersFirst(t *testing.T) {
	var out strings.Builder
	w := cpio.Newc.Writer(&out)
	made := map[string]bool{".": true}
	for _, name := range []string{"usr/bin/a", "usr/bin/b", "lib64/c"} {
		if err := writeFile(w, made, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(strings.NewReader(out.String())))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	want := []string{"usr", "usr/bin", "usr/bin/a", "usr/bin/b", "lib64", "lib64/c"}
	if !slices.Equal(slices.DeleteFunc(names, func(n string) bool { return n == cpio.Trailer }), want) {
		t.Errorf("%q, want %q", names, want)
	}
}

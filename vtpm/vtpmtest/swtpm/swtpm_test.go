package swtpm

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseVersion(t *testing.T) {
	if got, err := parseVersion("TPM emulator version 0.7.1, Copyright (c) 2014-2021 IBM Corp.\n"); err != nil || got != "0.7.1" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "TPM emulator", "version ", "version , x", "version of nothing at all\n"} {
		if got, err := parseVersion(bad); !errors.Is(err, ErrSWTPM) {
			t.Errorf("%q gave %q, %v", bad, got, err)
		}
	}
}

func TestReadResponse(t *testing.T) {
	response := []byte{0x80, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 2, 7, 8}
	for name, from := range map[string]io.Reader{
		"at once": strings.NewReader(string(response)), "in bytes": iotest.OneByteReader(strings.NewReader(string(response))),
	} {
		b := make([]byte, 64)
		if n, err := readResponse(from, b); err != nil || string(b[:n]) != string(response) {
			t.Errorf("%s: %x, %v", name, b[:n], err)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "no header": response[:5], "no end": response[:13], "more than it says": append(slices.Clone(response), 9),
		"larger than a buffer": {0x80, 1, 0, 0, 0, 65}, "size wraps": {0x80, 1, 0xFF, 0xFF, 0xFF, 0xFF},
	} {
		if n, err := readResponse(strings.NewReader(string(bad)), make([]byte, 64)); err == nil {
			t.Errorf("%s: %d", name, n)
		}
	}
}

package keyserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const maxDepth = 8 // the policy nests four times

// decodeStrict decodes JSON of which nothing may be misread: no members that v has not got,
// none twice, none whose name is right but for its case, nothing after the end. Package
// json alone lets the second of two members win, and takes Allow_Debug for allow_debug.
func decodeStrict(b []byte, v any) error {
	if err := checkMembers(json.NewDecoder(bytes.NewReader(b)), 0); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("it ends too early")
		}
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the end")
	}
	return nil
}

// checkMembers walks over one value.
func checkMembers(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errors.New("it nests too deep")
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := t.(string)
			if !plain(name) {
				return fmt.Errorf("unknown field %.40q", name)
			}
			if seen[name] {
				return fmt.Errorf("field %q is there twice", name)
			}
			seen[name] = true
		}
		if err := checkMembers(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token() // the end of it
	return err
}

// plain tells whether a name is one of lower-case letters, digits and underscores.
func plain(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

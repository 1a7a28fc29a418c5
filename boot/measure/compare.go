package measure

import (
	"fmt"

	"keel/hcl/abi/x86"
)

// Change says how a part differs from its reference.
type Change int

// The changes.
const (
	ChangeContents Change = iota // same place, other contents
	ChangeSize                   // same start, another size
	ChangeMissing                // only in the reference
	ChangeAdded                  // only in what was compared
	ChangeOrder                  // all parts are the same, loaded in another order
)

// Difference is one part that differs. For ChangeAdded, Want is zero; for
// ChangeMissing, Got is.
type Difference struct {
	Change    Change
	Want, Got Part
}

// String says in one line which part differs and how.
func (d Difference) String() string {
	switch d.Change {
	case ChangeContents:
		return d.Got.label() + ": contents differ"
	case ChangeSize:
		return fmt.Sprintf("%s: %d bytes instead of %d", d.Got.label(), d.Got.Bytes, d.Want.Bytes)
	case ChangeMissing:
		return d.Want.label() + ": missing"
	case ChangeAdded:
		return d.Got.label() + ": not in the reference"
	case ChangeOrder:
		return fmt.Sprintf("%s: loaded where %s belongs", d.Got.label(), d.Want.label())
	}
	return fmt.Sprintf("%s: change %d", d.Got.label(), int(d.Change))
}

// partKey is what makes two parts counterparts. The ordinal tells parts at one
// address apart: the VMSAs of several VPs may share theirs.
type partKey struct {
	name    string
	kind    Kind
	gpa     x86.GPA
	ordinal int
}

// index finds the parts of a list by key.
func index(parts []Part) (keys []partKey, at map[partKey]int) {
	at = make(map[partKey]int, len(parts))
	ordinals := map[partKey]int{}
	for i, p := range parts {
		k := partKey{p.Name, p.Kind, p.GPA, 0}
		ordinals[k]++
		k.ordinal = ordinals[k]
		at[k] = i
		keys = append(keys, k)
	}
	return keys, at
}

// Compare says which parts of a measurement differ from those of a reference:
// a digest alone only says that some do. The result is empty exactly when the
// two lists describe the same measurement. Preconditions: both were measured on
// one platform with the same Options.
func Compare(want, got []Part) []Difference {
	var out []Difference
	wantKeys, wantAt := index(want)
	gotKeys, gotAt := index(got)
	for i, k := range wantKeys {
		j, ok := gotAt[k]
		switch {
		case !ok:
			out = append(out, Difference{ChangeMissing, want[i], Part{}})
		case want[i].Bytes != got[j].Bytes:
			out = append(out, Difference{ChangeSize, want[i], got[j]})
		case want[i].Digest != got[j].Digest:
			out = append(out, Difference{ChangeContents, want[i], got[j]})
		}
	}
	for j, k := range gotKeys {
		if _, ok := wantAt[k]; !ok {
			out = append(out, Difference{ChangeAdded, Part{}, got[j]})
		}
	}
	if len(out) > 0 {
		return out
	}
	for i := range want {
		if wantKeys[i] != gotKeys[i] {
			return []Difference{{ChangeOrder, want[i], got[i]}}
		}
	}
	return nil
}

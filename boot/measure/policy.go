package measure

import (
	"fmt"
	"strconv"
	"strings"
)

// flag is a bit of a policy word with its name in text.
type flag[T any] struct {
	bit   uint
	name  string
	field func(*T) *bool
}

// SNPPolicy is the guest policy of an SNP launch (SNP ABI 4.3, table "Guest
// Policy Structure"): firmware refuses to launch the guest on a machine that
// cannot keep it, and reports it beside the launch digest.
type SNPPolicy struct {
	ABIMajor, ABIMinor uint8 // least firmware ABI
	SMT                bool  // may run where SMT is on
	MigrateMA          bool  // may have a migration agent
	Debug              bool  // the host may read and write the guest's memory
	SingleSocket       bool  // must stay on one socket
	CXL                bool  // may run where CXL devices are
	MemAES256XTS       bool  // memory must be encrypted with AES-256-XTS
	RAPLDisable        bool  // the power meter must be off
	CiphertextHiding   bool  // the host must not see ciphertext of DRAM
	PageSwapDisable    bool  // pages must not be moved or swapped
}

// snpReservedOne is the bit that must be one.
const snpReservedOne = 17

var snpFlags = []flag[SNPPolicy]{
	{16, "smt", func(p *SNPPolicy) *bool { return &p.SMT }},
	{18, "migrate-ma", func(p *SNPPolicy) *bool { return &p.MigrateMA }},
	{19, "debug", func(p *SNPPolicy) *bool { return &p.Debug }},
	{20, "single-socket", func(p *SNPPolicy) *bool { return &p.SingleSocket }},
	{21, "cxl", func(p *SNPPolicy) *bool { return &p.CXL }},
	{22, "aes-256-xts", func(p *SNPPolicy) *bool { return &p.MemAES256XTS }},
	{23, "rapl-disable", func(p *SNPPolicy) *bool { return &p.RAPLDisable }},
	{24, "ciphertext-hiding", func(p *SNPPolicy) *bool { return &p.CiphertextHiding }},
	{25, "page-swap-disable", func(p *SNPPolicy) *bool { return &p.PageSwapDisable }},
}

// SNPPolicyOf decodes the word. It refuses reserved bits, which firmware does too.
func SNPPolicyOf(word uint64) (SNPPolicy, error) {
	p := SNPPolicy{ABIMinor: uint8(word), ABIMajor: uint8(word >> 8)}
	rest, err := decode(&p, snpFlags, word&^0xffff, 1<<snpReservedOne)
	if err != nil || rest != 0 {
		return SNPPolicy{}, fmt.Errorf("SNP policy %#x: bits %#x are reserved", word, rest)
	}
	if word&(1<<snpReservedOne) == 0 {
		return SNPPolicy{}, fmt.Errorf("SNP policy %#x: bit %d must be one", word, snpReservedOne)
	}
	return p, nil
}

// Word encodes the policy.
func (p SNPPolicy) Word() uint64 {
	return encode(&p, snpFlags) | 1<<snpReservedOne | uint64(p.ABIMajor)<<8 | uint64(p.ABIMinor)
}

// String returns the form that ParseSNPPolicy takes: "abi=1.55,smt,debug".
func (p SNPPolicy) String() string {
	return strings.Join(append([]string{fmt.Sprintf("abi=%d.%d", p.ABIMajor, p.ABIMinor)}, names(&p, snpFlags)...), ",")
}

// ParseSNPPolicy reads String's form, in any order, or a number such as 0x30000.
// Nothing but "abi" has a value; what is not named is off.
func ParseSNPPolicy(s string) (SNPPolicy, error) {
	if word, err := strconv.ParseUint(s, 0, 64); err == nil {
		return SNPPolicyOf(word)
	}
	p := SNPPolicy{}
	err := parse(&p, "SNP policy", s, snpFlags, func(name string) (bool, error) {
		v, ok := strings.CutPrefix(name, "abi=")
		if !ok {
			return false, nil
		}
		major, minor, _ := strings.Cut(v, ".")
		a, err1 := strconv.ParseUint(major, 10, 8)
		b, err2 := strconv.ParseUint(minor, 10, 8)
		if err1 != nil || err2 != nil {
			return true, fmt.Errorf("%q is not like abi=1.55", name)
		}
		p.ABIMajor, p.ABIMinor = uint8(a), uint8(b)
		return true, nil
	})
	return p, err
}

// decode sets the fields of the flags in word. It returns what no flag and not
// ignored stands for, an error when there is such.
func decode[T any](p *T, flags []flag[T], word, ignored uint64) (uint64, error) {
	for _, f := range flags {
		*f.field(p) = word&(1<<f.bit) != 0
		ignored |= 1 << f.bit
	}
	if rest := word &^ ignored; rest != 0 {
		return rest, fmt.Errorf("bits %#x are reserved", rest)
	}
	return 0, nil
}

// encode returns the bits of the fields that are set.
func encode[T any](p *T, flags []flag[T]) uint64 {
	word := uint64(0)
	for _, f := range flags {
		if *f.field(p) {
			word |= 1 << f.bit
		}
	}
	return word
}

// names lists the flags that are set, from the lowest bit on.
func names[T any](p *T, flags []flag[T]) []string {
	var out []string
	for _, f := range flags {
		if *f.field(p) {
			out = append(out, f.name)
		}
	}
	return out
}

// none is the text of a word without flags.
const none = "none"

// orNone joins names; an empty text could be a forgotten one.
func orNone(names []string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ",")
}

// parse reads a comma-separated list of flags, or none. special takes what is no
// flag; it may be nil.
func parse[T any](p *T, what, s string, flags []flag[T], special func(string) (bool, error)) error {
	if strings.TrimSpace(s) == none {
		return nil
	}
	for name := range strings.SplitSeq(s, ",") {
		name = strings.TrimSpace(name)
		known := false
		for _, f := range flags {
			if f.name == name {
				*f.field(p), known = true, true
			}
		}
		if known {
			continue
		}
		if special != nil {
			if ok, err := special(name); ok {
				if err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				continue
			}
		}
		var all []string
		for _, f := range flags {
			all = append(all, f.name)
		}
		return fmt.Errorf("%s: %q is not known; use %s", what, name, strings.Join(all, ", "))
	}
	return nil
}

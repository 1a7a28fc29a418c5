package measure

import (
	"fmt"
	"strconv"
)

// TDAttributes is ATTRIBUTES of a TD (TDX module ABI, "ATTRIBUTES"): reported
// beside the MRTD, not part of it.
type TDAttributes struct {
	// The group TUD, "TD under debug": with any of them the TD is not trusted.
	Debug       bool // the host may read and write the TD's state
	HGSPlusProf bool
	PerfProf    bool
	PMTProf     bool
	// The groups SEC and OTHER.
	ICSSD         bool
	LASS          bool
	SEPTVEDisable bool // no #VE when the host takes a page away: the TD stops
	Migratable    bool
	PKS           bool // supervisor protection keys
	KeyLocker     bool
	TPA           bool
	Perfmon       bool // performance counters
}

// tudGroup is the group of bits each of which opens the TD to the host.
const tudGroup = 0xff

var tdAttributeFlags = []flag[TDAttributes]{
	{0, "debug", func(a *TDAttributes) *bool { return &a.Debug }},
	{4, "hgs-plus-prof", func(a *TDAttributes) *bool { return &a.HGSPlusProf }},
	{5, "perf-prof", func(a *TDAttributes) *bool { return &a.PerfProf }},
	{6, "pmt-prof", func(a *TDAttributes) *bool { return &a.PMTProf }},
	{16, "icssd", func(a *TDAttributes) *bool { return &a.ICSSD }},
	{27, "lass", func(a *TDAttributes) *bool { return &a.LASS }},
	{28, "sept-ve-disable", func(a *TDAttributes) *bool { return &a.SEPTVEDisable }},
	{29, "migratable", func(a *TDAttributes) *bool { return &a.Migratable }},
	{30, "pks", func(a *TDAttributes) *bool { return &a.PKS }},
	{31, "key-locker", func(a *TDAttributes) *bool { return &a.KeyLocker }},
	{62, "tpa", func(a *TDAttributes) *bool { return &a.TPA }},
	{63, "perfmon", func(a *TDAttributes) *bool { return &a.Perfmon }},
}

// TDAttributesOf decodes the word and refuses bits that have no name here.
func TDAttributesOf(word uint64) (TDAttributes, error) {
	var a TDAttributes
	if _, err := decode(&a, tdAttributeFlags, word, 0); err != nil {
		return TDAttributes{}, fmt.Errorf("TD attributes %#x: %w", word, err)
	}
	return a, nil
}

// Word encodes the attributes.
func (a TDAttributes) Word() uint64 { return encode(&a, tdAttributeFlags) }

// UnderDebug reports whether the host can look into the TD in some way.
func (a TDAttributes) UnderDebug() bool { return a.Word()&tudGroup != 0 }

// String returns the names of the attributes that are set, "none" without any.
func (a TDAttributes) String() string { return orNone(names(&a, tdAttributeFlags)) }

// ParseTDAttributes reads String's form, or a number.
func ParseTDAttributes(s string) (TDAttributes, error) {
	if word, err := strconv.ParseUint(s, 0, 64); err == nil {
		return TDAttributesOf(word)
	}
	var a TDAttributes
	err := parse(&a, "TD attributes", s, tdAttributeFlags, nil)
	return a, err
}

// TDXPolicy is the GUEST_POLICY of an IGVM file for TDX (igvm_defs TdxPolicy):
// what the loader shall put into ATTRIBUTES, in bits of its own.
type TDXPolicy struct {
	Debug         bool
	SEPTVEDisable bool
	Migratable    bool
}

var tdxPolicyFlags = []flag[TDXPolicy]{
	{0, "debug", func(p *TDXPolicy) *bool { return &p.Debug }},
	{1, "sept-ve-disable", func(p *TDXPolicy) *bool { return &p.SEPTVEDisable }},
	{2, "migratable", func(p *TDXPolicy) *bool { return &p.Migratable }},
}

// TDXPolicyOf decodes the word and refuses reserved bits.
func TDXPolicyOf(word uint64) (TDXPolicy, error) {
	var p TDXPolicy
	if _, err := decode(&p, tdxPolicyFlags, word, 0); err != nil {
		return TDXPolicy{}, fmt.Errorf("TDX policy %#x: %w", word, err)
	}
	return p, nil
}

// Word encodes the policy.
func (p TDXPolicy) Word() uint64 { return encode(&p, tdxPolicyFlags) }

// String returns the names of the bits that are set, "none" without any.
func (p TDXPolicy) String() string { return orNone(names(&p, tdxPolicyFlags)) }

// ParseTDXPolicy reads String's form, or a number.
func ParseTDXPolicy(s string) (TDXPolicy, error) {
	if word, err := strconv.ParseUint(s, 0, 64); err == nil {
		return TDXPolicyOf(word)
	}
	var p TDXPolicy
	err := parse(&p, "TDX policy", s, tdxPolicyFlags, nil)
	return p, err
}

// Attributes returns the attributes that the policy asks for.
func (p TDXPolicy) Attributes() TDAttributes {
	return TDAttributes{Debug: p.Debug, SEPTVEDisable: p.SEPTVEDisable, Migratable: p.Migratable}
}

// XFAM is the extended features that a TD may use (TDX module base architecture,
// "XFAM"): bits of XCR0 and IA32_XSS. x87 and SSE are always there.
type XFAM struct {
	AVX, AVX512, PT, PKRU, CET, UINTR, LBR, AMX, APX bool
}

// xfamGroups lists the features; all bits of a feature are set or none.
var xfamGroups = []struct {
	mask  uint64
	name  string
	field func(*XFAM) *bool
}{
	{1 << 2, "avx", func(x *XFAM) *bool { return &x.AVX }},
	{7 << 5, "avx512", func(x *XFAM) *bool { return &x.AVX512 }},
	{1 << 8, "pt", func(x *XFAM) *bool { return &x.PT }},
	{1 << 9, "pkru", func(x *XFAM) *bool { return &x.PKRU }},
	{3 << 11, "cet", func(x *XFAM) *bool { return &x.CET }},
	{1 << 14, "uintr", func(x *XFAM) *bool { return &x.UINTR }},
	{1 << 15, "lbr", func(x *XFAM) *bool { return &x.LBR }},
	{3 << 17, "amx", func(x *XFAM) *bool { return &x.AMX }},
	{1 << 19, "apx", func(x *XFAM) *bool { return &x.APX }},
}

// xfamFixed1 is the bits that every TD has: x87 and SSE.
const xfamFixed1 = 3

// XFAMOf decodes the word. It refuses what TDH.MNG.INIT refuses: x87 or SSE
// missing, half a feature, AVX-512 without AVX, bits without a feature.
func XFAMOf(word uint64) (XFAM, error) {
	var x XFAM
	if word&xfamFixed1 != xfamFixed1 {
		return XFAM{}, fmt.Errorf("XFAM %#x: x87 and SSE cannot be off", word)
	}
	rest := word &^ xfamFixed1
	for _, g := range xfamGroups {
		switch word & g.mask {
		case g.mask:
			*g.field(&x) = true
		case 0:
		default:
			return XFAM{}, fmt.Errorf("XFAM %#x: only some of the bits %#x of %s", word, g.mask, g.name)
		}
		rest &^= g.mask
	}
	if rest != 0 {
		return XFAM{}, fmt.Errorf("XFAM %#x: bits %#x are reserved", word, rest)
	}
	return x, x.check()
}

func (x *XFAM) check() error {
	if x.AVX512 && !x.AVX {
		return fmt.Errorf("XFAM %#x: avx512 needs avx", x.Word())
	}
	return nil
}

// Word encodes the features.
func (x XFAM) Word() uint64 {
	word := uint64(xfamFixed1)
	for _, g := range xfamGroups {
		if *g.field(&x) {
			word |= g.mask
		}
	}
	return word
}

// String returns the names of the features beyond x87 and SSE, "none" without any.
func (x XFAM) String() string {
	var out []string
	for _, g := range xfamGroups {
		if *g.field(&x) {
			out = append(out, g.name)
		}
	}
	return orNone(out)
}

// ParseXFAM reads String's form, or a number.
func ParseXFAM(s string) (XFAM, error) {
	if word, err := strconv.ParseUint(s, 0, 64); err == nil {
		return XFAMOf(word)
	}
	var x XFAM
	flags := make([]flag[XFAM], 0, len(xfamGroups))
	for _, g := range xfamGroups {
		flags = append(flags, flag[XFAM]{name: g.name, field: g.field})
	}
	if err := parse(&x, "XFAM", s, flags, nil); err != nil {
		return XFAM{}, err
	}
	return x, x.check()
}

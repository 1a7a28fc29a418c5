package attest

import (
	"fmt"
	"strings"
	"time"

	"keel/diag/attest/claims"
)

// emulatedPrefix stands before every line about emulated evidence.
const emulatedPrefix = "EMULATED "

// Result is what good evidence says.
type Result struct {
	Kind     string
	Emulated bool // Keel's emulated TEE signed it: it proves nothing
	At       time.Time

	Measurement []byte // SNP launch digest or MRTD
	ReportData  [64]byte
	HostData    []byte // HOST_DATA or MRCONFIGID
	Debug       bool
	Claim       claims.Claim

	TCB     uint64 // SNP: reported TCB_VERSION
	Policy  uint64 // SNP: guest policy; TDX: ATTRIBUTES
	ChipID  []byte // SNP: CHIP_ID, zeros if the host hides it
	Version uint32 // of report or quote

	TEESVN []byte   // TDX: TEE_TCB_SVN
	MRSEAM []byte   // TDX: measurement of the TDX module
	RTMR   [][]byte // TDX: four run-time measurements

	// NotChecked lists what this verification did not look at.
	NotChecked []string
}

// Lines returns the result for people, one statement a line. Every line about emulated
// evidence begins with "EMULATED".
func (r *Result) Lines() []string {
	var lines []string
	add := func(name, format string, args ...any) {
		line := fmt.Sprintf("%-14s "+format, append([]any{name}, args...)...)
		if r.Emulated {
			line = emulatedPrefix + line
		}
		lines = append(lines, line)
	}
	if r.Emulated {
		add("evidence", "%s version %d, signed by Keel's emulated TEE: it proves nothing", r.Kind, r.Version)
	} else {
		add("evidence", "%s version %d, signed by the vendor's hardware", r.Kind, r.Version)
	}
	add("verified at", "%s", r.At.UTC().Format(time.RFC3339))
	add("measurement", "%x", r.Measurement)
	add("host data", "%x", r.HostData)
	add("debug", "%v", r.Debug)
	if r.Kind == claims.KindSNP {
		add("policy", "%#x", r.Policy)
		add("TCB", "%#016x", r.TCB)
		add("chip", "%x", r.ChipID)
	} else {
		add("attributes", "%#x", r.Policy)
		add("TEE TCB SVN", "%x", r.TEESVN)
		add("MRSEAM", "%x", r.MRSEAM)
		for i, m := range r.RTMR {
			add(fmt.Sprintf("RTMR%d", i), "%x", m)
		}
	}
	add("nonce", "%x", r.Claim.Nonce)
	add("EK digest", "%x", r.Claim.EK)
	add("AK digest", "%x", r.Claim.AK)
	add("configuration", "%x", r.Claim.Config)
	add("instance", "%x", r.Claim.Instance)
	for _, n := range r.NotChecked {
		add("not checked", "%s", n)
	}
	return lines
}

// String returns the lines as one text.
func (r *Result) String() string { return strings.Join(r.Lines(), "\n") + "\n" }

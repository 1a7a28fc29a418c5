package keyserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// good is a policy with all that there is.
var good = `{
  "version": 1,
  "vms": [
    {
      "name": "web",
      "measurements": {"snp": ["` + strings.Repeat("ab", 48) + `", "` + strings.Repeat("CD", 48) + `"], "tdx": ["` + strings.Repeat("01", 48) + `"]},
      "allow_emulated": true,
      "allow_debug": true,
      "min_tcb": {"snp": "0xd316000000000004", "tdx": "` + strings.Repeat("05", 16) + `"},
      "configurations": ["` + strings.Repeat("ef", 32) + `"]
    },
    {"name": "db", "measurements": {"snp": ["` + strings.Repeat("ab", 48) + `"]}}
  ]
}`

// oneLine wants an error with cause and remedy in a line.
func oneLine(tb testing.TB, err, want error, says string) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("%v, want %v", err, want)
	}
	if s := err.Error(); strings.ContainsAny(s, "\r\n\x1b\x00") || !strings.Contains(s, "; ") || !strings.Contains(s, says) || len(s) > 1024 {
		tb.Errorf("%q is not one line with a remedy and %q", s, says)
	}
}

func TestPolicy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ReadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	web, db := p.vms["web"], p.vms["db"]
	if p.VMs() != 2 || web == nil || db == nil {
		t.Fatalf("%+v", p)
	}
	if !web.emulated || !web.debug || web.minTCB != 0xd316000000000004 || web.minSVN[15] != 5 || len(web.measurements["snp"]) != 2 ||
		web.measurements["snp"][1][47] != 0xcd || len(web.measurements["tdx"]) != 1 || web.configurations[0][31] != 0xef {
		t.Errorf("%+v", web)
	}
	if db.emulated || db.debug || db.minTCB != 0 || db.minSVN != nil || db.configurations != nil {
		t.Errorf("what nobody wrote is allowed: %+v", db)
	}
	if _, err := p.find("nobody"); err == nil {
		t.Error("a VM that is not there is found")
	}
	_, err = ReadPolicy(filepath.Join(t.TempDir(), "absent"))
	oneLine(t, err, ErrPolicy, "readable")
}

func TestPolicyRefused(t *testing.T) {
	m := strings.Repeat("ab", 48)
	vm := func(fields string) string { return `{"version":1,"vms":[{"name":"web",` + fields + `}]}` }
	measured := `"measurements":{"snp":["` + m + `"]}`
	for name, test := range map[string]struct{ text, says string }{
		"empty":                {"", "too early"},
		"no JSON":              {"vms: web", "invalid"},
		"truncated":            {good[:len(good)/2], "too early"},
		"something after it":   {good + " {}", "after the end"},
		"a list":               {"[]", "array"},
		"deep":                 {strings.Repeat("[", 1000), "deep"},
		"unknown field":        {`{"version":1,"vmz":[]}`, `"vmz"`},
		"unknown field of VM":  {vm(measured + `,"allow_everything":true`), `"allow_everything"`},
		"field in other case":  {vm(measured + `,"Allow_Debug":true`), `"Allow_Debug"`},
		"long s for an s":      {vm(`"mea\u017furements":{"snp":["` + m + `"]}`), "unknown field"},
		"field twice":          {vm(measured + `,"allow_debug":false,"allow_debug":true`), "twice"},
		"field twice, escaped": {vm(measured + `,"allow_debug":false,"allow_\u0064ebug":true`), "twice"},
		"no version":           {`{"vms":[]}`, "version 0"},
		"another version":      {`{"version":2,"vms":[]}`, "version 2"},
		"no VMs":               {`{"version":1,"vms":[]}`, "0 VMs"},
		"no name":              {`{"version":1,"vms":[{` + measured + `}]}`, "VM 0"},
		"path for a name":      {`{"version":1,"vms":[{"name":"../web",` + measured + `}]}`, "VM 0"},
		"two of a name":        {`{"version":1,"vms":[{"name":"web",` + measured + `},{"name":"web",` + measured + `}]}`, `two VMs "web"`},
		"no measurements":      {vm(`"allow_debug":false`), "measurements"},
		"empty measurements":   {vm(`"measurements":{"snp":[]}`), "measurements.snp"},
		"unknown TEE":          {vm(`"measurements":{"sgx":["` + m + `"]}`), "measurements.sgx"},
		"short measurement":    {vm(`"measurements":{"snp":["` + m[2:] + `"]}`), "48 bytes"},
		"no digits":            {vm(`"measurements":{"snp":["` + m[1:] + `x"]}`), "48 bytes"},
		"many measurements":    {vm(`"measurements":{"snp":[` + strings.Repeat(`"`+m+`",`, 16) + `"` + m + `"]}`), "17 of them"},
		"short TCB":            {vm(measured + `,"min_tcb":{"snp":"d3"}`), "min_tcb.snp"},
		"TCB as a number":      {vm(measured + `,"min_tcb":{"snp":5}`), "min_tcb"},
		"TCB of unknown TEE":   {vm(measured + `,"min_tcb":{"sev":"d316000000000004"}`), "min_tcb.sev"},
		"short configuration":  {vm(measured + `,"configurations":["ab"]`), "configurations"},
		"truth as text":        {vm(measured + `,"allow_debug":"yes"`), "allow_debug"},
		"escape in a field":    {vm(measured + `,"\u001b[2J":1`), "unknown field"},
		"huge":                 {strings.Repeat(" ", maxPolicy+1), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ParsePolicy([]byte(test.text))
			if p != nil {
				t.Errorf("%+v", p)
			}
			oneLine(t, err, ErrPolicy, test.says)
		})
	}
}

// TestMaxVMs takes the greatest policy, and none that is greater.
func TestMaxVMs(t *testing.T) {
	f := policyFile{Version: policyVersion}
	for i := range MaxVMs {
		f.VMs = append(f.VMs, policy{Name: fmt.Sprintf("vm-%d", i), Measurements: map[string][]string{"snp": {strings.Repeat("ab", 48)}}})
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := ParsePolicy(b); err != nil || p.VMs() != MaxVMs {
		t.Errorf("%v", err)
	}
	f.VMs = append(f.VMs, policy{Name: "one-more", Measurements: f.VMs[0].Measurements})
	if b, err = json.Marshal(f); err != nil {
		t.Fatal(err)
	}
	_, err = ParsePolicy(b)
	oneLine(t, err, ErrPolicy, "1025 VMs")
}

// FuzzPolicy: whatever is taken has bounds, and every VM an image that it must be.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"version":1,"vms":[{"name":"web","measurements":{"snp":[]}}]}`))
	f.Add([]byte(`{"version":1,"vms":null}`))
	f.Add([]byte(`{"version":1,"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			oneLine(t, err, ErrPolicy, "")
			return
		}
		if p.VMs() < 1 || p.VMs() > MaxVMs {
			t.Fatalf("%d VMs", p.VMs())
		}
		for name, r := range p.vms {
			n := 0
			for kind, list := range r.measurements {
				n += len(list)
				for _, m := range list {
					if len(m) != measurementSize || kind != "snp" && kind != "tdx" {
						t.Fatalf("%q: %s %x", name, kind, m)
					}
				}
			}
			if n == 0 || len(r.configurations) > maxListed {
				t.Fatalf("%q: %d measurements, %d configurations", name, n, len(r.configurations))
			}
			if (r.emulated || r.debug) && p.check(false, false) == nil {
				t.Fatalf("%q allows what the server was not allowed to", name)
			}
		}
	})
}

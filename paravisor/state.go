package paravisor

import (
	"keel/diag/inspect"
	"keel/vtl"
)

// Inspect writes the machine's parts.
func (m *machine) Inspect(f *inspect.Fields) {
	if m.tpm != nil {
		f.Node("tpm", m.tpm, "the guest's TPM")
	}
	if m.isolation != nil {
		f.Node("isolation", m.isolation, "what keeps the guest's memory from the host")
	}
	if m.gate != nil {
		f.Node("strict", m.gate, "requests to the host while the guest runs")
	}
	if m.oracle {
		f.Node("oracle", comparison(m.guest.Oracle()), "what Keel executed, compared with KVM")
	}
}

// comparison is the node of the oracle.
type comparison vtl.OracleStats

// Inspect writes the counts and the first difference.
func (c comparison) Inspect(f *inspect.Fields) {
	f.Uint("compared", inspect.Private, inspect.Count, c.Compared, "instructions whose accesses and registers were compared")
	f.Uint("skipped", inspect.Private, inspect.Count, c.Skipped, "instructions that were not, for sampling or because they did not complete in one go")
	f.Uint("different", inspect.Private, inspect.Count, c.Different, "instructions that differed")
	f.Text("first_difference", inspect.Private, c.First, "the first of them")
}

// Inspect writes the TPM's counters and those of its registers.
func (t *tpm) Inspect(f *inspect.Fields) {
	t.engine.Inspect(f)
	if t.reports != nil {
		f.Node("state_reports", t.reports, "what the key server knows of the TPM's state")
	}
	f.Uint("register_writes_ignored", inspect.Private, inspect.Count, t.ignored(), "writes to the TPM's registers that had no effect")
}

// stateDepth is more than any part of the tree has levels.
const stateDepth = 16

// state returns the tree for the run report, nil when there is nothing in it. The host
// sees all of a machine that is not confidential: there is no other yet.
func (m *machine) state() map[string]any {
	root, err := inspect.Look(m, "", stateDepth)
	if err != nil || len(root.Fields) == 0 {
		return nil
	}
	all, _ := root.Plain(inspect.Private)
	state, _ := all.(map[string]any)
	return state
}

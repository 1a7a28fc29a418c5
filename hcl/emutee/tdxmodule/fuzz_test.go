package tdxmodule

import (
	"bytes"
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// FuzzOperations lets the fuzzer find a sequence on which TD and model differ.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{
		hostSEPTAdd, 0, 0, 2, 0, 0, 0, 0, hostAug, 0, 0, 1, 0, 0, 0, 0, hostFunctions, 0, 0, 1, 0, 0, 0, 0,
		hostFunctions + 3, 0, 0, 1, 3, 0xff, 0, 5, hostBlock, 0, 0, 1, 0, 0, 0, 0, hostDemote, 0, 0, 1, 0, 0, 0, 0,
		hostBlock, 0, 0, 1, 0, 0, 0, 0, hostPromote, 0, 0, 1, 0, 0, 0, 0,
	})
	f.Add([]byte{hostSEPTAdd, 5, 0, 2, 0, 0, 0, 0, hostBlock, 5, 0, 2, 0, 0, 0, 0, hostSEPTRemove, 5, 0, 2, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		td, m := modelTD(t), newModel()
		for len(b) >= stepSize {
			modelStep(t, td, m, b[:stepSize])
			b = b[stepSize:]
		}
		modelCompare(t, td, m)
	})
}

// FuzzState enters with any state: whatever the VMCS then holds is judged and left within
// bounds.
func FuzzState(f *testing.F) {
	f.Add([]byte{}, uint32(tdx.EXIT_IO_INSTRUCTION), uint64(0x3f8<<16))
	f.Add(bytes.Repeat([]byte{0xff}, 256), uint32(tdx.EXIT_MSR_WRITE), uint64(1))
	f.Add(bytes.Repeat([]byte{0x80, 0x5a}, 128), uint32(tdx.EXIT_CR_ACCESS), uint64(0x8))
	f.Fuzz(func(t *testing.T, b []byte, reason uint32, word uint64) {
		v := newVP(t, nil)
		page := make([]byte, 256)
		copy(page, b)
		var s l2.EnterState
		if err := s.Decode(page); err != nil {
			t.Fatal(err)
		}
		v.Load(1, &s)
		var again l2.EnterState
		again.Registers = s.Registers
		again.Registers.RSP, again.Registers.RIP, again.Registers.RFLAGS = 1, 2, 3
		if v.Save(1, &again); again != s {
			t.Errorf("%+v, want %+v", again, s)
		}
		if w := v.Violation(1); w >= violations || w.String() == "" {
			t.Errorf("violation %d", w)
		}
		x := l2.Exit{Reason: reason, Qualification: word, GPA: x86.GPA(word), Length: uint32(word) & 15}
		if r := v.Route(1, &x, word, word, word); r > RouteFatal {
			t.Errorf("route %d", r)
		}
		v.current = 1
		o := v.Leave(&x)
		if got := o.Exit(); got != x || v.Current() != tdx.VM_L1 {
			t.Errorf("L1 reads %+v, want %+v", got, x)
		}
	})
}

// FuzzFields reads, writes and reads any field: what a write may not touch stays, and a
// refused write changes nothing.
func FuzzFields(f *testing.F) {
	for _, id := range []uint64{
		0, tdx.FIELD_NONE, l2.VMCSField(1, tdx.VMCS_GUEST_CR0), l2.VMCSField(2, tdx.VMCS_GUEST_CR4), l2.VMCSField(1, tdx.VMCS_VIRTUAL_APIC),
		l2.MSRBitmapField(1, 511), l2.MSRBitmapField(3, 0), tdx.VP_L2_CTLS + 2, tdx.VP_CPUID_CONTROL + 127, tdx.TD_CTLS, tdx.TD_RTMR + 23,
	} {
		f.Add(id, uint64(0x80000021), uint64(all))
		f.Add(id, uint64(1), uint64(1))
	}
	f.Fuzz(func(t *testing.T, id, value, mask uint64) {
		v := newVP(t, func(c *Config) { c.FlexibleVE = true })
		for _, at := range []struct {
			read  func(rcx, id uint64) FieldResult
			write func(rcx, id, value, mask uint64) FieldResult
		}{{v.Read, v.Write}, {v.td.Read, v.td.Write}} {
			before := at.read(0, id)
			w := at.write(0, id, value, mask)
			after := at.read(0, id)
			if before.Status != after.Status || before.Next != after.Next {
				t.Fatalf("%#x: %+v, after a write %+v", id, before, after)
			}
			switch {
			case before.Status != tdx.STATUS_SUCCESS && w.Status == tdx.STATUS_SUCCESS:
				t.Errorf("%#x cannot be read, but written", id)
			case w.Status != tdx.STATUS_SUCCESS && after.Value != before.Value:
				t.Errorf("%#x: a refused write changed %#x to %#x", id, before.Value, after.Value)
			case w.Status == tdx.STATUS_SUCCESS && w.Value != before.Value:
				t.Errorf("%#x: a write says that %#x was %#x", id, before.Value, w.Value)
			case w.Status == tdx.STATUS_SUCCESS && before.Value != vapicUnset && (after.Value^before.Value)&^mask != 0:
				t.Errorf("%#x: a write of the bits %#x changed %#x to %#x", id, mask, before.Value, after.Value)
			}
		}
	})
}

// vapicUnset is an address that was never set: its other bits go with the first write.
const vapicUnset = uint64(null)

// FuzzCall executes any TDCALL: it ends with a known outcome, and memory is touched
// within the TD alone.
func FuzzCall(f *testing.F) {
	for leaf := range uint64(31) {
		f.Add(leaf, uint64(0), uint64(0), uint64(0), uint64(0))
		f.Add(leaf, uint64(1<<52), uint64(0x400), uint64(0), uint64(all))
	}
	f.Fuzz(func(t *testing.T, rax, rcx, rdx, r8, r9 uint64) {
		td := filled(t, func(c *Config) { c.Reporter = fakeReporter{} })
		v, err := td.NewVP()
		if err != nil {
			t.Fatal(err)
		}
		r := l2.Registers{RAX: rax, RCX: rcx, RDX: rdx, R8: r8, R9: r9}
		called, err := v.Call(&r, &guestMemory{t: t, bytes: make([]byte, memory)}, false)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case called.Outcome > OutcomeFault, called.Outcome == OutcomeFault && called.Fault.OK():
			t.Errorf("%+v", called)
		case called.Outcome == OutcomeEnter != (v.Current() != tdx.VM_L1):
			t.Errorf("%+v, current VM %d", called, v.Current())
		}
	})
}

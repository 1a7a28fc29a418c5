package tdxmodule

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"testing"

	"keel/hcl/abi/tdx"
	"keel/hcl/abi/x86"
	"keel/hcl/tdx/l2"
)

// guestMemory is the memory of a TD in tests.
type guestMemory struct {
	t     testing.TB
	bytes []byte
	fail  error
}

func (m *guestMemory) at(gpa x86.GPA, length int) []byte {
	gpa &^= shared
	if uint64(gpa)+uint64(length) > uint64(len(m.bytes)) {
		m.t.Fatalf("%#x of %d bytes is not the TD's", gpa, length)
	}
	return m.bytes[gpa:][:length]
}

func (m *guestMemory) Read(gpa x86.GPA, b []byte) error {
	if m.fail == nil && (gpa&shared == 0 || uint64(gpa&^shared) < uint64(len(m.bytes))) {
		copy(b, m.at(gpa, len(b)))
	}
	return m.fail
}

func (m *guestMemory) Write(gpa x86.GPA, b []byte) error {
	if m.fail == nil && (gpa&shared == 0 || uint64(gpa&^shared) < uint64(len(m.bytes))) {
		copy(m.at(gpa, len(b)), b)
	}
	return m.fail
}

func (m *guestMemory) Clear(gpa x86.GPA, length uint64) error {
	if m.fail == nil {
		clear(m.at(gpa, int(length)))
	}
	return m.fail
}

// fakeReporter puts what it is asked into a report.
type fakeReporter struct{ err error }

func (f fakeReporter) Report(td *Info, data *[tdx.REPORT_DATA_SIZE]byte, report *[tdx.REPORT_SIZE]byte) error {
	*report = [tdx.REPORT_SIZE]byte{tdx.REPORT_TYPE: tdx.REPORT_TYPE_TDX}
	copy(report[tdx.REPORT_DATA:], data[:])
	copy(report[tdx.REPORT_TDINFO+tdx.TDINFO_MRTD:], td.MRTD[:])
	return f.err
}

// caller is a VP with memory.
type caller struct {
	*VP
	memory *guestMemory
}

func newCaller(t *testing.T) caller {
	t.Helper()
	td := filled(t, func(c *Config) {
		c.Reporter = fakeReporter{}
		c.Measurements.MRTD = Digest{1, 2, 3}
	})
	v, err := td.NewVP()
	if err != nil {
		t.Fatal(err)
	}
	return caller{v, &guestMemory{t: t, bytes: bytes.Repeat([]byte{0xa5}, memory)}}
}

func (c caller) call(t *testing.T, r l2.Registers) (l2.Registers, Called) {
	t.Helper()
	called, err := c.Call(&r, c.memory, false)
	if err != nil {
		t.Fatal(err)
	}
	return r, called
}

// TestCalls: ABI, "Guest-Side (TDCALL) Interface Functions": the registers of each leaf.
func TestCalls(t *testing.T) {
	const badRAX, badRCX, badRDX = uint64(0xC000010000000000), uint64(0xC000010000000001), uint64(0xC000010000000002)
	for _, c := range []struct {
		what   string
		in     l2.Registers
		want   l2.Registers
		called Called
	}{
		{"an unknown leaf", l2.Registers{RAX: 13}, l2.Registers{RAX: badRAX}, Called{}},
		{"leaf 255", l2.Registers{RAX: 255}, l2.Registers{RAX: badRAX}, Called{}},
		{"a version", l2.Registers{RAX: 1<<16 | 1}, l2.Registers{RAX: badRAX}, Called{}},
		{"reserved bits of RAX", l2.Registers{RAX: 1<<24 | 1}, l2.Registers{RAX: badRAX}, Called{}},
		{"VMCALL", l2.Registers{RCX: 0xfc00}, l2.Registers{RCX: 0xfc00}, Called{Outcome: OutcomeHost}},
		{"VMCALL with RSP", l2.Registers{RCX: 1 << 4}, l2.Registers{RAX: badRCX, RCX: 1 << 4}, Called{}},
		{"VMCALL with reserved bits", l2.Registers{RCX: 1 << 32}, l2.Registers{RAX: badRCX, RCX: 1 << 32}, Called{}},
		{"INFO", l2.Registers{RAX: 1, R11: 9}, l2.Registers{RCX: 48, R8: 4<<32 | 1, R10: 1}, Called{}},
		{"VEINFO.GET, nothing there", l2.Registers{RAX: 3, RCX: 9}, l2.Registers{RAX: 0xC000070400000000}, Called{}},
		{"CPUIDVE.SET", l2.Registers{RAX: 5, RCX: 3}, l2.Registers{RCX: 3}, Called{}},
		{"CPUIDVE.SET, reserved", l2.Registers{RAX: 5, RCX: 4}, l2.Registers{RAX: badRCX, RCX: 4}, Called{}},
		{"ACCEPT", l2.Registers{RAX: 6, RCX: k4}, l2.Registers{RCX: k4}, Called{}},
		{
			"ACCEPT of what is free",
			l2.Registers{RAX: 6, RCX: 3 * k4},
			l2.Registers{RAX: 6, RCX: 3 * k4},
			Called{OutcomeFault, Fault{FaultHost, 2, eeq(1, 0, 0, 0, false)}, 3 * k4},
		},
		{"VM.RD version 0", l2.Registers{RAX: 7, RDX: tdx.TD_NUM_L2_VMS}, l2.Registers{RDX: tdx.TD_NUM_L2_VMS, R8: 2}, Called{}},
		{"VM.RD version 1", l2.Registers{RAX: 1<<16 | 7, RDX: tdx.TD_NUM_L2_VMS}, l2.Registers{RDX: tdx.TD_ATTRIBUTES, R8: 2}, Called{}},
		{"VM.WR", l2.Registers{RAX: 8, RDX: tdx.TD_NOTIFY_ENABLES, R8: 1, R9: 1}, l2.Registers{RDX: tdx.TD_NOTIFY_ENABLES, R9: 1}, Called{}},
		{"VP.RD", l2.Registers{RAX: 9, RDX: tdx.VP_L2_CTLS + 1}, l2.Registers{RDX: tdx.VP_L2_CTLS + 2}, Called{}},
		{"VP.WR", l2.Registers{RAX: 10, RDX: tdx.VP_L2_CTLS + 1, R8: 2, R9: 7}, l2.Registers{RDX: tdx.VP_L2_CTLS + 1, R9: 7}, Called{}},
		{"ATTR.RD", l2.Registers{RAX: 23, RCX: m2 + 5}, l2.Registers{RCX: m2 | 1}, Called{}},
		{
			"ATTR.WR",
			l2.Registers{RAX: 24, RCX: m2 | 1, RDX: 0x800f0000, R8: 0xf0000},
			l2.Registers{RCX: m2 | 1, RDX: 0x800f0000, R8: 0xf0000},
			Called{},
		},
		{"ATTR.WR, refused", l2.Registers{RAX: 24, RDX: 1}, l2.Registers{RAX: badRDX}, Called{}},
		{"ENTER", l2.Registers{RAX: 25, RCX: 1 << 52, RDX: 0x100}, l2.Registers{RCX: 1 << 52, RDX: 0x100}, Called{Outcome: OutcomeEnter}},
		{"INVEPT", l2.Registers{RAX: 26, RCX: 6}, l2.Registers{RCX: 6}, Called{}},
		{"INVEPT of L1", l2.Registers{RAX: 26, RCX: 1}, l2.Registers{RAX: badRCX, RCX: 1}, Called{}},
		{"INVEPT of a VM that does not exist", l2.Registers{RAX: 26, RCX: 8}, l2.Registers{RAX: badRCX, RCX: 8}, Called{}},
		{"INVGLA", l2.Registers{RAX: 27, RCX: 1 << 52, RDX: 0x7ffffffff000}, l2.Registers{RCX: 1 << 52, RDX: 0x7ffffffff000}, Called{}},
		{
			"INVGLA, not canonical",
			l2.Registers{RAX: 27, RCX: 1 << 52, RDX: 0x7ffffffff001},
			l2.Registers{RAX: 0xC000116000000000, RCX: 1 << 52, RDX: 0x7ffffffff001},
			Called{},
		},
		{"INVGLA of L1", l2.Registers{RAX: 27}, l2.Registers{RAX: badRCX}, Called{}},
		{"INVGLA, reserved", l2.Registers{RAX: 27, RCX: 1<<52 | 2}, l2.Registers{RAX: badRCX, RCX: 1<<52 | 2}, Called{}},
		{"INVGLA, an empty list", l2.Registers{RAX: 27, RCX: 1<<52 | 1, RDX: m2 | 7}, l2.Registers{RCX: 1<<52 | 1, RDX: m2 | 7}, Called{}},
		{
			"INVGLA, a list with bad entries",
			l2.Registers{RAX: 27, RCX: 1<<52 | 1, RDX: 1<<52 | m2},
			l2.Registers{RAX: 0xC000116000000000, RCX: 1<<52 | 1, RDX: 1<<52 | m2},
			Called{},
		},
		{
			"INVGLA, a list too long",
			l2.Registers{RAX: 27, RCX: 1<<52 | 1, RDX: 512<<52 | m2 | 1},
			l2.Registers{RAX: badRDX, RCX: 1<<52 | 1, RDX: 512<<52 | m2 | 1},
			Called{},
		},
		{
			"INVGLA, the list is pending",
			l2.Registers{RAX: 27, RCX: 1<<52 | 1, RDX: k4},
			l2.Registers{RAX: 27, RCX: 1<<52 | 1, RDX: k4},
			Called{OutcomeFault, Fault{Kind: FaultVE, Qualification: 1}, k4},
		},
		{"RTMR.EXTEND", l2.Registers{RAX: 2, RCX: 0x40, RDX: 3}, l2.Registers{RCX: 0x40, RDX: 3}, Called{}},
		{"RTMR.EXTEND, not aligned", l2.Registers{RAX: 2, RCX: 0x20}, l2.Registers{RAX: badRCX, RCX: 0x20}, Called{}},
		{"RTMR.EXTEND, shared", l2.Registers{RAX: 2, RCX: 1 << 47}, l2.Registers{RAX: badRCX, RCX: 1 << 47}, Called{}},
		{"RTMR.EXTEND of a fifth", l2.Registers{RAX: 2, RDX: 4}, l2.Registers{RAX: badRDX, RDX: 4}, Called{}},
		{
			"RTMR.EXTEND, free",
			l2.Registers{RAX: 2, RCX: 3 * k4},
			l2.Registers{RAX: 2, RCX: 3 * k4},
			Called{OutcomeFault, Fault{Kind: FaultHost, Qualification: 1}, 3 * k4},
		},
		{"REPORT", l2.Registers{RAX: 4, RCX: 0x400, RDX: 0x40}, l2.Registers{RCX: 0x400, RDX: 0x40}, Called{}},
		{"REPORT in shared memory", l2.Registers{RAX: 4, RCX: 1<<47 | 0x400, RDX: 1<<47 | 0x40}, l2.Registers{RCX: 1<<47 | 0x400, RDX: 1<<47 | 0x40}, Called{}},
		{"REPORT, report not aligned", l2.Registers{RAX: 4, RCX: 0x200}, l2.Registers{RAX: badRCX, RCX: 0x200}, Called{}},
		{"REPORT, data not aligned", l2.Registers{RAX: 4, RDX: 0x20}, l2.Registers{RAX: badRDX, RDX: 0x20}, Called{}},
		{"REPORT, another subtype", l2.Registers{RAX: 4, R8: 1}, l2.Registers{RAX: 0xC000010000000008, R8: 1}, Called{}},
		{"REPORT, bits above", l2.Registers{RAX: 4, RCX: 1 << 50}, l2.Registers{RAX: badRCX, RCX: 1 << 50}, Called{}},
		{
			"REPORT into pending memory",
			l2.Registers{RAX: 4, RCX: k4},
			l2.Registers{RAX: 4, RCX: k4},
			Called{OutcomeFault, Fault{Kind: FaultVE, Qualification: 2}, k4},
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			v := newCaller(t)
			v.set(1, tdx.VMCS_VIRTUAL_APIC, 0)
			got, called := v.call(t, c.in)
			if got != c.want || called != c.called {
				t.Errorf("%#x\n%+v, want\n%#x\n%+v", got, called, c.want, c.called)
			}
		})
	}
}

// TestReport: what is in a report, and in which register.
func TestReport(t *testing.T) {
	v := newCaller(t)
	copy(v.memory.bytes[0x40:], "report data")
	if r, _ := v.call(t, l2.Registers{RAX: tdx.TDG_MR_REPORT, RCX: m2, RDX: 0x40}); r.RAX != 0 {
		t.Fatalf("%#x", r.RAX)
	}
	report := v.memory.bytes[m2:][:tdx.REPORT_SIZE]
	if !bytes.HasPrefix(report[tdx.REPORT_DATA:], []byte("report data")) || report[tdx.REPORT_TDINFO+tdx.TDINFO_MRTD+2] != 3 {
		t.Errorf("% x", report)
	}
	v.td.config.Reporter = nil
	if r, _ := v.call(t, l2.Registers{RAX: tdx.TDG_MR_REPORT, RCX: m2, RDX: 0x40}); r.RAX != tdx.STATUS_OPERAND_INVALID {
		t.Errorf("nobody reports: %#x", r.RAX)
	}
	broken := errors.New("broken")
	v.td.config.Reporter = fakeReporter{broken}
	if _, err := v.Call(&l2.Registers{RAX: tdx.TDG_MR_REPORT, RCX: m2, RDX: 0x40}, v.memory, false); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// TestExtend: a register is SHA-384 of itself and the data (ABI, "TDG.MR.RTMR.EXTEND").
func TestExtend(t *testing.T) {
	v := newCaller(t)
	var want [48]byte
	for i := range 2 {
		data := bytes.Repeat([]byte{byte(i)}, 48)
		copy(v.memory.bytes[0x80:], data)
		v.call(t, l2.Registers{RAX: tdx.TDG_MR_RTMR_EXTEND, RCX: 0x80, RDX: 1})
		want = sha512.Sum384(append(want[:], data...))
	}
	got := v.td.Measurements().RTMR
	if got[1] != want || got[0] != (Digest{}) || got[2] != (Digest{}) {
		t.Errorf("% x, want % x", got, want)
	}
	r := v.td.Read(0, tdx.TD_RTMR+6)
	if r.Status != 0 || byte(r.Value) != want[0] || r.Next != tdx.TD_RTMR+7 {
		t.Errorf("%#x", r)
	}
}

// TestAcceptClears: an accepted page is zero; an error of the memory is not success.
func TestAcceptClears(t *testing.T) {
	v := newCaller(t)
	if r, _ := v.call(t, l2.Registers{RAX: tdx.TDG_MEM_PAGE_ACCEPT, RCX: 3*m2 | 1}); r.RAX != 0 {
		t.Fatalf("%#x", r.RAX)
	}
	if page := v.memory.bytes[3*m2:]; !bytes.Equal(page, make([]byte, m2)) || v.memory.bytes[3*m2-1] != 0xa5 {
		t.Error("not cleared, or too much")
	}
	v.memory.fail = errors.New("broken")
	if _, err := v.Call(&l2.Registers{RAX: tdx.TDG_MEM_PAGE_ACCEPT, RCX: k4}, v.memory, false); !errors.Is(err, v.memory.fail) {
		t.Errorf("%v", err)
	}
	if v.td.Check(k4, 0, 0).OK() {
		t.Error("a page was accepted that was not cleared")
	}
}

// TestVE: ABI, "TDG.VP.VEINFO.GET Leaf": the information is fetched once.
func TestVE(t *testing.T) {
	v := newCaller(t)
	want := VEInfo{Reason: 48, Qualification: 0x182, GLA: 5, GPA: k4, Instruction: 3}
	if !v.RaiseVE(want) || v.RaiseVE(VEInfo{}) {
		t.Error("a second #VE before the first was fetched is #DF")
	}
	r, _ := v.call(t, l2.Registers{RAX: tdx.TDG_VP_VEINFO_GET})
	if r != (l2.Registers{RCX: 48, RDX: 0x182, R8: 5, R9: k4, R10: 3}) {
		t.Errorf("%#x", r)
	}
	if _, status := v.TakeVE(); status != tdx.STATUS_NO_VALID_VE_INFO || !v.RaiseVE(want) {
		t.Errorf("%#x", status)
	}
}

package reset

// Registers of the reset logic: "Intel I/O Controller Hub 9 Datasheet"
// (316972), §13.7.4 (RST_CNT, port CF9h) and §13.7.2 (port 92h).

// Where PCs have the two registers, one port each.
const (
	FastPort    = 0x92
	ControlPort = 0xcf9
)

// Port 92h.
const (
	fastInit = 1 << 0
	fastA20  = 1 << 1
	fastMask = fastInit | fastA20
)

// Port CF9h. The values below are what the FADT's RESET_VALUE may hold.
const (
	controlSystem = 1 << 1 // SYS_RST: hard reset rather than INIT
	controlCPU    = 1 << 2 // RST_CPU: its rising edge resets
	controlFull   = 1 << 3 // FULL_RST: power cycle
	controlMask   = controlSystem | controlCPU | controlFull

	// FADTValue makes a hard reset in a single write (ACPI 6.5 §4.8.3.6).
	FADTValue = controlSystem | controlCPU
)

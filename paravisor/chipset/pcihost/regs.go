package pcihost

// Registers of PCI configuration: "PCI Local Bus Specification" 3.0 §3.2.2.3.2
// (mechanism #1) and chapter 6 (header), "PCI Express Base Specification" 3.0
// §7.2.2 (ECAM), and "Intel 3 Series Express Chipset Family Datasheet" (316966)
// §5.1 for the host bridge.

// Where PCs have configuration mechanism #1, and its length in ports.
const (
	Port      = 0xcf8
	PortCount = 8
)

// Offsets of the ports. The reset control register shares the range.
const (
	portAddress = 0 // dword only
	portReset   = 1 // byte only
	portData    = 4
)

// CONFIG_ADDRESS.
const (
	addressEnable   = 1 << 31
	addressMask     = 0x80fffffc
	addressBDFShift = 8
)

// ECAMSize is the length of the memory-mapped window: 256 buses.
const ECAMSize = 256 << 20

// ecamBDFShift leaves 4 KiB for each function.
const ecamBDFShift = 12

// Header offsets of the host bridge.
const (
	cfgVendor  = 0x00
	cfgDevice  = 0x02
	cfgCommand = 0x04
	cfgClass   = 0x08 // dword: revision and class code
	cfgECAM    = 0x60 // PCIEXBAR, 64 bits
)

// Header of other functions, as far as Assign reads it (PCI 3.0 §6.1, §6.2.5.1).
const (
	cfgHeaderType  = 0x0e
	headerTypeMask = 0x7f // 0: an ordinary function
	cfgBAR         = 0x10
	barCount       = 6
	barIO          = 1 << 0
	barTypeMask    = 3 << 1
	barWide        = 2 << 1
	barFlags       = 0xf
	barPortFlags   = 3
	commandPorts   = 1 << 0
	commandMemory  = 1 << 1
	limitPorts     = 1 << 16
	limitNarrow    = 1 << 32 // where addresses of 32 bits end
)

// What the host bridge is: the memory controller hub of the Q35 chipset.
const (
	bridgeVendor  = 0x8086
	bridgeDevice  = 0x29c0
	bridgeCommand = 0x0006     // memory space and bus master, fixed
	bridgeClass   = 0x06000002 // host bridge, revision 2
	ecamEnable    = 1 << 0
)

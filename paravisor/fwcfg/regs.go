package fwcfg

// Interface of QEMU's firmware configuration device on x86 (QEMU
// docs/specs/fw_cfg.rst). All multi-byte fields are big-endian.
const (
	portSelector = 0x510 // 16 bits, write
	portDMA      = 0x514 // 64-bit address of the access structure, high half first
	portCount    = 12

	keySignature = 0x0000 // "QEMU"
	keyID        = 0x0001 // features, 32 bits little-endian
	keyDirectory = 0x0019 // count, then entries

	idDMA = 1 << 1

	entrySize = 64 // size u32, select u16, reserved u16, name [56]
	nameSize  = 56

	accessSize   = 16 // control u32, length u32, address u64
	accessError  = 1 << 0
	accessRead   = 1 << 1
	accessSkip   = 1 << 2
	accessSelect = 1 << 3
)

package i8042

// Registers and commands of the keyboard controller of PCs, named after "IBM
// Personal System/2 Hardware Interface Technical Reference: Keyboard and
// Auxiliary Device Controller" (S68X-2330), types 1 and 2.

// Where PCs have the two registers, one port each.
const (
	DataPort    = 0x60
	CommandPort = 0x64
)

// Status register.
const (
	statusOutputFull = 1 << 0
	statusSystem     = 1 << 2
	statusCommand    = 1 << 3 // the last write went to the command port
	statusUnlocked   = 1 << 4 // the keyboard lock is open
	statusTimeout    = 1 << 6
)

// Command byte.
const (
	byteSystem          = 1 << 2
	byteDisableKeyboard = 1 << 4
	byteDisableAux      = 1 << 5
	byteMask            = 0x7f
	byteReset           = byteDisableKeyboard | byteDisableAux
)

// Output port.
const (
	outNoReset = 1 << 0 // low: the processors are held in reset
	outA20     = 1 << 1
	outReset   = 0xc0 | outNoReset | outA20 // the lines to the devices idle high
)

// Commands.
const (
	cmdReadByte        = 0x20
	cmdWriteByte       = 0x60
	cmdDisableAux      = 0xa7
	cmdEnableAux       = 0xa8
	cmdTestAux         = 0xa9
	cmdSelfTest        = 0xaa
	cmdTestKeyboard    = 0xab
	cmdDisableKeyboard = 0xad
	cmdEnableKeyboard  = 0xae
	cmdReadInput       = 0xc0
	cmdReadOutput      = 0xd0
	cmdWriteOutput     = 0xd1
	cmdLoopKeyboard    = 0xd2
	cmdLoopAux         = 0xd3
	cmdWriteAux        = 0xd4
	cmdA20Off          = 0xdd
	cmdA20On           = 0xdf
	cmdPulse           = 0xf0 // to 0xff: zero bits of the low nibble pulse low
)

// Replies.
const (
	replySelfTest   = 0x55
	replyKeyboardOK = 0x00
	replyAuxStuck   = 0x02 // auxiliary clock line stuck high: nothing there
	replyInput      = 0xb0 // input port, nothing inhibited
	replyResend     = 0xfe // no device took the byte
)

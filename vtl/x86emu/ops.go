package x86emu

// Op is an operation that the emulator knows. Operations that differ only in
// the width of their operands share one.
type Op uint8

// The operations, in the order of their names below. The first eight are
// numbered as in opcodes 00h to 3Fh and 80h to 83h.
const (
	OpADD Op = iota
	OpOR
	OpADC
	OpSBB
	OpAND
	OpSUB
	OpXOR
	OpCMP
	OpTEST
	OpINC
	OpDEC
	OpNOT
	OpNEG
	OpBT
	OpBTS
	OpBTR
	OpBTC
	OpXCHG
	OpXADD
	OpCMPXCHG
	OpCMPXCHGxB
	OpMOV
	OpMOVZX
	OpMOVSX
	OpMOVSEG
	OpMOVBE
	OpCMOV
	OpSET
	OpPUSH
	OpPOP
	OpCALL
	OpJMP
	OpMOVS
	OpCMPS
	OpSTOS
	OpLODS
	OpSCAS
	OpINS
	OpOUTS
	OpVMOV  // whole vector register
	OpVMOVA // the same, aligned
	OpMOVSS
	OpMOVSD
	OpMOVQ
	OpMOVD
	OpMOVLP
	OpMOVHP
	OpNone      // defined, but not known here
	opUndefined // #UD
)

var opNames = [...]string{
	"ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP", "TEST", "INC", "DEC", "NOT", "NEG", "BT", "BTS", "BTR", "BTC",
	"XCHG", "XADD", "CMPXCHG", "CMPXCHG8B/16B", "MOV", "MOVZX", "MOVSX", "MOV Sreg", "MOVBE", "CMOVcc", "SETcc", "PUSH",
	"POP", "CALL", "JMP", "MOVS", "CMPS", "STOS", "LODS", "SCAS", "INS", "OUTS", "MOVU", "MOVA", "MOVSS", "MOVSD", "MOVQ",
	"MOVD", "MOVLP", "MOVHP", "none", "undefined",
}

// String names the operation.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// form says where an instruction's operands are.
type form uint8

const (
	formNone  form = iota
	formEG         // r/m, register
	formGE         // register, r/m
	formE          // r/m
	formEI8        // r/m, sign-extended byte
	formEI         // r/m, immediate of the operand's size
	formAI         // accumulator, immediate
	formI          // immediate
	formI8         // sign-extended byte
	formReg        // register in the opcode
	formAO         // accumulator, offset in the instruction
	formOA         // offset in the instruction, accumulator
	formVE         // vector register, r/m; flagStore turns it around
	formGroup      // ModRM.reg selects within groups[group]
)

// opFlags qualify a table entry.
type opFlags uint16

const (
	flagByte   opFlags = 1 << iota // 8-bit operands
	flagLock                       // LOCK is allowed with a memory destination
	flagMem                        // a register operand is undefined
	flagMemSup                     // a register operand is another instruction
	flag64                         // 64-bit mode defaults to 64-bit operands
	flagNo64                       // undefined in 64-bit mode
	flagOnly64                     // another instruction outside of 64-bit mode
	flagSrc8                       // the source has 8 bits
	flagSrc16                      // the source has 16 bits
	flagSrc32                      // the source has 32 bits
	flagStore                      // the vector register is the source
	flagVEX                        // a VEX form with the same operands exists
	flagLIG                        // VEX.L is ignored
	flagL0                         // VEX.L must be zero
	flagAlign                      // memory must be aligned
)

// entry is a row of an opcode table.
type entry struct {
	op    Op
	form  form
	flags opFlags
	group uint8
}

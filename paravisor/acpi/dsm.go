package acpi

import (
	"keel/hcl/abi/x86"
	"keel/vtpm/ppi"
)

// UUIDs of the TPM's device-specific methods, as ToUUID encodes them (ACPI §19.6.142).
var (
	// 3DDDFAA6-361B-4EB4-A424-8D10089D1653: Physical Presence Interface.
	ppiUUID = []byte{0xa6, 0xfa, 0xdd, 0x3d, 0x1b, 0x36, 0xb4, 0x4e, 0xa4, 0x24, 0x8d, 0x10, 0x08, 0x9d, 0x16, 0x53}
	// 376054ED-CC13-4675-901C-4756D7F2D45D: Memory Clear Interface.
	mciUUID = []byte{0xed, 0x54, 0x60, 0x37, 0x13, 0xcc, 0x75, 0x46, 0x90, 0x1c, 0x47, 0x56, 0xd7, 0xf2, 0xd4, 0x5d}
)

// Functions of the Physical Presence Interface (PPI 1.30 §2.1).
const (
	ppiFunctions     = 0 // which ones there are, a bit each
	ppiVersion       = 1
	ppiSubmit        = 2
	ppiPending       = 3
	ppiTransition    = 4
	ppiResponse      = 5
	ppiLanguage      = 6
	ppiSubmit2       = 7
	ppiConfirmation  = 8
	ppiAll           = 1<<(ppiConfirmation+1) - 1
	ppiFirstRevision = 1 // of function 3: without the parameter
)

// What the functions return.
const (
	ppiSuccess         = 0
	ppiNotThere        = 1 // functions 2 and 7
	ppiGeneralFailure  = 2 // function 2
	ppiBlocked         = 3 // function 7
	ppiReboot          = 2 // function 4: what carries a request out
	ppiNoLanguages     = 3 // function 6
	ppiAllowed         = 3 // smallest answer of function 8 that lets the OS ask
	mciFunctions       = 0
	mciRequest         = 1
	mciAll             = 1<<(mciRequest+1) - 1
	dsmArguments       = 4
	dsmNothing         = 0 // bits of function 0 for an unknown UUID
	dsmUUID            = opArg0
	dsmRevision        = opArg1
	dsmFunction        = opArg2
	dsmParameters      = opArg3
	requestArguments   = 2
	functionArguments  = 1
	functionRegionSize = 1
)

// presence returns the methods that leave requests in the memory at an address, and the
// objects that they need. The packages have names because Windows does not take one that
// a method makes on the way (a fact from QEMU's hw/acpi/tpm.c).
func presence(memory x86.GPA) term {
	zero := integer(0)
	return concat(
		memoryRegion("PPIM", integer(uint64(memory)), ppi.Size),
		fields("PPIM",
			field{"PRSP", ppi.ResponseAt, 4}, field{"PREQ", ppi.RequestAt, 4},
			field{"PPRM", ppi.ParameterAt, 4}, field{"PLST", ppi.LastAt, 4}, field{"MOVV", ppi.OverwriteAt, 1}),
		name("PPR2", pkg(zero, zero)),
		name("PPR3", pkg(zero, zero, zero)),
		allowance(memory),
		request(),
		dsm(),
	)
}

// allowance returns the method that reads what the firmware says of an operation. The
// operation is part of an address, so that it is bounded first.
func allowance(memory x86.GPA) term {
	operation := term{opArg0}
	return method("PFUN", functionArguments,
		when(not(less(operation, integer(ppi.FuncCount))), returning(integer(0))),
		memoryRegion("PPIF", concat(term{opAdd}, integer(uint64(memory)+ppi.FuncAt), operation, term{opNullTarget}), functionRegionSize),
		fields("PPIF", field{"FUNC", 0, 1}),
		returning(nameString("FUNC")))
}

// request returns the method that leaves an operation and its parameter for the firmware.
func request() term {
	operation, parameter, allowed := term{opArg0}, term{opArg1}, term{opLocal0}
	return method("PSUB", requestArguments,
		store(call("PFUN", operation), allowed),
		when(equal(allowed, integer(0)), returning(integer(ppiNotThere))),
		when(less(allowed, integer(ppiAllowed)), returning(integer(ppiBlocked))),
		store(operation, nameString("PREQ")),
		store(parameter, nameString("PPRM")),
		returning(integer(ppiSuccess)))
}

// dsm returns the method with the functions of both interfaces.
func dsm() term {
	result := term{opLocal0}
	function := func(n uint64, body ...term) term {
		return when(equal(term{dsmFunction}, integer(n)), body...)
	}
	first := valueAt(term{dsmParameters}, 0)
	two, three := nameString("PPR2"), nameString("PPR3")
	return method("_DSM", dsmArguments,
		when(equal(term{dsmUUID}, buffer(ppiUUID)),
			function(ppiFunctions, returning(buffer(le.AppendUint16(nil, ppiAll)))),
			function(ppiVersion, returning(text("1.3"))),
			function(ppiSubmit,
				store(call("PSUB", first, integer(0)), result),
				when(equal(result, integer(ppiBlocked)), returning(integer(ppiGeneralFailure))),
				returning(result)),
			function(ppiPending,
				when(equal(term{dsmRevision}, integer(ppiFirstRevision)),
					store(nameString("PREQ"), element(two, 1)),
					returning(two)),
				store(nameString("PREQ"), element(three, 1)),
				store(nameString("PPRM"), element(three, 2)),
				returning(three)),
			function(ppiTransition, returning(integer(ppiReboot))),
			function(ppiResponse,
				store(nameString("PLST"), element(three, 1)),
				store(nameString("PRSP"), element(three, 2)),
				returning(three)),
			function(ppiLanguage, returning(integer(ppiNoLanguages))),
			function(ppiSubmit2,
				store(integer(0), result),
				when(greater(concat(term{opSizeOf}, term{dsmParameters}), integer(1)),
					store(valueAt(term{dsmParameters}, 1), result)),
				returning(call("PSUB", first, result))),
			function(ppiConfirmation, returning(call("PFUN", first)))),
		when(equal(term{dsmUUID}, buffer(mciUUID)),
			function(mciFunctions, returning(buffer([]byte{mciAll}))),
			function(mciRequest,
				store(first, nameString("MOVV")),
				returning(integer(ppiSuccess)))),
		returning(buffer([]byte{dsmNothing})))
}

package scsi

// The commands. Each usage map has, for every byte of the CDB behind the operation
// code, the bits that count. The groups of bits are those of SPC-4 clause 6,
// SBC-3 clause 5 and MMC-6 clause 6. NACA is always looked at.
func init() {
	operations = []operation{
		op(opTestUnitReady, "00 00 00 00 04", onMedia|onKnown, accessNone, soon, runTestUnitReady),
		op(opRequestSense, "01 00 00 ff 04", onEverything, accessNone, soon, runRequestSense).quietly(),
		op(opRead6, "1f ff ff ff 04", onDisk, accessRead, transfer, runRead),
		op(opWrite6, "1f ff ff ff 04", onDisk, accessWrite, transfer, runWrite),
		op(opInquiry, "01 ff ff ff 04", onEverything, accessNone, soon, runInquiry).quietly(),
		op(opModeSelect6, "11 00 00 ff 04", onMedia, accessWrite, transfer, runModeSelect),
		op(opModeSense6, "08 ff ff ff 04", onMedia, accessRead, soon, runModeSense),
		op(opStartStopUnit, "01 00 0f f7 04", onMedia, accessStart, slow, runStartStopUnit),
		op(opPreventAllow, "00 00 00 03 04", onMedia, accessPrevent, soon, runPreventAllow),
		op(opReadCapacity10, "00 ff ff ff ff 00 00 01 04", onMedia, accessNone, soon, runReadCapacity10),
		op(opRead10, "f8 ff ff ff ff 00 ff ff 04", onMedia, accessRead, transfer, runRead),
		op(opWrite10, "f8 ff ff ff ff 00 ff ff 04", onDisk, accessWrite, transfer, runWrite),
		op(opWriteAndVerify10, "f6 ff ff ff ff 00 ff ff 04", onDisk, accessWrite, slow, runWriteAndVerify),
		op(opVerify10, "f6 ff ff ff ff 00 ff ff 04", onDisk, accessRead, slow, runVerify),
		op(opSynchronizeCache10, "02 ff ff ff ff 00 ff ff 04", onDisk, accessWrite, slow, runSynchronizeCache),
		op(opWriteSame10, "fe ff ff ff ff 00 ff ff 04", onDisk, accessWrite, slow, runWriteSame),
		op(opUnmap, "01 00 00 00 00 00 ff ff 04", onDisk, accessWrite, slow, runUnmap).discarding(),
		op(opReadTOC, "02 0f 00 00 00 ff ff ff c4", onDVD, accessRead, soon, runReadTOC),
		op(opGetConfiguration, "03 ff ff 00 00 00 ff ff 04", onDVD, accessNone, soon, runGetConfiguration).quietly(),
		op(opGetEventStatus, "01 00 00 ff 00 00 ff ff 04", onDVD, accessNone, soon, runGetEventStatus).quietly(),
		op(opLogSense, "01 ff ff 00 ff ff ff ff 04", onMedia, accessNone, soon, runLogSense),
		op(opReadDiscInformation, "07 00 00 00 00 00 ff ff 04", onDVD, accessRead, soon, runReadDiscInformation),
		op(opModeSelect10, "11 00 00 00 00 00 ff ff 04", onMedia, accessWrite, transfer, runModeSelect),
		op(opModeSense10, "18 ff ff 00 00 00 ff ff 04", onMedia, accessRead, soon, runModeSense),
		op(opPersistentReserveIn, "00 00 00 00 00 00 ff ff 04", onDisk, accessNone, soon, runReadKeys).withAction(saReadKeys),
		op(opPersistentReserveIn, "00 00 00 00 00 00 ff ff 04", onDisk, accessNone, soon, runReadReservation).withAction(saReadReservation),
		op(opPersistentReserveIn, "00 00 00 00 00 00 ff ff 04", onDisk, accessNone, soon, runCapabilities).withAction(saCapabilities),
		op(opPersistentReserveIn, "00 00 00 00 00 00 ff ff 04", onDisk, accessNone, soon, runReadFullStatus).withAction(saReadFullStatus),
		op(opPersistentReserveOut, "00 00 00 00 ff ff ff ff 04", onDisk, accessNone, soon, runReserveOut).withAction(saRegister),
		op(opPersistentReserveOut, "00 ff 00 00 ff ff ff ff 04", onDisk, accessNone, soon, runReserveOut).withAction(saReserve),
		op(opPersistentReserveOut, "00 ff 00 00 ff ff ff ff 04", onDisk, accessNone, soon, runReserveOut).withAction(saRelease),
		op(opPersistentReserveOut, "00 00 00 00 ff ff ff ff 04", onDisk, accessNone, soon, runReserveOut).withAction(saClear),
		op(opPersistentReserveOut, "00 ff 00 00 ff ff ff ff 04", onDisk, accessNone, soon, runReserveOut).withAction(saPreempt),
		op(opPersistentReserveOut, "00 ff 00 00 ff ff ff ff 04", onDisk, accessNone, slow, runReserveOut).withAction(saPreemptAbort),
		op(opPersistentReserveOut, "00 00 00 00 ff ff ff ff 04", onDisk, accessNone, soon, runReserveOut).withAction(saRegisterIgnore),
		op(opRead16, "f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04", onDisk, accessRead, transfer, runRead),
		op(opCompareAndWrite, "f8 ff ff ff ff ff ff ff ff 00 00 00 ff 00 04", onDisk, accessWrite, transfer, runCompareAndWrite),
		op(opWrite16, "f8 ff ff ff ff ff ff ff ff ff ff ff ff 00 04", onDisk, accessWrite, transfer, runWrite),
		op(opWriteAndVerify16, "f6 ff ff ff ff ff ff ff ff ff ff ff ff 00 04", onDisk, accessWrite, slow, runWriteAndVerify),
		op(opVerify16, "f6 ff ff ff ff ff ff ff ff ff ff ff ff 00 04", onDisk, accessRead, slow, runVerify),
		op(opSynchronizeCache16, "02 ff ff ff ff ff ff ff ff ff ff ff ff 00 04", onDisk, accessWrite, slow, runSynchronizeCache),
		op(opWriteSame16, "ff ff ff ff ff ff ff ff ff ff ff ff ff 00 04", onDisk, accessWrite, slow, runWriteSame),
		op(opServiceActionIn16, "00 ff ff ff ff ff ff ff ff ff ff ff ff 01 04", onDisk, accessNone, soon, runReadCapacity16).withAction(saReadCapacity16),
		op(opReportLUNs, "00 ff 00 00 00 ff ff ff ff 00 04", onEverything, accessNone, soon, runReportLUNs).quietly(),
		op(opMaintenanceIn, "00 87 ff ff ff ff ff ff ff 00 04", onMedia, accessRead, soon, runReportOpcodes).withAction(saReportOpcodes),
		op(opMaintenanceIn, "00 80 00 00 00 ff ff ff ff 00 04", onMedia, accessRead, soon, runReportFunctions).withAction(saReportFunctions),
		op(opRead12, "f8 ff ff ff ff ff ff ff ff 00 04", onMedia, accessRead, transfer, runRead),
		op(opWrite12, "f8 ff ff ff ff ff ff ff ff 00 04", onDisk, accessWrite, transfer, runWrite),
		op(opWriteAndVerify12, "f6 ff ff ff ff ff ff ff ff 00 04", onDisk, accessWrite, slow, runWriteAndVerify),
		op(opVerify12, "f6 ff ff ff ff ff ff ff ff 00 04", onDisk, accessRead, slow, runVerify),
		op(opMechanismStatus, "00 00 00 00 00 00 00 ff ff 00 04", onDVD, accessNone, soon, runMechanismStatus),
	}
	for i := range operations {
		o := &operations[i]
		byOpcode[o.opcode] = append(byOpcode[o.opcode], o)
	}
}

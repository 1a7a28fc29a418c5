package nvme

import (
	"fmt"

	"keel/translate/blk"
)

// status is the status field of a completion without its phase: code in bits 0 to
// 7, type in bits 8 to 10, Do Not Retry in bit 14 (NVMe §4.6.1).
type status uint16

const (
	statusCodeMask   status = 0x7ff
	statusDoNotRetry status = 1 << 14
)

// Codes with their type (NVMe §4.6.1.2.1 to §4.6.1.2.4).
const (
	scInvalidOpcode    status = 0x001
	scInvalidField     status = 0x002
	scTransferError    status = 0x004
	scPowerLoss        status = 0x005
	scInternal         status = 0x006
	scAbortRequested   status = 0x007
	scQueueDeleted     status = 0x008
	scInvalidNamespace status = 0x00b
	scInvalidPRP       status = 0x013
	scAtomicExceeded   status = 0x014
	scProtected        status = 0x020
	scInterrupted      status = 0x021
	scTransport        status = 0x022
	scRange            status = 0x080
	scFull             status = 0x081
	scNotReady         status = 0x082
	scFormatting       status = 0x084
	scReadOnlyRange    status = 0x182
	scWriteFault       status = 0x280
	scReadError        status = 0x281
	scGuard            status = 0x282
	scApplicationTag   status = 0x283
	scReferenceTag     status = 0x284
	scCompare          status = 0x285
	scAccessDenied     status = 0x286
	scDeallocated      status = 0x287

	typePath status = 0x300 // path related
)

// Error says in which way the controller refused a command.
func (s status) Error() string {
	retry := ""
	if s&statusDoNotRetry != 0 {
		retry = ", do not retry"
	}
	return fmt.Sprintf("NVMe status %#03x%s", uint16(s&statusCodeMask), retry)
}

// code returns type and code.
func (s status) code() status { return s & statusCodeMask }

// cause returns the error of blk that a status means. A command that the driver
// aborted because it hung ends with ErrDevice; ErrAborted is for those whose owner
// wished it.
func (s status) cause() error {
	switch s.code() {
	case scInvalidOpcode, scInvalidField, scAtomicExceeded:
		return blk.ErrUnsupported
	case scInvalidNamespace:
		return blk.ErrRemoved
	case scProtected, scReadOnlyRange:
		return blk.ErrProtected
	case scRange:
		return blk.ErrRange
	case scFull:
		return blk.ErrFull
	case scWriteFault, scReadError, scGuard, scApplicationTag, scReferenceTag, scAccessDenied, scDeallocated:
		return blk.ErrMedium
	case scCompare:
		return blk.ErrMiscompare
	default:
		return blk.ErrDevice
	}
}

// err returns what a request that ended with a status gets.
func (s status) err() error { return fmt.Errorf("%w: %w", s.cause(), s) }

// patience is how often, and how, a status is tried again.
type patience uint8

const (
	never     patience = iota
	once               // the medium may read at the second attempt
	soon               // at once, then later and later
	afterWait          // the cause needs time to go away
)

// patience tells whether a command that ended with a status is worth another try.
func (s status) patience() patience {
	if s&statusDoNotRetry != 0 {
		return never
	}
	switch s.code() {
	case scWriteFault, scReadError:
		return once
	case scTransferError, scPowerLoss, scInternal, scAbortRequested, scQueueDeleted, scInterrupted, scTransport:
		return soon
	case scNotReady, scFormatting:
		return afterWait
	default:
	}
	if s&0x700 == typePath {
		return soon
	}
	return never
}

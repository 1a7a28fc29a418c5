package hv

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"keel/hcl/abi/hv"
	"keel/hcl/sys"
	"keel/vtl/irq"
)

// The hypercalls that exist.
var (
	callFlush       = shape{fixed: hv.FLUSH_SIZE, flush: true, run: flushSpace}
	callFlushList   = shape{fixed: hv.FLUSH_SIZE, rep: hv.FLUSH_RANGE_SIZE, flush: true, run: flushList}
	callFlushEx     = shape{fixed: hv.FLUSH_EX_SIZE, variable: true, flush: true, run: flushSpaceEx}
	callFlushListEx = shape{fixed: hv.FLUSH_EX_SIZE, rep: hv.FLUSH_RANGE_SIZE, variable: true, flush: true, run: flushListEx}
	callSpin        = shape{fixed: hv.SPIN_SIZE, run: spin}
	callIPI         = shape{fixed: hv.IPI_SIZE, run: sendIPI}
	callIPIEx       = shape{fixed: hv.IPI_EX_SIZE, variable: true, run: sendIPIEx}
	callPost        = shape{fixed: hv.POST_SIZE, run: postMessage}
	callSignal      = shape{fixed: hv.SIGNAL_SIZE, run: signalEvent}
)

// shape finds a hypercall by its code; nil when there is none.
func (h *Hypervisor) shape(code uint16) *shape {
	var s *shape
	switch code {
	case hv.HvCallFlushVirtualAddressSpace:
		s = &callFlush
	case hv.HvCallFlushVirtualAddressList:
		s = &callFlushList
	case hv.HvCallFlushVirtualAddressSpaceEx:
		s = &callFlushEx
	case hv.HvCallFlushVirtualAddressListEx:
		s = &callFlushListEx
	case hv.HvCallNotifyLongSpinWait:
		s = &callSpin
	case hv.HvCallSendSyntheticClusterIpi:
		s = &callIPI
	case hv.HvCallSendSyntheticClusterIpiEx:
		s = &callIPIEx
	case hv.HvCallPostMessage:
		s = &callPost
	case hv.HvCallSignalEvent:
		s = &callSignal
	}
	if s != nil && s.flush && h.config.TLB == nil {
		return nil
	}
	return s
}

// postMessage is HvCallPostMessage.
func postMessage(h *Hypervisor, v *vp, _ *call, input []byte) Status {
	connection := binary.LittleEndian.Uint32(input[hv.POST_CONNECTION:])
	reserved := binary.LittleEndian.Uint32(input[hv.POST_CONNECTION+4:])
	kind := binary.LittleEndian.Uint32(input[hv.POST_TYPE:])
	n := binary.LittleEndian.Uint32(input[hv.POST_LENGTH:])
	if reserved != 0 || kind == hv.HvMessageTypeNone || kind&hv.HV_MESSAGE_TYPE_HYPERVISOR_MASK != 0 ||
		n > hv.HV_MESSAGE_PAYLOAD_BYTE_COUNT {
		return hv.HV_STATUS_INVALID_PARAMETER
	}
	ports := h.ports.Load()
	if ports == nil || connection&hv.CONNECTION_ID_RESERVED != 0 {
		return hv.HV_STATUS_INVALID_CONNECTION_ID
	}
	// A copy of its own: the input is written over by the next hypercall.
	return (*ports).PostMessage(v.index, connection, kind, slices.Clone(input[hv.POST_PAYLOAD:hv.POST_PAYLOAD+n]))
}

// signalEvent is HvCallSignalEvent.
func signalEvent(h *Hypervisor, v *vp, _ *call, input []byte) Status {
	connection := binary.LittleEndian.Uint32(input[hv.SIGNAL_CONNECTION:])
	if binary.LittleEndian.Uint16(input[hv.SIGNAL_RESERVED:]) != 0 {
		return hv.HV_STATUS_INVALID_PARAMETER
	}
	ports := h.ports.Load()
	if ports == nil || connection&hv.CONNECTION_ID_RESERVED != 0 {
		return hv.HV_STATUS_INVALID_CONNECTION_ID
	}
	return (*ports).SignalEvent(v.index, connection, binary.LittleEndian.Uint16(input[hv.SIGNAL_FLAG:]))
}

// spin is HvCallNotifyLongSpinWait: the lock's holder may wait for this CPU.
func spin(*Hypervisor, *vp, *call, []byte) Status {
	sys.Yield()
	return hv.HV_STATUS_SUCCESS
}

// sendIPI is HvCallSendSyntheticClusterIpi.
func sendIPI(h *Hypervisor, _ *vp, _ *call, input []byte) Status {
	return h.raise(input, VPSet(binary.LittleEndian.Uint64(input[hv.IPI_MASK:])))
}

// sendIPIEx is HvCallSendSyntheticClusterIpiEx.
func sendIPIEx(h *Hypervisor, _ *vp, c *call, input []byte) Status {
	set, status := h.parseSet(input[hv.IPI_EX_SIZE-hv.VP_SET_SIZE:], c.variable)
	if status != hv.HV_STATUS_SUCCESS {
		return status
	}
	return h.raise(input, set)
}

// Values of HV_INPUT_VTL that mean the only virtual trust level there is.
const (
	vtlOfCaller = 0
	vtlZero     = 1 << 4
)

// raise sends the interrupt that the head of the input describes.
func (h *Hypervisor) raise(input []byte, set VPSet) Status {
	vector := binary.LittleEndian.Uint32(input[hv.IPI_VECTOR:])
	level := input[hv.IPI_TARGET_VTL]
	if vector < hv.SINT_FIRST_VECTOR || vector > 0xFF || level != vtlOfCaller && level != vtlZero {
		return hv.HV_STATUS_INVALID_PARAMETER
	}
	for set &= h.all(); set != 0; set &= set - 1 {
		h.config.Interrupts.Raise(bits.TrailingZeros64(uint64(set)), irq.Vector(vector))
		h.stats.ipis.Add(1)
	}
	return hv.HV_STATUS_SUCCESS
}

// flushSpace is HvCallFlushVirtualAddressSpace.
func flushSpace(h *Hypervisor, v *vp, _ *call, input []byte) Status {
	return h.flush(v, input, VPSet(binary.LittleEndian.Uint64(input[hv.FLUSH_MASK:])), hv.HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY)
}

// flushList is HvCallFlushVirtualAddressList.
func flushList(h *Hypervisor, v *vp, _ *call, input []byte) Status {
	return h.flush(v, input, VPSet(binary.LittleEndian.Uint64(input[hv.FLUSH_MASK:])), 0)
}

// flushSpaceEx is HvCallFlushVirtualAddressSpaceEx.
func flushSpaceEx(h *Hypervisor, v *vp, c *call, input []byte) Status {
	set, status := h.parseSet(input[hv.FLUSH_MASK:], c.variable)
	if status != hv.HV_STATUS_SUCCESS {
		return status
	}
	return h.flush(v, input, set, hv.HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY)
}

// flushListEx is HvCallFlushVirtualAddressListEx.
func flushListEx(h *Hypervisor, v *vp, c *call, input []byte) Status {
	set, status := h.parseSet(input[hv.FLUSH_MASK:], c.variable)
	if status != hv.HV_STATUS_SUCCESS {
		return status
	}
	return h.flush(v, input, set, 0)
}

// flush flushes everything on every VP of the set, whatever address space and ranges
// were asked for: more than that is always allowed. allowed are the flags of the
// call beside those that all calls have.
func (h *Hypervisor) flush(v *vp, input []byte, set VPSet, allowed uint64) Status {
	flags := binary.LittleEndian.Uint64(input[hv.FLUSH_FLAGS:])
	if flags&^(allowed|hv.HV_FLUSH_ALL_PROCESSORS|hv.HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES) != 0 {
		return hv.HV_STATUS_INVALID_PARAMETER
	}
	if flags&hv.HV_FLUSH_ALL_PROCESSORS != 0 {
		set = h.all()
	}
	h.stats.flushes.Add(1)
	if set &= h.all(); set != 0 {
		h.config.TLB.FlushTLB(v.index, set)
	}
	return hv.HV_STATUS_SUCCESS
}

// parseSet reads a set of VPs whose banks take so many bytes (TLFS HV_VP_SET). VPs
// that do not exist are left out.
func (h *Hypervisor) parseSet(p []byte, banks int) (VPSet, Status) {
	switch binary.LittleEndian.Uint64(p[hv.VP_SET_FORMAT:]) {
	case hv.HV_GENERIC_SET_ALL:
		return h.all(), hv.HV_STATUS_SUCCESS
	case hv.HV_GENERIC_SET_SPARSE_4K:
	default:
		return 0, hv.HV_STATUS_INVALID_PARAMETER
	}
	valid := binary.LittleEndian.Uint64(p[hv.VP_SET_BANKS:])
	if bits.OnesCount64(valid)*8 != banks {
		return 0, hv.HV_STATUS_INVALID_HYPERCALL_INPUT
	}
	if valid&1 == 0 {
		return 0, hv.HV_STATUS_SUCCESS
	}
	return VPSet(binary.LittleEndian.Uint64(p[hv.VP_SET_SIZE:])) & h.all(), hv.HV_STATUS_SUCCESS
}

package pcihost

import (
	"encoding/binary"

	"keel/hcl/abi/x86"
)

// bridge is function 00:00.0. All of it is read-only: there is nothing to set.
type bridge struct{ config [256]byte }

func newBridge(ecam x86.GPA) *bridge {
	b := &bridge{}
	le := binary.LittleEndian
	le.PutUint16(b.config[cfgVendor:], bridgeVendor)
	le.PutUint16(b.config[cfgDevice:], bridgeDevice)
	le.PutUint16(b.config[cfgCommand:], bridgeCommand)
	le.PutUint32(b.config[cfgClass:], bridgeClass)
	le.PutUint64(b.config[cfgECAM:], uint64(ecam)|ecamEnable)
	return b
}

// ReadConfig reads the header; the extended space is empty.
func (b *bridge) ReadConfig(offset uint16, size int) uint32 {
	var v uint32
	if int(offset)+size > len(b.config) {
		return v
	}
	for i := range size {
		v |= uint32(b.config[int(offset)+i]) << (8 * i)
	}
	return v
}

// WriteConfig ignores the write.
func (b *bridge) WriteConfig(uint16, int, uint32) {}

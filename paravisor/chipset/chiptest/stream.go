// Package chiptest drives chips in tests: it plays byte-coded streams of guest
// accesses, which is what the fuzz targets of the chips feed on.
package chiptest

import (
	"encoding/binary"

	"keel/vtl/bus"
	"keel/vtl/irq"
)

// stepSize is the length of one encoded access: operation, offset, 32-bit value.
const stepSize = 6

// Window is a device with the length of the range that it is mapped at.
type Window struct {
	Device bus.PIODevice
	Length uint16
}

// Play decodes data into accesses and performs them: reads and writes of every
// size at every offset that the size allows, and steps of the clock of up to
// about 4 s. Trailing bytes that form no full step are ignored.
func Play(data []byte, clock *irq.ManualClock, windows ...Window) {
	for ; len(data) >= stepSize; data = data[stepSize:] {
		op, value := data[0], binary.LittleEndian.Uint32(data[2:])
		if op&7 == 7 {
			clock.Advance(int64(value))
			continue
		}
		w := windows[int(op>>4)%len(windows)]
		size := 1 << (op >> 1 & 3 % 3)
		if size > int(w.Length) {
			size = 1
		}
		offset := uint16(int(data[1]) % (int(w.Length) - size + 1))
		if op&1 == 0 {
			w.Device.ReadPIO(offset, size)
		} else {
			w.Device.WritePIO(offset, size, value)
		}
	}
}

// Write appends the encoding of a byte write to a stream, for seeds.
func Write(stream []byte, window int, offset, value uint8) []byte {
	return append(stream, 1|uint8(window)<<4, offset, value, 0, 0, 0)
}

// Advance appends the encoding of a step of the clock, in nanoseconds.
func Advance(stream []byte, d uint32) []byte {
	return binary.LittleEndian.AppendUint32(append(stream, 7, 0), d)
}

package gdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// PacketSize is the longest packet, in bytes of its data.
const PacketSize = 4096

// Bytes of the protocol with a meaning of their own.
const (
	packetStart  = '$'
	packetEnd    = '#'
	packetEscape = '}'
	packetRepeat = '*'
	escapeMask   = 0x20
	ack          = '+'
	nack         = '-'
	interrupt    = 0x03 // Ctrl-C
)

// errPacket says that what a client sends is no packet.
var errPacket = errors.New("malformed packet")

// kind is what has come from a client.
type kind uint8

const (
	kindPacket    kind = iota
	kindDamaged        // a packet with a wrong checksum
	kindNack           // the client has not understood the last reply
	kindInterrupt      // the client wants the guest to stop
)

// received is one thing that has come.
type received struct {
	kind kind
	data string // of a packet, without escapes
}

// next reads the next thing that means something.
func next(r *bufio.Reader) (received, error) {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return received{}, err
		}
		switch b {
		case packetStart:
			return readPacket(r)
		case nack:
			return received{kind: kindNack}, nil
		case interrupt:
			return received{kind: kindInterrupt}, nil
		case ack:
		default:
			return received{}, fmt.Errorf("%w: %#x between packets", errPacket, b)
		}
	}
}

// readPacket reads a packet behind its start.
func readPacket(r *bufio.Reader) (received, error) {
	data := make([]byte, 0, 64)
	sum, escaped := byte(0), false
	for {
		b, err := r.ReadByte()
		if err != nil {
			return received{}, unexpected(err)
		}
		if b == packetEnd {
			break
		}
		sum += b
		switch {
		case len(data) == PacketSize:
			return received{}, fmt.Errorf("%w: longer than %d bytes", errPacket, PacketSize)
		case escaped:
			data, escaped = append(data, b^escapeMask), false
		case b == packetEscape:
			escaped = true
		default:
			data = append(data, b)
		}
	}
	var digits [2]byte
	if _, err := io.ReadFull(r, digits[:]); err != nil {
		return received{}, unexpected(err)
	}
	if want, ok := number(string(digits[:])); !ok || byte(want) != sum || escaped {
		return received{kind: kindDamaged}, nil
	}
	return received{kind: kindPacket, data: string(data)}, nil
}

// unexpected is the error of an end within a packet.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame makes a packet of data.
func frame(data string) []byte {
	out := make([]byte, 0, len(data)+4)
	out = append(out, packetStart)
	sum := byte(0)
	for _, b := range []byte(data) {
		switch b {
		case packetStart, packetEnd, packetEscape, packetRepeat:
			sum += packetEscape
			out = append(out, packetEscape)
			b ^= escapeMask
		}
		sum += b
		out = append(out, b)
	}
	return fmt.Appendf(out, "%c%02x", packetEnd, sum)
}

// number reads hexadecimal digits, and nothing else.
func number(s string) (n uint64, ok bool) {
	if len(s) == 0 || len(s) > 16 {
		return 0, false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | uint64(c)
	}
	return n, true
}

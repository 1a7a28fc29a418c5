// Package durable is the format in which a guest writes numbered blocks, and the
// judgement on an image after its machine was killed: no write that the guest
// called durable may be missing.
//
// A job owns a region of the disk with a number of slots. It writes its blocks 1, 2,
// 3 … into slots in a scattered order and begins again when all are used. A line on
// the console says up to which number all its blocks are durable, because they
// were written with FUA or have been flushed.
package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

// Geometry. Every sector of a block describes itself: a block that was being
// written when the machine died may hold sectors of two writes.
const (
	BlockSize  = 4096
	sectorSize = 512
	MaxJobs    = 64
	MaxSlots   = 1 << 20
)

// Marks on the console: a start, and "ack JOB NUMBER".
const (
	MarkStart = "KEEL-DURABLE start"
	markAck   = "KEEL-DURABLE ack "
)

const magic = 0x4b45454c44555241 // "KEELDURA"

// Offsets in a sector; the bytes between are filler.
const (
	offMagic  = 0
	offJob    = 8
	offSector = 12
	offSeq    = 16
	offFiller = 24
	offCRC    = sectorSize - 4
)

var table = crc32.MakeTable(crc32.Castagnoli)

// ErrLost says that an image lacks what was acknowledged.
var ErrLost = errors.New("durable data lost")

// Layout is where jobs write.
type Layout struct {
	Jobs  int // 1 to MaxJobs
	Slots int // of each job; a power of two up to MaxSlots
}

// Check returns an error that says what is wrong with the layout.
func (l Layout) Check() error {
	if l.Jobs < 1 || l.Jobs > MaxJobs || l.Slots < 1 || l.Slots > MaxSlots || l.Slots&(l.Slots-1) != 0 {
		return fmt.Errorf("%d jobs with %d slots: want 1 to %d, and a power of two up to %d", l.Jobs, l.Slots, MaxJobs, MaxSlots)
	}
	return nil
}

// Bytes returns the size of the part of the disk that is used.
func (l Layout) Bytes() int64 { return int64(l.Jobs) * int64(l.Slots) * BlockSize }

// Offset returns where a job's block number seq goes, in bytes.
func (l Layout) Offset(job int, seq uint64) int64 {
	return (int64(job)*int64(l.Slots) + l.slot(seq)) * BlockSize
}

// slot scatters: an odd factor permutes the numbers below a power of two.
func (l Layout) slot(seq uint64) int64 { return int64(seq * 0x9e3779b1 % uint64(l.Slots)) }

// Fill makes buf, of BlockSize bytes, a job's block number seq.
func Fill(buf []byte, job int, seq uint64) {
	for i := range BlockSize / sectorSize {
		s := buf[i*sectorSize : (i+1)*sectorSize]
		binary.LittleEndian.PutUint64(s[offMagic:], magic)
		binary.LittleEndian.PutUint32(s[offJob:], uint32(job))
		binary.LittleEndian.PutUint32(s[offSector:], uint32(i))
		binary.LittleEndian.PutUint64(s[offSeq:], seq)
		x := seq<<16 | uint64(job)<<8 | uint64(i)
		for at := offFiller; at < offCRC; at += 4 {
			x = x*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator
			binary.LittleEndian.PutUint32(s[at:], uint32(x>>32))
		}
		binary.LittleEndian.PutUint32(s[offCRC:], crc32.Checksum(s[:offCRC], table))
	}
}

// AckLine returns the console line that calls a job's blocks up to seq durable.
func AckLine(job int, seq uint64) string { return fmt.Sprintf("%s%d %d\n", markAck, job, seq) }

// Acks returns the last number that the console acknowledges for each job. A line
// that the end of the machine cut short does not count.
func Acks(console string, jobs int) []uint64 {
	acks := make([]uint64, jobs)
	for line := range strings.Lines(console) {
		rest, ok := strings.CutPrefix(line, markAck)
		f := strings.Fields(rest)
		if !ok || !strings.HasSuffix(line, "\n") || len(f) != 2 {
			continue
		}
		job, err := strconv.Atoi(f[0])
		seq, err2 := strconv.ParseUint(f[1], 10, 64)
		if err != nil || err2 != nil || job < 0 || job >= jobs {
			continue
		}
		acks[job] = max(acks[job], seq)
	}
	return acks
}

// Verify reads an image and returns ErrLost, with every slot at fault up to a few,
// unless each slot holds the last acknowledged block that went there or a later one.
func Verify(image io.ReaderAt, l Layout, acks []uint64) error {
	if err := l.Check(); err != nil {
		return err
	}
	const most = 8
	var lost []error
	buf := make([]byte, BlockSize)
	for job, acked := range acks[:min(len(acks), l.Jobs)] {
		for seq := acked; seq > 0 && seq+uint64(l.Slots) > acked; seq-- {
			if _, err := image.ReadAt(buf, l.Offset(job, seq)); err != nil {
				return err
			}
			if err := l.holds(buf, job, seq); err != nil {
				lost = append(lost, fmt.Errorf("job %d block %d of %d at %d: %w", job, seq, acked, l.Offset(job, seq), err))
			}
			if len(lost) == most {
				return fmt.Errorf("%w: %w", ErrLost, errors.Join(lost...))
			}
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("%w: %w", ErrLost, errors.Join(lost...))
	}
	return nil
}

// holds checks that every sector of a block belongs to number seq or to a later one
// of the same slot.
func (l Layout) holds(block []byte, job int, seq uint64) error {
	for i := range BlockSize / sectorSize {
		s := block[i*sectorSize : (i+1)*sectorSize]
		switch got := binary.LittleEndian.Uint64(s[offSeq:]); {
		case binary.LittleEndian.Uint64(s[offMagic:]) != magic:
			return fmt.Errorf("sector %d was never written", i)
		case crc32.Checksum(s[:offCRC], table) != binary.LittleEndian.Uint32(s[offCRC:]):
			return fmt.Errorf("sector %d is damaged", i)
		case binary.LittleEndian.Uint32(s[offJob:]) != uint32(job) || binary.LittleEndian.Uint32(s[offSector:]) != uint32(i):
			return fmt.Errorf("sector %d belongs elsewhere", i)
		case got < seq || l.slot(got) != l.slot(seq):
			return fmt.Errorf("sector %d has number %d", i, got)
		}
	}
	return nil
}

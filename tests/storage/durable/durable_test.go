package durable

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// image is a disk in memory on which jobs have written up to the given numbers.
func image(l Layout, written ...uint64) []byte {
	disk := make([]byte, l.Bytes())
	for job, last := range written {
		for seq := uint64(1); seq <= last; seq++ {
			at := l.Offset(job, seq)
			Fill(disk[at:at+BlockSize], job, seq)
		}
	}
	return disk
}

func TestSlotsAreAPermutation(t *testing.T) {
	for _, slots := range []int{1, 2, 1024} {
		l := Layout{Jobs: 2, Slots: slots}
		seen := map[int64]bool{}
		for job := range l.Jobs {
			for seq := range uint64(slots) {
				at := l.Offset(job, seq+1)
				if seen[at] || at%BlockSize != 0 || at < 0 || at >= l.Bytes() {
					t.Fatalf("%d slots: job %d block %d lies at %d", slots, job, seq, at)
				}
				seen[at] = true
			}
		}
	}
}

func TestVerify(t *testing.T) {
	l := Layout{Jobs: 2, Slots: 16}
	tests := []struct {
		name           string
		written, acked []uint64
		damage         func(disk []byte)
		want           string // part of the error, "" for none
	}{
		{"nothing acknowledged", []uint64{0, 0}, []uint64{0, 0}, nil, ""},
		{"all there", []uint64{7, 40}, []uint64{7, 40}, nil, ""},
		{"more than acknowledged", []uint64{9, 45}, []uint64{7, 40}, nil, ""},
		{"the last is missing", []uint64{6, 40}, []uint64{7, 40}, nil, "job 0 block 7"},
		{"an old one of a slot", []uint64{7, 23}, []uint64{7, 24}, nil, "has number 8"},
		{"a damaged byte", []uint64{7, 40}, []uint64{7, 40}, func(d []byte) { d[l.Offset(1, 33)+1000] ^= 1 }, "sector 1 is damaged"},
		{"a block of another slot", []uint64{7, 40}, []uint64{7, 40}, func(d []byte) {
			at := l.Offset(1, 33)
			Fill(d[at:at+BlockSize], 1, 34)
		}, "has number 34"},
		{"a block of another job", []uint64{7, 40}, []uint64{7, 40}, func(d []byte) {
			at := l.Offset(1, 33)
			Fill(d[at:at+BlockSize], 0, 33)
		}, "belongs elsewhere"},
		{"half of a later write", []uint64{7, 40}, []uint64{7, 40}, func(d []byte) {
			at, later := l.Offset(1, 40), make([]byte, BlockSize)
			Fill(later, 1, 56)
			copy(d[at:], later[:3*sectorSize])
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			disk := image(l, tt.written...)
			if tt.damage != nil {
				tt.damage(disk)
			}
			err := Verify(bytes.NewReader(disk), l, tt.acked)
			if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, ErrLost) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if err := Verify(bytes.NewReader(nil), Layout{Jobs: 1, Slots: 3}, nil); err == nil {
		t.Error("a layout with three slots was taken")
	}
}

func TestAcks(t *testing.T) {
	console := "noise\r\n" + strings.ReplaceAll(AckLine(0, 3)+AckLine(1, 9)+AckLine(0, 12), "\n", "\r\n") +
		"KEEL-DURABLE ack 7 1\n" + "KEEL-DURABLE ack x 1\n" + "KEEL-DURABLE ack 1 99"
	if got := Acks(console, 2); !slices.Equal(got, []uint64{12, 9}) {
		t.Errorf("acknowledged %v", got)
	}
}

func FuzzAcks(f *testing.F) {
	f.Add(AckLine(1, 5), uint8(2))
	f.Fuzz(func(t *testing.T, console string, jobs uint8) {
		if got := Acks(console, int(jobs)); len(got) != int(jobs) {
			t.Errorf("%d jobs have %d acknowledgements", jobs, len(got))
		}
	})
}

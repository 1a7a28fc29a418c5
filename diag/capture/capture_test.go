package capture_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keel/diag/capture"
	"keel/diag/pcapng"
	"keel/translate/blk"
	"keel/translate/meter"
	"keel/translate/tap"
)

// sources are a disk and its controller.
var sources = []capture.Source{{Name: "virtio-scsi.0", Description: "a disk"}, {Name: "virtio-scsi.0/0", NVMe: true}}

// rig is a ring whose records become a file.
type rig struct {
	t    *testing.T
	ring *tap.Ring
	taps [2]*tap.Tap
	file bytes.Buffer
	w    *capture.Writer
}

func newRig(t *testing.T, snap int) *rig {
	t.Helper()
	r := &rig{t: t, ring: tap.New(len(sources), snap)}
	r.taps = [2]*tap.Tap{r.ring.Tap(0), r.ring.Tap(1)}
	var err error
	if r.w, err = capture.NewWriter(&r.file, "test", time.Now(), sources); err != nil {
		t.Fatal(err)
	}
	return r
}

func raw(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// scsi adds a command and its end, 2 ms later.
func (r *rig) scsi(cdb string, c, end tap.Record, out, in []byte) {
	r.t.Helper()
	c.Kind, c.Time, c.Length = tap.SCSICommand, meter.Now(), 16
	copy(c.Bytes[:], raw(r.t, cdb))
	r.taps[0].Command(&c, []blk.Segment{{Data: out}})
	end.Kind, end.Time, end.Tag, end.LUN = tap.SCSIStatus, c.Time+2*time.Millisecond, c.Tag, c.LUN
	r.taps[0].End(&end, []blk.Segment{{Data: in}}, end.In)
}

// nvme adds a command of a queue and its completion.
func (r *rig) nvme(queue uint16, opcode byte, lba uint64, blocks, status uint16) {
	c := tap.Record{Kind: tap.NVMeCommand, Time: meter.Now(), Length: 64, Queue: queue}
	le := binary.LittleEndian
	c.Bytes[0] = opcode
	le.PutUint16(c.Bytes[2:], 0x1234)
	le.PutUint32(c.Bytes[4:], 1)
	le.PutUint64(c.Bytes[24:], 0x12345000)
	le.PutUint64(c.Bytes[40:], lba)
	le.PutUint16(c.Bytes[48:], blocks-1)
	r.taps[1].Command(&c, nil)
	end := tap.Record{Kind: tap.NVMeCompletion, Time: c.Time + time.Millisecond, Length: 16, Queue: queue}
	le.PutUint16(end.Bytes[10:], queue)
	le.PutUint16(end.Bytes[12:], 0x1234)
	le.PutUint16(end.Bytes[14:], status<<1)
	r.taps[1].End(&end, nil, 0)
}

// take writes what there is into the file.
func (r *rig) take() tap.Batch {
	r.t.Helper()
	var b tap.Batch
	r.ring.Take(&b)
	if err := r.w.Write(&b); err != nil {
		r.t.Fatal(err)
	}
	if err := r.w.Statistics(b.Counts, time.Now()); err != nil {
		r.t.Fatal(err)
	}
	return b
}

// tshark writes the file and returns a line of fields for each packet that a filter lets
// through, with commas between the fields.
func (r *rig) tshark(filter string, fields ...string) []string {
	r.t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		r.t.Fatal("tshark is missing: apt-get install tshark")
	}
	r.take()
	path := filepath.Join(r.t.TempDir(), "test.pcapng")
	if err := os.WriteFile(path, r.file.Bytes(), 0o600); err != nil {
		r.t.Fatal(err)
	}
	args := []string{"-r", path, "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-Y", filter, "-T", "fields", "-E", "separator=,"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+r.t.TempDir()) // nobody's settings
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("%v: %s", err, said.String())
	}
	if len(out) == 0 {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	for i, l := range lines {
		lines[i] = plain(l)
	}
	return lines
}

// plain writes the numbers of a line of fields as Go does, whatever tshark likes better.
func plain(line string) string {
	fields := strings.Split(line, ",")
	for i, f := range fields {
		if n, err := strconv.ParseUint(f, 0, 64); err == nil {
			fields[i] = strconv.FormatUint(n, 10)
		} else if n, err := strconv.ParseFloat(f, 64); err == nil {
			fields[i] = strconv.FormatFloat(n, 'g', -1, 64)
		}
	}
	return strings.Join(fields, ",")
}

func (r *rig) want(got []string, want ...string) {
	r.t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("tshark says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// good is the end of a command that did what it was asked for.
var good = tap.Record{Ended: true}

func TestSCSI(t *testing.T) {
	r := newRig(t, 0)
	r.scsi("2800 00001234 00 0008 00", tap.Record{LUN: 3, In: 4096}, good, nil, nil)
	r.scsi("8a00 0000000123456789 00000010 00 00", tap.Record{LUN: 3, Out: 8192}, good, make([]byte, 8192), nil)
	r.scsi("3500 00000000 00 0000 00", tap.Record{}, good, nil, nil)
	r.scsi("0000 0000 0000", tap.Record{}, good, nil, nil)
	sense := tap.Record{Ended: true, Status: 0x02, Length: 18, Residual: 512}
	copy(sense.Bytes[:], raw(t, "7000 0300 0000 000a 00000000 1100 0000 0000"))
	r.scsi("2800 00001234 00 0001 00", tap.Record{In: 512}, sense, nil, nil)
	r.scsi("2800 00001234 00 0001 00", tap.Record{In: 1 << 30}, tap.Record{Status: 0x40, Residual: 1 << 30}, nil, nil)
	r.want(r.tshark("scsi", "scsi_sbc.opcode", "scsi_sbc.rdwr10.lba", "scsi_sbc.rdwr10.xferlen", "iscsi.scsicommand.R", "iscsi.scsicommand.W", "iscsi.scsicommand.expecteddatatransferlength"),
		"40,4660,8,1,0,4096", "40,,,,,", "138,,,0,1,8192", "138,,,,,", "53,0,0,0,0,0", "53,,,,,", "0,,,0,0,0", "0,,,,,", "40,4660,1,1,0,512", ",,,,,", "40,4660,1,1,0,16777215", "40,,,,,")
	r.want(r.tshark("iscsi.opcode == 0x21", "scsi.lun", "iscsi.scsiresponse.status", "iscsi.scsiresponse.response", "scsi.sns.ascascq", "iscsi.time", "tcp.srcport", "frame.interface_name"),
		"3,0,0,,0.002,3260,virtio-scsi.0", "3,0,0,,0.002,3260,virtio-scsi.0", "0,0,0,,0.002,3260,virtio-scsi.0", "0,0,0,,0.002,3260,virtio-scsi.0",
		"0,2,0,4352,0.002,3260,virtio-scsi.0", "0,64,1,,0.002,3260,virtio-scsi.0")
}

func TestData(t *testing.T) {
	r := newRig(t, 6)
	r.scsi("2a00 00000010 00 0001 00", tap.Record{Out: 512}, good, bytes.Repeat([]byte("out"), 100), nil)
	r.scsi("2800 00000010 00 0001 00", tap.Record{In: 512}, tap.Record{Ended: true, In: 512}, nil, bytes.Repeat([]byte("in."), 100))
	r.scsi("2800 00000010 00 0001 00", tap.Record{In: 5}, tap.Record{Ended: true, In: 5}, nil, []byte("short"))
	r.want(r.tshark("scsi", "iscsi.opcode", "iscsi.datasegmentlength", "iscsi.request_frame"),
		"1,6,", "33,0,1", "1,0,", "37,6,3", "33,0,3", "1,0,", "37,5,6", "33,0,6")
	for i, want := range []string{"outout\x00\x00", "in.in.\x00\x00", "short\x00\x00\x00"} {
		got := r.tshark("iscsi.datasegmentlength > 0", "tcp.payload")
		if payload := hex.EncodeToString([]byte(want)); len(got) != 3 || len(got[i]) != 2*48+len(payload) || !strings.HasSuffix(got[i], payload) {
			t.Errorf("%q, want %s at the end of packet %d", got, payload, i)
		}
	}
}

func TestNVMe(t *testing.T) {
	r := newRig(t, 6)
	r.nvme(1, 2, 0x1234, 8, 0)
	r.nvme(2, 1, 0x10, 1, 0x281)
	r.nvme(1, 0, 0, 1, 0)
	r.nvme(1, 9, 0, 1, 0)
	r.want(r.tshark("nvme", "nvme.cmd.opc", "nvme.cmd.slba", "nvme.cmd.nlb", "nvme.cqe.status.sc", "nvme.cqe.status.sct", "nvme.cmd_latency", "tcp.stream", "frame.interface_name"),
		"2,4660,8,,,,0,virtio-scsi.0/0", ",,,0,0,1,0,virtio-scsi.0/0",
		"1,16,1,,,,1,virtio-scsi.0/0", ",,,129,2,1,1,virtio-scsi.0/0",
		"0,,,,,,0,virtio-scsi.0/0", ",,,0,0,1,0,virtio-scsi.0/0",
		"9,,,,,,0,virtio-scsi.0/0", ",,,0,0,1,0,virtio-scsi.0/0")
}

// TestNothingIsOdd: what experts would remark on is not there, checksums included.
func TestNothingIsOdd(t *testing.T) {
	r := newRig(t, 7)
	for i := range 20 {
		r.scsi("2a00 00000010 00 0001 00", tap.Record{Out: 512}, good, make([]byte, i), nil)
		r.scsi("2800 00000010 00 0001 00", tap.Record{In: 512}, tap.Record{Ended: true, In: uint64(i)}, nil, make([]byte, i))
		r.nvme(uint16(i%3+1), 2, 5, 1, 0)
	}
	if odd := r.tshark("_ws.expert or !(iscsi or nvme)", "frame.number", "_ws.expert.message"); len(odd) > 0 {
		t.Errorf("tshark remarks\n%s", strings.Join(odd, "\n"))
	}
}

// TestLost: what found no room is in the statistics of its interface.
func TestLost(t *testing.T) {
	r := newRig(t, 0)
	lost := 0
	for range 3000 {
		if !r.taps[1].Command(&tap.Record{Kind: tap.NVMeCommand, Length: 64}, nil) {
			lost++
		}
	}
	r.take()
	blocks, err := pcapng.Split(r.file.Bytes())
	if err != nil || lost == 0 {
		t.Fatalf("%d lost; %v", lost, err)
	}
	packets := 0
	for _, b := range blocks {
		if b.Kind == pcapng.BlockPacket {
			packets++
		}
	}
	last := blocks[len(blocks)-1]
	want := binary.LittleEndian.AppendUint64([]byte{4, 0, 8, 0}, 3000)
	want = binary.LittleEndian.AppendUint64(append(want, 5, 0, 8, 0), uint64(lost))
	if packets+lost != 3000 || last.Kind != pcapng.BlockStatistics || last.Body[0] != 1 || !bytes.Contains(last.Body, want) {
		t.Errorf("%d packets, %d lost; last block %+v", packets, lost, last)
	}
}
